"""Own scenes end to end: trained by a scene file, mapped without ground truth, in row blocks."""

import json
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import torch

import common.run.map_scene
from common.run.cli import main
from common.scenes.array_file import open_array
from common.system.files import REPOSITORY
from tests.conftest import toy_labels
from tests.run.test_scripts import SCRIPTS, read_report
from tests.scenes.test_array_file import save_envi, save_geotiff, save_v73

SCENE = """
name: Toy field
cube: {path: field.mat, variable: cube}
ground_truth: {path: field.mat, variable: truth}
classes: [Rye, Oats, Wheat, Barley, Maize]
colours: ["#ff0000", "#00ff00", "#0000ff", "#ffff00", "#ffffff"]
nodata: 0
"""
OTHER = "name: Other field\ncube: {path}\n"
WAVELENGTHS = np.linspace(400, 990, 60).tolist()
EMPTY = np.s_[8:11, 3:30]  # labelled pixels without data


def run(model, folder, dataset, out, *flags) -> int:
    flags = ["-d", str(folder / dataset), "--out", str(out), "--precision", "fp32", *flags]
    return main(*SCRIPTS[model], flags)


def toy_cube() -> np.ndarray:
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(6, 60))
    labels = toy_labels()
    cube = spectra[labels] + 0.3 * generator.normal(size=(*labels.shape, 60))
    cube = (1000 + 100 * cube).astype(np.uint16)
    cube[EMPTY] = 0
    return cube


@pytest.fixture(scope="module", params=SCRIPTS)
def trained(request, tmp_path_factory):
    """A network, and the folder with its scene and results."""
    folder = tmp_path_factory.mktemp(request.param)
    scipy.io.savemat(folder / "field.mat", {"cube": toy_cube(), "truth": toy_labels()})
    (folder / "field.yaml").write_text(f"{SCENE}wavelengths: {WAVELENGTHS}\n", "utf-8")
    flags = ["-e", "6", "-i", "1", "-p", "2", "-k", "8", "-vs", "0.7", "--lr", "3e-3"]
    assert run(request.param, folder, "field.yaml", folder / "out", *flags) == 0
    assert use(request.param, folder, "field.yaml", folder / "all", "--map", "all") == 0
    return request.param, folder


def use(model, folder, dataset, out, *flags) -> int:
    weights = folder / "out" / "run_0" / "weights.pt"
    return run(model, folder, dataset, out, "--weights", str(weights), *flags)


def map_and_confidence(out):
    return np.load(out / "run_0" / "map.npy"), np.load(out / "run_0" / "confidence.npy")


def unlabelled(folder, name, save, array=None, more=""):
    """Write a scene without ground truth in some format."""
    save(folder / name, toy_cube() if array is None else array)
    text = f"{OTHER.format(path=name)}nodata: 0\n{more}"
    (folder / "other.yaml").write_text(text, "utf-8")
    return "other.yaml"


def test_training_on_a_scene_of_ones_own(trained):
    model, folder = trained
    report = read_report(folder / "out")
    assert (report["model"], report["dataset"]) == (model, "Toy_field")
    assert report["scene_name"] == "Toy field"
    assert report["class_names"] == ["Rye", "Oats", "Wheat", "Barley", "Maize"]
    assert report["class_colours"][0] == "#ff0000"
    labels = toy_labels()
    labels[EMPTY] = 0
    counts = [report["split"][part] for part in ("train", "val", "test")]
    assert sum(counts) == np.count_nonzero(labels)
    np.testing.assert_array_equal(np.load(folder / "out" / "gt.npy"), labels)
    label_map, confidence = map_and_confidence(folder / "out")
    np.testing.assert_array_equal(label_map > 0, labels > 0)
    np.testing.assert_array_equal(np.isfinite(confidence), labels > 0)
    drawn = np.load(folder / "out" / "run_0" / "split.npy")
    assert [np.count_nonzero(drawn == value) for value in (1, 2, 3)] == counts
    content = torch.load(folder / "out" / "run_0" / "weights.pt", weights_only=True)
    assert content["wavelengths"] == pytest.approx(WAVELENGTHS)


