"""A scene that does not fit into memory is read by rows: the same checks, the same bits."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import torch

import common.run.experiment
import common.scenes.bands
import common.scenes.by_rows
import common.scenes.likely_fills
import common.scenes.nodata
from baselines import SVM
from common.run.cli import main, run_script
from common.samples.patches import Patches
from common.scenes.by_rows import pixel_blocks, spectra_of
from common.scenes.scene import Scene, load_scene
from common.system import memory
from common.system.errors import InputError
from common.system.files import REPOSITORY
from tests.conftest import toy_labels
from tests.results import bits
from tests.run.test_scripts import SCRIPTS

ROWS, COLS, BANDS = 40, 36, 60
CUBE = (
    1000
    + 100 * np.random.default_rng(0).normal(size=(6, BANDS))[toy_labels()]
    + 30 * np.random.default_rng(1).normal(size=(ROWS, COLS, BANDS))
).astype(np.float32)
SHORT = ["-e", "2", "-i", "1", "-p", "2", "-k", "4", "--precision", "fp32"]


@pytest.fixture
def by_rows(monkeypatch):
    """Let no scene fit into memory, and let blocks be of a few rows."""

    def set_up() -> None:
        monkeypatch.setattr(memory, "SHARE_OF_CUBE", 0)
        monkeypatch.setattr(common.scenes.by_rows, "VALUES_PER_READ", 3 * COLS * BANDS + 1)
        monkeypatch.setattr(common.scenes.nodata, "VALUES_PER_BLOCK", 7 * COLS * BANDS)
        monkeypatch.setattr(common.scenes.likely_fills, "VALUES_PER_BLOCK", 2 * COLS * BANDS)
        monkeypatch.setattr(common.scenes.bands, "PIXELS_PER_BLOCK", 50)
        monkeypatch.setattr(common.run.experiment, "VALUES_PER_BLOCK", 9 * COLS * BANDS)

    return set_up


def scene_file(folder, cube=CUBE, more="", labels=None):
    np.save(folder / "cube.npy", cube)
    np.save(folder / "truth.npy", toy_labels() if labels is None else labels)
    path = folder / "field.yaml"
    path.write_text(f"name: Field\ncube: cube.npy\nground_truth: truth.npy\n{more}\n", "utf-8")
    return str(path)


def with_hole(dtype=np.uint16) -> np.ndarray:
    cube = CUBE.astype(dtype)
    cube[8:11, 3:30], cube[30:] = 0, 0
    return cube


def trained(model: str, folder, out: str, *flags: str):
    """The bits of a run."""
    flags = ["-d", str(folder / "field.yaml"), *flags, "--out", str(folder / out)]
    if model == "SVM":
        assert run_script(SVM.SVM, SVM.DEFAULTS, ["-i", "1", *flags]) == 0
    else:
        assert main(*SCRIPTS[model], [*SHORT, *flags]) == 0
    return bits(folder / out)


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        ("A2S2KResNet", ["--map", "all"]),
        ("A2S2KResNet", ["--fit-on", "train", "--recipe", "fast"]),
        ("SSRN", ["--map", "all", "--probabilities"]),
        ("SVM", ["--map", "all"]),
        ("SVM", ["--input", "patch", "-p", "2"]),
    ],
)
def test_trains_to_the_same_bits(model, flags, tmp_path, by_rows):
    scene_file(tmp_path, with_hole(), "nodata: 0")
    in_memory = trained(model, tmp_path, "in memory", *flags)
    by_rows()
    found = trained(model, tmp_path, "by rows", *flags)
    assert found.keys() == in_memory.keys()
    different = {name for name in found if found[name] != in_memory[name]}
    if "--map" in flags:  # unlabelled pixels are in other batches, where sums may round otherwise
        different -= {"run_0/confidence.npy", "run_0/probabilities.npy"}
    assert not different
    for array in ("confidence.npy", "probabilities.npy"):
        of_both = [tmp_path / folder / "run_0" / array for folder in ("in memory", "by rows")]
        if of_both[0].is_file():
            np.testing.assert_allclose(*map(np.load, of_both), rtol=0, atol=1e-6)


def loaded(path: str) -> Scene | str:
    """The scene, or why it is refused."""
    try:
        return load_scene(path)
    except InputError as error:
        return str(error)


def changed(where, value, dtype=np.float32) -> np.ndarray:
    cube = CUBE.astype(dtype)
    cube[where] = value
    return cube


CUBES = {
    "as it is": CUBE,
    "16 bits": CUBE.astype(np.uint16),
    "stated": (with_hole(), "nodata: 0"),
    "bands of one value": changed(np.s_[..., [0, 7]], 3),
    "bands without data": (changed(np.s_[..., 20:23], np.nan), "nodata: .nan"),
    "a border that stands apart": changed(np.s_[:, :2], 65_535),
    "spectra of one number": changed(np.s_[33:, 4:], 0),
    "of several numbers": changed(np.s_[33:], np.arange(36)[:, None] % 3),
    "a negative number": changed(np.s_[12:14, 5], -9999),
    "wild values": changed(np.s_[20:, 30, 5:9], 1e20),
    "wild values in some bands": changed(np.s_[21], 9.97e36),
    "NaN": changed(np.s_[17, 20, 3], np.nan),
    "most labelled pixels without data": (changed(np.s_[:35, :, 9], -1), "nodata: -1"),
    "one spectrum": np.broadcast_to(CUBE[:1, :1], CUBE.shape),
    "scaled": (with_hole(np.int16), "nodata: 0\nignored_bands: [3-5]"),
}


@pytest.mark.parametrize("name", CUBES)
def test_says_the_same(name, tmp_path, by_rows):
    cube, more = CUBES[name] if isinstance(CUBES[name], tuple) else (CUBES[name], "")
    path = scene_file(tmp_path, cube, more)
    in_memory = loaded(path)
    by_rows()
    found = loaded(path)
    if isinstance(in_memory, str):
        assert found == in_memory
        return
    assert in_memory.is_in_memory and not found.is_in_memory
    for name in ("bands", "notes", "nodata", "rgb_bands", "class_names"):
        assert repr(getattr(found, name)) == repr(getattr(in_memory, name))  # nan is nan
    np.testing.assert_array_equal(found.labels, in_memory.labels)
    np.testing.assert_array_equal(found.read_rows(0, ROWS), in_memory.cube)


def test_some_cubes_are_refused_and_some_are_told_of(tmp_path):
    said = {}
    for name, cube in CUBES.items():
        cube, more = cube if isinstance(cube, tuple) else (cube, "")
        found = loaded(scene_file(tmp_path, cube, more))
        said[name] = found if isinstance(found, str) else found.notes
    refused = {name for name, what in said.items() if isinstance(what, str)}
    assert refused == {"a negative number", "wild values", "NaN", "one spectrum"} | {
        "wild values in some bands"
    }
    assert sum(bool(what) for what in said.values()) >= 10


def test_blocks_are_those_of_a_cube_in_memory(tmp_path, by_rows):
    scene_file(tmp_path)
    by_rows()
    scene = load_scene(str(tmp_path / "field.yaml"))
    for size in (1, 50, 1000, 5000):
        blocks = zip(pixel_blocks(scene.cube, size), pixel_blocks(CUBE, size), strict=True)
        for (start, block), (expected_start, expected) in blocks:
            assert start == expected_start
            np.testing.assert_array_equal(block, expected)
    pixels = np.random.default_rng(0).integers(0, ROWS * COLS, (7, 5))
    np.testing.assert_array_equal(spectra_of(scene.cube, pixels), spectra_of(CUBE, pixels))


def test_fitted_on_training_pixels_only_their_rows_are_read(tmp_path, by_rows):
    scene_file(tmp_path)
    by_rows()
    scene, read = load_scene(str(tmp_path / "field.yaml")), []

    class Recorded:
        shape, dtype = scene.cube.shape, scene.cube.dtype

        def read_rows(self, start, stop):
            read.append((start, stop))
            return scene.cube.read_rows(start, stop)

    wanted = np.zeros(ROWS * COLS, bool)
    wanted[[5 * COLS + 1, 20 * COLS]] = True
    list(pixel_blocks(Recorded(), COLS, wanted))
    assert read == [(5, 9), (20, 24)]


def test_only_what_patches_see_is_held():
    pixels, cpu = np.array([0, 20 * COLS + 7]), torch.device("cpu")
    patches = Patches.of_pixels(CUBE, pixels, 2, cpu, lambda block, first_row: block)
    assert patches.spectra.shape == (50, BANDS)
    found, expected = (
        p.gather(torch.from_numpy(pixels)) for p in (patches, Patches.of_cube(CUBE, 2, cpu))
    )
    assert (found == expected).all()


def test_a_file_that_cannot_be_read_by_rows_is_refused(tmp_path, monkeypatch):
    scipy.io.savemat(tmp_path / "cube.mat", {"cube": CUBE}, do_compression=True)
    monkeypatch.setattr(memory, "memory_of_machine", lambda: 1000)
    scene_file(tmp_path)
    path = tmp_path / "field.yaml"
    path.write_text(path.read_text("utf-8").replace("cube.npy", "cube.mat"), "utf-8")
    with pytest.raises(
        InputError, match=r"cube.mat: an array of 40×36×60 takes .*write it as .npy"
    ):
        load_scene(str(path))


SIDE = 5000  # pixels; with 200 bands in float32 20 GB
TRAIN = """
import sys
sys.path.insert(0, ".")
from common.system import memory

