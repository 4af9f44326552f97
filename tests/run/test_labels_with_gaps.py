"""A scene whose labels have gaps, from training to the map of another scene."""

import json

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image

from baselines.SVM import DEFAULTS as SVM_DEFAULTS
from baselines.SVM import SVM
from common.reporting.map_figures import map_panels
from common.reporting.page import write_page
from common.reporting.read_results import read_outcome
from common.run.cli import main, run_script
from common.run.export import metadata
from common.training.weights_file import load_weights
from tests.conftest import toy_labels
from tests.run.test_map_scene import toy_cube
from tests.run.test_scripts import SCRIPTS, read_report
from tests.scenes.test_array_file import save_geotiff

LABELS = (1, 10, 11, 300, 70_000)  # too large for a byte, and for two
FILE_LABELS = np.array([0, *LABELS])[toy_labels()]
FLAGS = ["-i", "1", "-p", "2", "--out"]
NETWORK_FLAGS = ["-e", "2", "-k", "4", "-vs", "0.7", "--precision", "fp32", *FLAGS]
EMPTY = np.s_[8:11, 3:30]  # labelled pixels without data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the scene as GeoTIFF, a network trained on it, and an SVM."""
    folder = tmp_path_factory.mktemp("gaps")
    save_geotiff(folder / "cube.tif", toy_cube())
    np.save(folder / "truth.npy", FILE_LABELS)
    text = "name: Gaps\ncube: cube.tif\nground_truth: truth.npy\nnodata: 0\n"
    (folder / "gaps.yaml").write_text(text, "utf-8")
    train = ["-d", str(folder / "gaps.yaml"), *NETWORK_FLAGS, str(folder / "out")]
    assert main(*SCRIPTS["SSRN"], train) == 0
    svm = ["-d", str(folder / "gaps.yaml"), *FLAGS, str(folder / "svm")]
    assert run_script(SVM, SVM_DEFAULTS, svm) == 0
    return folder


@pytest.mark.parametrize("out", ["out", "svm"])
def test_what_is_written_holds_the_files_own_labels(folder, out):
    expected = FILE_LABELS.copy()
    expected[EMPTY] = 0
    truth = np.load(folder / out / "gt.npy")
    np.testing.assert_array_equal(truth, expected)
    assert truth.dtype == np.uint32
    label_map = np.load(folder / out / "run_0" / "map.npy")
    assert label_map.dtype == np.uint32
    assert set(np.unique(label_map)) <= {0, *LABELS}
    np.testing.assert_array_equal(label_map > 0, expected > 0)
    with rasterio.open(folder / out / "run_0" / "map.tif") as image:
        np.testing.assert_array_equal(image.read(1), label_map)
        assert image.tags(1)["class_70000"] == "class 70000"
    tested = np.load(folder / out / "run_0" / "split.npy") == 3
    report = read_report(folder / out)
    assert np.mean(label_map[tested] == expected[tested]) == pytest.approx(report["oa"][0])


def test_the_report_says_both(folder):
    report = read_report(folder / "out")
    assert report["labels"] == report["labels_in_maps"] == list(LABELS)
    assert report["class_names"] == [f"class {label}" for label in LABELS]
    assert len(report["confusion"][0]) == 5
    assert "\n300 class 300 " in (folder / "out" / "report.txt").read_text("utf-8")


def test_pictures_and_page_show_each_class_in_its_colour(folder):
    outcome = read_outcome(folder / "out")
    label_map = np.load(folder / "out" / "run_0" / "map.npy")
    picture = np.asarray(Image.open(folder / "out" / "run_0" / "map.png").convert("RGB"))
    panels = map_panels(outcome)
    for label, colour in zip(LABELS, outcome.colours, strict=True):
        rgb = tuple(bytes.fromhex(colour[1:]))
        assert (picture[label_map == label] == rgb).all()
        assert (panels["classification"][label_map == label] == rgb).all()
    write_page(folder / "out")
    assert ">70000<" in (folder / "out" / "report.html").read_text("utf-8").replace("\n", "")


def test_weights_map_a_scene_without_ground_truth_with_these_labels(folder):
    weights = str(folder / "out" / "run_0" / "weights.pt")
    assert torch.load(weights, weights_only=True)["labels"] == list(LABELS)
    notes = metadata(load_weights(folder / "out" / "run_0" / "weights.pt"))
    assert json.loads(notes["labels"]) == list(LABELS)
    (folder / "other.yaml").write_text("name: Other\ncube: cube.tif\nnodata: 0\n", "utf-8")
    use = ["-d", str(folder / "other.yaml"), "--weights", weights, "--precision", "fp32"]
    use += ["--out", str(folder / "other")]
    assert main(*SCRIPTS["SSRN"], use) == 0
    label_map, trained = (np.load(folder / out / "run_0" / "map.npy") for out in ("other", "out"))
    labelled = trained > 0
    np.testing.assert_array_equal(label_map[labelled], trained[labelled])
    assert read_report(folder / "other")["labels"] == list(LABELS)


def test_split_maps_hold_the_files_labels(folder, tmp_path):
    train, test = FILE_LABELS.copy(), FILE_LABELS.astype(float)
    train[:, 12:], test[:, :20] = 0, np.nan
    train[EMPTY], test[EMPTY] = 0, np.nan
    np.save(tmp_path / "train.npy", train)
    np.save(tmp_path / "test.npy", test)
    flags = ["-d", str(folder / "gaps.yaml"), "--split"]
    flags += [str(tmp_path / f"{name}.npy") for name in ("train", "test")]
    assert run_script(SVM, SVM_DEFAULTS, [*flags, *FLAGS, str(tmp_path / "out")]) == 0
    split = np.load(tmp_path / "out" / "run_0" / "split.npy")
    np.testing.assert_array_equal(split == 3, np.nan_to_num(test) > 0)


def test_a_run_goes_on_only_with_the_same_labels(folder, tmp_path, capsys):
    flags = ["-d", str(folder / "gaps.yaml"), *FLAGS, str(folder / "svm"), "--resume"]
    assert run_script(SVM, SVM_DEFAULTS, flags) == 0
    try:
        np.save(folder / "truth.npy", np.array([0, 1, 2, 3, 4, 5])[toy_labels()])
        assert run_script(SVM, SVM_DEFAULTS, flags) == 2
    finally:
        np.save(folder / "truth.npy", FILE_LABELS)
    assert "--resume: labels was [1, 10, 11, 300, 70000] in" in capsys.readouterr().err


def test_weights_of_labels_without_gaps_say_nothing_of_them(tmp_path, toy_data):
    flags = ["-d", "UP", "--data-dir", str(toy_data), *NETWORK_FLAGS, str(tmp_path / "out")]
    assert main(*SCRIPTS["SSRN"], flags) == 0
    path = tmp_path / "out" / "run_0" / "weights.pt"
    assert "labels" not in torch.load(path, weights_only=True)
    assert load_weights(path).labels == list(range(1, 10))
    assert np.load(tmp_path / "out" / "gt.npy").dtype == np.uint8