def test_weights_test_on_the_pixels_they_never_saw(trained):
    _, folder = trained
    assert read_report(folder / "all")["confusion"] == read_report(folder / "out")["confusion"]
    label_map, confidence = map_and_confidence(folder / "all")
    empty = np.zeros(label_map.shape, bool)
    empty[EMPTY] = True
    np.testing.assert_array_equal(label_map == 0, empty)
    assert len(np.unique(label_map)) == 6  # else equal maps would say little
    np.testing.assert_array_equal(np.isnan(confidence), empty)
    assert confidence[~empty].min() > 1 / 5
    drawn = [np.load(folder / out / "run_0" / "split.npy") for out in ("all", "out")]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("rows", [1, 2, 3, 5])
def test_row_blocks_give_the_map_of_one_block(trained, tmp_path, monkeypatch, rows):
    model, folder = trained
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", rows * 36 * 60 + 7)
    assert use(model, folder, "field.yaml", tmp_path / "out", "--map", "all") == 0
    (label_map, confidence), whole = map(map_and_confidence, (tmp_path / "out", folder / "all"))
    np.testing.assert_array_equal(label_map, whole[0])
    np.testing.assert_allclose(confidence, whole[1], atol=1e-5)
    assert read_report(tmp_path / "out")["confusion"] == read_report(folder / "all")["confusion"]


SAVE = {
    "other.npy": np.save,
    "other.tif": save_geotiff,
    "other.img": lambda path, array: save_envi(
        path,
        array,
        interleave="bil",
        metadata={"map info": "{UTM, 1, 1, 500000, 5000000, 10, 10, 33, North, WGS-84}"},
    ),
    "V73.MAT": save_v73,
}
WRITTEN = {"other.tif": ["map.tif", "map.tif.aux.xml"], "other.img": ["map.hdr", "map.img"]}


@pytest.mark.parametrize("name", SAVE)
def test_a_scene_without_ground_truth_is_mapped(trained, tmp_path, monkeypatch, name, capsys):
    model, folder = trained
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", 7 * 36 * 60)
    scene, out = unlabelled(folder, name, SAVE[name]), tmp_path / "out"
    if name == "V73.MAT":
        text = (folder / scene).read_text("utf-8")
        (folder / scene).write_text(
            text.replace(name, f"{{path: {name}, variable: array}}"), "utf-8"
        )
    assert use(model, folder, scene, out) == 0
    label_map, _ = map_and_confidence(out)
    np.testing.assert_array_equal(label_map, map_and_confidence(folder / "all")[0])
    assert not (out / "gt.png").exists()
    assert not (out / "run_0" / "split.npy").exists()

    report = read_report(out)
    assert (report["oa"], report["oa_mean"], report["confusion"]) == ([], None, [])
    assert report["mapped_per_class"] == np.bincount(label_map.flat, minlength=6)[1:].tolist()
    assert report["class_names"][0] == "Rye"
    assert "no ground truth: mapped only" in (out / "report.txt").read_text("utf-8")
    assert "Barley" in capsys.readouterr().out

    written = sorted(path.name for path in (out / "run_0").glob("map.[thi]*"))
    assert written == WRITTEN.get(name, [])
    if written:
        file = open_array(out / "run_0" / written[0])
        np.testing.assert_array_equal(file.read(), label_map)
        assert file.georeference == open_array(folder / name).georeference is not None


def refused(trained, tmp_path, capsys, scene, *flags):
    model, folder = trained
    capsys.readouterr()
    assert use(model, folder, scene, tmp_path / "out", *flags) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out" / "report.json").exists()
    return line


def test_scenes_of_another_kind_are_refused(trained, tmp_path, capsys):
    _, folder = trained

    def message(array, more="", *flags):
        scene = unlabelled(folder, "wrong.npy", np.save, array, more)
        return refused(trained, tmp_path, capsys, scene, *flags)

    cube = toy_cube()
    few = message(cube[:, :, :50])
    assert "weights.pt: trained on 60 bands and 5 classes, but Other field has 50 bands" in few
    assert "write 'axes: [bands, rows, cols]'" in message(np.moveaxis(cube, 2, 0))
    assert "write 'axes: [rows, bands, cols]'" in message(np.moveaxis(cube, 2, 1))
    shifted = [wavelength + 6 * (band == 7) for band, wavelength in enumerate(WAVELENGTHS)]
    at = message(cube, f"wavelengths: {shifted}")
    assert "band 7 was at 470 nm in training, but is at 476 nm in Other field; resample" in at
    assert "no ground truth to test on either" in message(cube, "", "--map", "none")
    assert "'wavelengths' lists 3, but the cube wrong.npy has 60" in message(
        cube, "wavelengths: [400, 500, 600]"
    )
    assert "patches wider" in message(cube[:2, :2])


