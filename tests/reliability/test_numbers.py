"""Numbers that go wrong: strange scenes give right figures or one line, by every program."""

import functools
import itertools
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import A2S2KResNet.A2S2KResNet
import baselines.SVM
import SSRN.SSRN
from common.reporting.page import write_page
from common.run.cli import main, run_script
from common.samples.patches import Patches

FAULT = "strange numbers in a scene"
HOW = (
    "NaN, infinite, huge, saturated or constant values, missing and tiny classes, scenes of one "
    "row or smaller than a patch: right figures or one line"
)
PROGRAMS: dict[str, Callable[[list[str]], int]] = {
    "SSRN": functools.partial(main, SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS),
    "A2S2KResNet": functools.partial(
        main, A2S2KResNet.A2S2KResNet.A2S2KResNet, A2S2KResNet.A2S2KResNet.DEFAULTS
    ),
    "SVM": functools.partial(run_script, baselines.SVM.SVM, baselines.SVM.DEFAULTS),
}


@pytest.fixture(autouse=True)
def small_grid(monkeypatch):
    """Let the SVM search 4 pairs of C and gamma rather than 54."""
    monkeypatch.setattr(baselines.SVM, "C", (10, 1000))
    monkeypatch.setattr(baselines.SVM, "GAMMA", (0.003, 0.03))


QUICK = ["-e", "1", "-k", "2", "--device", "cpu", "--precision", "fp32"]
STRIPES = np.indices((12, 10))[0] // 4 + 1  # three classes of 40 pixels


def cube_of(labels: np.ndarray, bands: int = 8) -> np.ndarray:
    """Whole numbers from 1 to 4000, of a spectrum per class and some noise."""
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(labels.max() + 1, bands))
    noise = 0.2 * generator.normal(size=(*labels.shape, bands))
    return (1500 + 300 * (spectra[labels] + noise)).clip(1, 4000).astype(np.int16)


CUBE = cube_of(STRIPES)


def with_value(value: float, *places: tuple[int, int, int], dtype: type = np.float64) -> np.ndarray:
    cube = CUBE.astype(dtype)
    for place in places:
        cube[place] = value
    return cube


def run(
    program: str, folder: Path, cube: np.ndarray, labels: np.ndarray, more: str = "", *flags: str
) -> tuple[int, Path]:
    """Train and test on a scene with lines `more` in its file; return exit status and results."""
    np.save(folder / "cube.npy", cube)
    np.save(folder / "truth.npy", labels)
    text = f"name: Field\ncube: cube.npy\nground_truth: truth.npy\n{more}"
    (folder / "field.yaml").write_text(text, "utf-8")
    out = folder / f"out of {program}"
    arguments = ["-d", str(folder / "field.yaml"), "-i", "1", "--out", str(out), *flags]
    return PROGRAMS[program](arguments + QUICK * (program != "SVM")), out


def figures(out: Path) -> dict:
    """Read ``report.json`` and check its figures against each other and the split."""
    report = json.loads((out / "report.json").read_text("utf-8"))
    confusion, split = np.array(report["confusion"][0]), report["split"]
    assert confusion.sum() == split["test"] > 0
    assert confusion.sum(axis=1).tolist() == split["test_per_class"][0]
    assert report["oa"] == [np.trace(confusion) / confusion.sum()]
    for correct, pixels, share in zip(
        confusion.diagonal(), confusion.sum(axis=1), report["per_class"][0], strict=True
    ):
        assert share == (correct / pixels if pixels else None)
    assert all(0 <= value <= 1 for value in (*report["aa"], *report["aa_users"]))
    assert all(-1 <= value <= 1 for value in report["kappa"])
    return report


def relabelled(label: int, *pixels: tuple[int, int]) -> np.ndarray:
    labels = STRIPES.copy()
    for pixel in pixels:
        labels[pixel] = label
    return labels


def rectangle(rows: int, cols: int, *flags: str, bands: int = 8) -> tuple:
    labels = np.arange(rows * cols).reshape(rows, cols) % 3 + 1
    return cube_of(labels, bands), labels, "", *flags