memory.memory_of_machine = lambda: 4 << 30  # whatever this one has
from A2S2KResNet.A2S2KResNet import DEFAULTS, A2S2KResNet
from common.run.cli import main

sys.exit(main(A2S2KResNet, DEFAULTS, sys.argv[1:]))
"""


@pytest.mark.slow
def test_20_gigabytes_within_2(tmp_path):
    """A training like that of Indian Pines, in a file of which nearly all is a hole."""
    cube = np.lib.format.open_memmap(
        tmp_path / "cube.npy", mode="w+", dtype=np.float32, shape=(SIDE, SIDE, 200)
    )
    labels = np.zeros((SIDE, SIDE), np.uint8)
    generator = np.random.default_rng(0)
    spectra = 1000 + 100 * generator.normal(size=(17, 200))
    places = [(100, 200), (SIDE // 2, SIDE // 3), (SIDE - 60, SIDE - 70)]
    for row, col in places:  # 57 × 59 labelled pixels each
        here = np.s_[row : row + 57, col : col + 59]
        labels[here] = 1 + np.arange(57 * 59).reshape(57, 59) // 40 % 16
        noise = 30 * generator.normal(size=(57, 59, 200))
        cube[here] = spectra[labels[here]] + noise
    del cube
    np.save(tmp_path / "truth.npy", labels)
    (tmp_path / "field.yaml").write_text(
        "name: Field\ncube: cube.npy\nground_truth: truth.npy\n", "utf-8"
    )
    assert 10_000 < np.count_nonzero(labels) < 10_200
    flags = ["-d", str(tmp_path / "field.yaml"), "-e", "2", "-i", "1"]
    command = [sys.executable, "-c", TRAIN, *flags, "--out", str(tmp_path / "out")]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["oa"][0] > 0.5
    assert report["peak_memory_mb"] < 2000