def test_wavelengths_nearly_the_same_are_accepted(trained, tmp_path):
    model, folder = trained
    near = f"wavelengths: {[wavelength + 4 for wavelength in WAVELENGTHS]}"
    scene = unlabelled(folder, "near.npy", np.save, more=near)
    assert use(model, folder, scene, tmp_path / "out") == 0


def test_classes_must_be_those_of_the_network(trained, tmp_path, capsys):
    _, folder = trained
    text = SCENE.replace("Rye, Oats", "Oats, Rye")
    (folder / "order.yaml").write_text(text, "utf-8")
    message = refused(trained, tmp_path, capsys, "order.yaml")
    assert "the same classes in another order than Toy field has: Rye, Oats, Wheat" in message
    labels = toy_labels()
    labels[labels == 5] = 0
    scipy.io.savemat(folder / "few.mat", {"cube": toy_cube(), "truth": labels})
    text = "".join(line for line in SCENE.splitlines(True) if not line.startswith("c"))
    text += "cube: {path: few.mat, variable: cube}\n"
    (folder / "few.yaml").write_text(text.replace("field.mat", "few.mat"), "utf-8")
    message = refused(trained, tmp_path, capsys, "few.yaml")
    assert "but Toy field has 60 bands and 4 classes; name the network's classes" in message


def test_other_classes_are_refused(trained, tmp_path, capsys):
    _, folder = trained
    (folder / "others.yaml").write_text(SCENE.replace("Rye", "Rice"), "utf-8")
    message = refused(trained, tmp_path, capsys, "others.yaml")
    assert "trained on other classes than Toy field has: Rye, Oats, Wheat" in message


def test_own_scene_with_other_labels_tests_no_pixel_that_was_trained_on(trained, tmp_path):
    model, folder = trained
    labels = toy_labels()
    labels[labels == 2] = 0
    scipy.io.savemat(folder / "less.mat", {"cube": toy_cube(), "truth": labels})
    (folder / "less.yaml").write_text(SCENE.replace("field.mat", "less.mat"), "utf-8")
    assert use(model, folder, "less.yaml", tmp_path / "out") == 0
    before, now = (
        np.load(out / "run_0" / "split.npy") for out in (folder / "out", tmp_path / "out")
    )
    assert not np.isin(before[now == 3], (1, 2)).any()
    assert (now == 3).sum() > 0
    report = read_report(tmp_path / "out")
    assert report["split"]["test_patches_with_training_pixels"][0] > 0


def test_another_scene_has_no_split(trained, tmp_path):
    model, folder = trained
    (folder / "new.yaml").write_text(SCENE.replace("Toy field", "New field"), "utf-8")
    scipy.io.savemat(folder / "field2.mat", {"cube": toy_cube(), "truth": toy_labels()[::-1]})
    text = SCENE.replace("Toy field", "New field").replace("field.mat", "field2.mat")
    (folder / "new.yaml").write_text(text, "utf-8")
    assert use(model, folder, "new.yaml", tmp_path / "out") == 0
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert "split: none, all labelled pixels test" in text


def test_unstated_nodata_is_noticed_while_mapping(trained, tmp_path, monkeypatch, capsys):
    _, folder = trained
    cube = toy_cube().astype(np.int16)
    cube[30:32] = -9999
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", 4 * 36 * 60)
    np.save(folder / "hole.npy", cube)
    (folder / "hole.yaml").write_text(OTHER.format(path="hole.npy"), "utf-8")
    message = refused(trained, tmp_path, capsys, "hole.yaml")
    assert "hold the same negative number in all bands, as at row 30, column 0" in message
    assert "write 'nodata: -9999'" in message


def test_not_a_number_is_told_with_its_row_in_the_scene(trained, tmp_path, monkeypatch, capsys):
    _, folder = trained
    cube = toy_cube().astype(np.float32)
    cube[33, 5, 7] = np.nan
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", 4 * 36 * 60)
    scene = unlabelled(folder, "nan.npy", np.save, cube)
    message = refused(trained, tmp_path, capsys, scene)
    assert "first nan at row 33, column 5, band 7; replace" in message
    assert "write 'nodata: [0, nan]'" in message