ONLY_SECOND_TESTED = np.where(STRIPES == 2, 2, 0)
ONLY_SECOND_TESTED[0, :3] = 1
SATURATED = (16 * CUBE.astype(np.int64)).clip(0, 65_535).astype(np.uint16)
SATURATED[:4, :, :5] = SATURATED[5, 5] = 65_535
ABSENT = "classes: [Rye, Oats, Maize, Wheat]\n"
# What works: cube, labels, lines of the scene file, flags.
USABLE: dict[str, tuple] = {
    "pixels of NaN": (with_value(np.nan, (3, 4, 5)), STRIPES, "nodata: nan\n"),
    "infinite pixels": (with_value(np.inf, (3, 4, 5)), STRIPES, "nodata: .inf\n"),
    "pixels of the least float": (
        with_value(np.finfo(np.float32).min, (0, 0), (3, 4, 5), dtype=np.float32),
        STRIPES,
        "nodata: -3.4028234663852886e+38\n",
    ),
    "constant band": (with_value(7, np.s_[:, :, 4]), STRIPES),
    "saturated values": (SATURATED, STRIPES),
    "a huge value that is none": (with_value(1e30, (3, 4, 5)), STRIPES, "nodata: 1e30\n"),
    "one huge value, insisted on": (with_value(1e30, (3, 4, 5)), STRIPES, "nodata: null\n"),
    "huge values": (CUBE * 1e30, STRIPES),
    "largest values": (CUBE * 1e96, STRIPES),
    "small values": (CUBE * 1e-90, STRIPES),
    "class of one pixel": (CUBE, relabelled(4, (0, 0))),
    "class of two pixels": (CUBE, relabelled(4, (0, 0), (5, 5))),
    "class without pixels": (CUBE, STRIPES, ABSENT),
    "class without pixels between": (CUBE, np.where(STRIPES == 2, 4, STRIPES), ABSENT),
    "labels as floats": (CUBE, STRIPES.astype(np.float32)),
    "scene of one row": rectangle(1, 60),
    "scene of one column": rectangle(60, 1, "--split", "disjoint", "-p", "2"),
    "patches wider than the rows": rectangle(4, 12, "-p", "9"),
    "patches wider than the scene": rectangle(6, 6, "-p", "5"),
    "seven bands": rectangle(12, 10, bands=7),
}  # fmt: skip


@pytest.mark.parametrize("name", USABLE)
def test_usable_scenes(name, tmp_path, capsys, often, tried):
    programs = list(PROGRAMS)[: often(1, 3)]
    for program in programs:
        with warnings.catch_warnings(action="error", category=RuntimeWarning):
            status, out = run(program, tmp_path, *USABLE[name])
        assert status == 0, capsys.readouterr().err
        report = figures(out)
        confidence = out / "run_0" / "confidence.npy"
        if program != "SVM":
            assert np.isfinite(np.load(confidence)[np.load(out / "run_0" / "map.npy") > 0]).all()
        elif name not in ("small values",):
            assert report["oa"][0] > 0.9  # the spectra tell the classes apart
    tried(FAULT, HOW, len(programs))


NOT_ONE = with_value(np.nan, (3, 4, 5), (3, 4, 6), (11, 0, 0))
NOT_ONE[1, 1, 1] = np.inf
REFUSED: dict[str, tuple] = {
    "cube.npy: 3 NaN, 1 infinite values in 3 pixels of rows 0 to 11, first inf at row 1, column 1, "
    "band 1; replace them, or write 'nodata: inf'": (NOT_ONE, STRIPES),
    "1 infinite values in 1 pixels": (NOT_ONE, STRIPES, "nodata: nan\n"),
    "960 NaN values in 120 pixels": (CUBE * np.nan, STRIPES),
    "fewer than 2 classes; check 'nodata'": (CUBE * np.nan, STRIPES, "nodata: nan\n"),
    "1 beyond 1e+100 values in 1 pixels": (with_value(1e101, (3, 4, 5)), STRIPES),
    "cube.npy: 1 values in 1 pixels are more than 100,000 times as large as others, first 1e+30 at "
    "row 3, column 4, band 5; write 'nodata: 1e+30'": (with_value(1e30, (3, 4, 5)), STRIPES),
    "cube.npy: all labelled pixels have the same spectrum": (np.full_like(CUBE, 7), STRIPES),
    "have the same spectrum; nothing to learn": (CUBE * 1e-200, STRIPES),
    "ground truth labels fewer than two classes; nothing to learn": (CUBE, 0 * STRIPES),
    "truth.npy: ground truth labels fewer than two": (CUBE, np.minimum(STRIPES, 1)),
    "labels fewer than two classes; nothing": (CUBE[:1, :1], STRIPES[:1, :1]),
    "the ground truth holds fractions": (CUBE, STRIPES + 0.5),
    "if that means unlabelled, write": (CUBE, np.where(STRIPES == 1, np.nan, STRIPES)),
    "use a larger -vs": (CUBE, STRIPES, "", "-vs", "0.1"),
    "label more than 6 pixels of each class": rectangle(3, 3),
    "cube.npy: the cube is 12×10, not rows × cols": (CUBE[:, :, 0], STRIPES),
    "cube.npy: 6 bands; the networks need at least 7": rectangle(12, 10, bands=6),
}  # fmt: skip
BY_NETWORKS = {
    "-p 12: patches wider than the scene, 4×12 pixels": rectangle(4, 12, "-p", "12"),
    "-p 6: patches wider than the scene, 6×6 pixels": rectangle(6, 6, "-p", "6"),
}


