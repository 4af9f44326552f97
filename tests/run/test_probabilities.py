"""``--probabilities``: the softmax of all classes beside the map, at the scene's place too."""

from pathlib import Path

import numpy as np
import pytest

import common.run.map_scene
from A2S2KResNet import A2S2KResNet
from common.run.cli import main
from common.scenes.array_file import open_array
from SSRN import SSRN
from tests.conftest import toy_labels
from tests.run.test_map_scene import SAVE, toy_cube
from tests.run.test_scripts import read_report

MODELS = {"A2S2KResNet": A2S2KResNet, "SSRN": SSRN}
SHORT = ["-p", "2", "-k", "4", "-e", "2", "-i", "1", "--precision", "fp32"]
NAMES = ["Rye", "Oats", "Wheat", "Barley", "Maize"]
WRITTEN = {"other.npy": "probabilities.npy", "other.tif": "probabilities.tif"}
WRITTEN |= {"other.img": "probabilities.hdr"}


def run(model: str, folder: Path, out: Path, *flags: str) -> int:
    module = MODELS[model]
    where = ["-d", str(folder / "field.yaml"), "--out", str(out)]
    return main(getattr(module, model), module.DEFAULTS, [*where, *SHORT, *flags])


def scene(folder: Path, name: str) -> None:
    SAVE[name](folder / name, toy_cube())
    np.save(folder / "truth.npy", toy_labels())
    text = f"name: Field\ncube: {name}\nground_truth: truth.npy\nclasses: {NAMES}\nnodata: 0\n"
    (folder / "field.yaml").write_text(text.replace("'", ""), "utf-8")


@pytest.fixture(scope="module", params=MODELS)
def trained(request, tmp_path_factory):
    """A network, and the folder with its scene and results with probabilities and without."""
    folder = tmp_path_factory.mktemp(request.param)
    scene(folder, "other.tif")
    assert run(request.param, folder, folder / "without", "--map", "all") == 0
    assert run(request.param, folder, folder / "out", "--map", "all", "--probabilities") == 0
    return request.param, folder


def arrays(out: Path) -> list[np.ndarray]:
    names = ("map", "confidence", "probabilities")
    return [np.load(out / "run_0" / f"{name}.npy") for name in names]


def check(out: Path, classified: np.ndarray) -> None:
    """Probabilities add up to 1 and say what map and confidence say, and are 0 elsewhere."""
    label_map, confidence, probabilities = arrays(out)
    assert (probabilities.shape, probabilities.dtype) == ((40, 36, 5), np.float32)
    np.testing.assert_array_equal(probabilities.any(axis=2), classified)
    np.testing.assert_allclose(probabilities[classified].sum(axis=1), 1, atol=1e-5)
    labels = probabilities.argmax(axis=2) + 1
    np.testing.assert_array_equal(labels[classified], label_map[classified])
    np.testing.assert_array_equal(probabilities.max(axis=2)[classified], confidence[classified])
    np.testing.assert_array_equal(label_map > 0, classified)
    np.testing.assert_array_equal(np.isfinite(confidence), classified)


def test_training_leaves_them_beside_the_same_map(trained):
    _, folder = trained
    check(folder / "out", toy_cube().any(axis=2))
    for name in ("map.npy", "confidence.npy"):
        with_and_without = [folder / out / "run_0" / name for out in ("out", "without")]
        np.testing.assert_array_equal(*map(np.load, with_and_without))
    assert not list((folder / "without" / "run_0").glob("probabilities*"))
    figures = [read_report(folder / out)["confusion"] for out in ("out", "without")]
    assert figures[0] == figures[1]


def test_labelled_pixels_only(trained, tmp_path):
    model, folder = trained
    assert run(model, folder, tmp_path / "out", "--probabilities") == 0
    check(tmp_path / "out", (toy_labels() > 0) & toy_cube().any(axis=2))


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("wanted", ["all", "labelled"])
def test_weights_give_the_same_in_blocks_of_rows(trained, tmp_path, monkeypatch, rows, wanted):
    model, folder = trained
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", rows * 36 * 60)
    weights = ["--weights", str(folder / "out" / "run_0" / "weights.pt"), "--map", wanted]
    assert run(model, folder, tmp_path / "out", *weights, "--probabilities") == 0
    classified = toy_cube().any(axis=2)
    if wanted == "labelled":
        classified &= toy_labels() > 0
    check(tmp_path / "out", classified)
    found, expected = arrays(tmp_path / "out")[2], arrays(folder / "out")[2]
    np.testing.assert_allclose(found[classified], expected[classified], atol=1e-5)


@pytest.mark.parametrize("name", WRITTEN)
def test_at_the_scenes_place_bands_are_named_by_class(trained, tmp_path, name):
    rasterio = pytest.importorskip("rasterio")
    model, folder = trained
    scene(tmp_path, name)
    weights = ["--weights", str(folder / "out" / "run_0" / "weights.pt")]
    assert run(model, tmp_path, tmp_path / "out", *weights, "--probabilities") == 0
    run_0 = tmp_path / "out" / "run_0"
    assert {path.name for path in run_0.glob("probabilities.[nth]*")} == {
        "probabilities.npy",
        WRITTEN[name],
    }
    if name == "other.npy":
        return
    file = open_array(run_0 / WRITTEN[name])
    np.testing.assert_array_equal(file.read(), np.load(run_0 / "probabilities.npy"))
    assert file.georeference == open_array(tmp_path / name).georeference is not None
    with rasterio.open(run_0 / WRITTEN[name].replace(".hdr", ".img")) as image:
        assert list(image.descriptions) == NAMES


def test_overwriting_removes_those_of_before(trained, tmp_path):
    model, folder = trained
    assert run(model, folder, tmp_path / "out", "--probabilities") == 0
    assert run(model, folder, tmp_path / "out", "--overwrite") == 0
    assert not list((tmp_path / "out" / "run_0").glob("probabilities*"))