def test_training_needs_ground_truth(trained, tmp_path, capsys):
    model, folder = trained
    scene = unlabelled(folder, "other.npy", np.save)
    assert run(model, folder, scene, tmp_path / "out") == 2
    assert "no ground_truth to train on, nor --split" in capsys.readouterr().err


@pytest.mark.parametrize("split", [["disjoint"], ["maps.mat:train", "maps.mat:test"]])
def test_splits_from_the_command_line(trained, tmp_path, monkeypatch, split, capsys):
    model, folder = trained
    train, test = toy_labels(), toy_labels()
    for part in (train, test):
        part[EMPTY] = 0
    train[:, 12:] = test[:, :13] = 0
    scipy.io.savemat(tmp_path / "maps.mat", {"train": train, "test": test})
    monkeypatch.chdir(tmp_path)
    flags = ["-e", "1", "-i", "1", "-p", "2", "-k", "4", "--split", *split]
    assert run(model, folder, "field.yaml", tmp_path / "out", *flags) == 0
    report = read_report(tmp_path / "out")
    assert report["settings"]["split"] == (split if len(split) == 2 else split[0])
    (share,) = report["split"]["test_patches_with_training_pixels"]
    assert (share == 0) == (split == ["disjoint"])
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert f"{100 * share:.1f} % of the test patches contain training pixels" in text


MEASURE = """
import resource, sys
from common.run.cli import main
from tests.run.test_scripts import SCRIPTS
assert main(*SCRIPTS["SSRN"], sys.argv[1:]) == 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def sparse_npy(path, shape):
    with open(path, "wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()


def sparse_envi(path, shape):
    rows, cols, bands = shape
    path.with_suffix(".hdr").write_text(
        f"ENVI\nsamples = {cols}\nlines = {rows}\nbands = {bands}\ndata type = 12\n"
        f"header offset = 0\ninterleave = bip\nbyte order = 0\n"
        f"map info = {{UTM, 1, 1, 500000, 5000000, 10, 10, 33, North, WGS-84}}\n",
        "utf-8",
    )
    path.write_bytes(b"")
    return 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="measures memory as Unix does")
@pytest.mark.parametrize(("name", "write"), [("a.npy", sparse_npy), ("a.img", sparse_envi)])
def test_memory_does_not_grow_with_the_scene(toy_data, tmp_path, name, write):
    flags = ["-d", "UP", "-e", "1", "-i", "1", "-p", "2", "-k", "4", "--data-dir", str(toy_data)]
    assert main(*SCRIPTS["SSRN"], [*flags, "--out", str(tmp_path / "out")]) == 0
    (tmp_path / "a.yaml").write_text(f"name: Long\ncube: {name}\nnodata: 0\n", "utf-8")
    weights = str(tmp_path / "out" / "run_0" / "weights.pt")
    strip, peak = np.tile(toy_cube()[:1], (1, 28, 1))[:, :1000], {}
    for rows in (4000, 30_000):  # 0.5 and 3.6 GB
        start = write(tmp_path / name, (rows, 1000, 60))
        with open(tmp_path / name, "r+b") as file:
            file.truncate(start + rows * 1000 * 60 * 2)
            file.seek(start + (rows - 1) * 1000 * 60 * 2)
            file.write(strip.astype("<u2").tobytes())  # the last row; all others hold no data
        flags = ["-d", str(tmp_path / "a.yaml"), "--weights", weights, "--overwrite"]
        flags += ["--probabilities"]
        command = [sys.executable, "-c", MEASURE, *flags, "--out", str(tmp_path / "mapped")]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peak[rows] = int(done.stdout.split()[-1])
        label_map = np.load(tmp_path / "mapped" / "run_0" / "map.npy", mmap_mode="r")
        assert label_map.shape == (rows, 1000)
        assert (label_map[-1] > 0).all()
        report = json.loads((tmp_path / "mapped" / "report.json").read_text("utf-8"))
        assert sum(report["mapped_per_class"]) == 1000
    assert peak[30_000] < peak[4000] + 200, peak  # MiB