def test_unusable_scenes(tmp_path, capsys, tried):
    times = 0
    for program in PROGRAMS:
        for message, scene in (REFUSED | (BY_NETWORKS if program != "SVM" else {})).items():
            status, out = run(program, tmp_path, *scene)
            line = capsys.readouterr().err
            assert (status, line.count("\n"), out.exists()) == (2, 1, False), line
            assert message in line
            times += 1
    tried(FAULT, HOW, times)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_type_of_numbers_does_not_matter(program, tmp_path, tried):
    types = [">u2", np.int16, np.int64, np.float32, ">f8"]
    found = []
    for number, dtype in enumerate(types):
        (tmp_path / f"{number}").mkdir()
        status, out = run(program, tmp_path / f"{number}", CUBE.astype(dtype), STRIPES)
        assert status == 0
        names = ["map.npy"] + ["weights.pt", "confidence.npy"] * (program != "SVM")
        found.append([_values(out / "run_0" / name) for name in names])
    for first, other in itertools.pairwise(found):
        assert all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    tried(FAULT, HOW, len(types))


def _values(path: Path) -> np.ndarray:
    if path.suffix == ".npy":
        return np.nan_to_num(np.load(path), nan=-1)
    state = torch.load(path, weights_only=True)["state"]
    return torch.cat([tensor.flatten().double() for tensor in state.values()]).numpy()


def test_only_one_class_is_tested_and_found(tmp_path, tried):
    """Kappa is 0 / 0 then: null in report.json, said in the text and on the page."""
    status, out = run("SVM", tmp_path, CUBE.reshape(1, 120, 8), ONLY_SECOND_TESTED.reshape(1, 120))
    assert status == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert (report["oa"], report["kappa"], report["kappa_mean"]) == ([1.0], [None], None)
    assert "undefined" in (out / "report.txt").read_text("utf-8")
    with warnings.catch_warnings(action="error"):  # which would stand on stderr
        write_page(out)
    assert "undefined" in (out / "report.html").read_text("utf-8")
    tried(FAULT, HOW, 1)


def test_pixels_outside_the_scene_are_zero_however_large_the_patch():
    cube = CUBE[:4].astype(np.float32)
    for p in (2, 5, 9):
        padded = np.pad(cube, [(p, p), (p, p), (0, 0)])
        patches = Patches.of_cube(cube, p, torch.device("cpu")).gather(torch.arange(40))
        for pixel in range(40):
            row, col = divmod(pixel, 10)
            expected = padded[row : row + 2 * p + 1, col : col + 2 * p + 1]
            np.testing.assert_array_equal(patches[pixel, 0], expected)


def test_mapping_a_scene_in_other_units(tmp_path, capsys, tried):
    """What overflows in the network is told; no class is made of it."""
    _, trained = run("SSRN", tmp_path, CUBE, STRIPES)
    values = [1e45, 1e60, 1e99]
    for value in values:
        np.save(tmp_path / "other.npy", with_value(value, (3, 4, 5)))
        (tmp_path / "other.yaml").write_text(
            "name: Other\ncube: other.npy\nnodata: null\n", "utf-8"
        )
        weights, out = trained / "run_0" / "weights.pt", tmp_path / f"{value}"
        flags = ["-d", f"{tmp_path / 'other.yaml'}", "--weights", f"{weights}", "--out", f"{out}"]
        capsys.readouterr()
        assert PROGRAMS["SSRN"]([*flags, "--device", "cpu", "--precision", "fp32"]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert "other.npy: values too far from those that the network was trained on" in line
        assert not (out / "report.json").exists() and not (out / "run_0" / "map.npy").exists()
    tried(FAULT, HOW, len(values))
