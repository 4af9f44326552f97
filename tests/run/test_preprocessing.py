"""``--components`` and ``--fit-on``: what was fitted goes with the weights to maps and ONNX."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import common.run.map_scene
import common.training.checkpoint
from A2S2KResNet import A2S2KResNet
from common.run.cli import main
from common.run.export_command import main as export
from common.samples.preprocess import fit_pca_scaling
from common.scenes.scene import load_scene
from SSRN import SSRN
from tests.reporting.test_resume import Killed, killed_after
from tests.results import bits

MODELS = {"A2S2KResNet": A2S2KResNet, "SSRN": SSRN}
SHORT = ["-d", "UP", "-p", "2", "-k", "4", "-e", "2", "-i", "2", "--precision", "fp32"]
FLAGS = ["--components", "12", "--fit-on", "train"]


def run(model: str, toy_data: Path, out: Path, *flags: str) -> int:
    module = MODELS[model]
    where = ["--data-dir", str(toy_data), "--out", str(out)]
    return main(getattr(module, model), module.DEFAULTS, [*SHORT, *where, *flags])


def read_report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text("utf-8"))


def fitted(run_directory: Path) -> dict[str, torch.Tensor]:
    return torch.load(run_directory / "weights.pt", weights_only=True)["preprocessing"]


@pytest.fixture(scope="module", params=MODELS)
def results(request, toy_data, tmp_path_factory):
    """Two iterations of a network on 12 components of their own training pixels."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    assert run(request.param, toy_data, out, *FLAGS) == 0
    return request.param, out


def test_each_iteration_keeps_what_was_fitted_on_its_training_pixels(results, toy_data):
    _, out = results
    cube = load_scene("UP", str(toy_data)).cube
    for number in (0, 1):
        split = np.load(out / f"run_{number}" / "split.npy")
        expected, stored = fit_pca_scaling(cube, split == 1), fitted(out / f"run_{number}")
        np.testing.assert_array_equal(stored["mean"], expected.mean)
        np.testing.assert_array_equal(stored["matrix"], expected.matrix[:, :12])
    assert not torch.equal(fitted(out / "run_0")["mean"], fitted(out / "run_1")["mean"])


def test_the_report_says_what_was_fitted_on_what(results):
    _, out = results
    expected = {"kind": "pca", "components": 12, "fitted_on": "train"}
    assert read_report(out)["preprocessing"] == expected
    words = "PCA, 12 of 60 components, fitted on each iteration's training pixels only"
    line = f"preprocessing: {words}\n"
    assert line in (out / "report.txt").read_text("utf-8")


@pytest.mark.parametrize("rows", [3, 40])
def test_weights_map_with_what_they_were_trained_with(
    results, toy_data, tmp_path, monkeypatch, rows
):
    model, out = results
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", rows * 36 * 60)
    weights = ["--weights", str(out / "run_1" / "weights.pt"), "--map", "all"]
    assert run(model, toy_data, tmp_path / "again", *weights) == 0
    report = read_report(tmp_path / "again")
    assert report["confusion"] == [read_report(out)["confusion"][1]]
    assert report["preprocessing"] == read_report(out)["preprocessing"]
    text = (tmp_path / "again" / "report.txt").read_text("utf-8")
    assert "components, fitted on the network's training pixels only\n" in text
    labels = np.load(tmp_path / "again" / "gt.npy") > 0
    maps = [np.load(path / "map.npy") for path in (out / "run_1", tmp_path / "again" / "run_0")]
    np.testing.assert_array_equal(maps[0][labels], maps[1][labels])


def test_weights_of_another_layout_of_bands_are_refused(results, toy_data, tmp_path, capsys):
    model, out = results
    cube = scipy.io.loadmat(toy_data / "PaviaU.mat")["paviaU"]
    np.save(tmp_path / "few.npy", cube[..., :12])  # as many as there are components
    (tmp_path / "few.yaml").write_text("name: Few\ncube: few.npy\n", "utf-8")
    weights = ["--weights", str(out / "run_0" / "weights.pt"), "-d", str(tmp_path / "few.yaml")]
    assert run(model, toy_data, tmp_path / "out", *weights) == 2
    assert "trained on 60 bands and 9 classes, but Few has 12" in capsys.readouterr().err


def test_components_are_exported(results, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    _, out = results
    assert export([str(out / "run_0" / "weights.pt"), str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 1, 5, 5, 12]
    notes = session.get_modelmeta().custom_metadata_map
    stored = fitted(out / "run_0")
    for part in ("mean", "matrix"):
        np.testing.assert_array_equal(np.array(json.loads(notes[part])), stored[part])


def test_an_interrupted_run_goes_on_to_the_same_bits(results, toy_data, tmp_path, monkeypatch):
    model, out = results
    monkeypatch.setattr(common.training.checkpoint, "LARGEST_COST", 1e9)  # one after every epoch
    with monkeypatch.context() as patch:
        killed_after(3, patch, common.training.checkpoint, "write_file")  # in the second iteration
        with pytest.raises(Killed):
            run(model, toy_data, tmp_path / "out", *FLAGS)
    assert run(model, toy_data, tmp_path / "out", *FLAGS, "--resume") == 0
    assert bits(tmp_path / "out") == bits(out)


def test_another_preprocessing_does_not_go_on(results, toy_data, capsys):
    model, out = results
    for flags, message in {
        ("--components", "12"): "--resume: fit_on was train in",
        ("--components", "13", "--fit-on", "train"): "--resume: components was 12 in",
    }.items():
        assert run(model, toy_data, out, "--resume", *flags) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


def test_fewer_training_pixels_than_bands_are_told(toy_data, tmp_path):
    flags = ["--fit-on", "train", "--per-class", "4", "-i", "1", "-e", "1"]
    assert run("SSRN", toy_data, tmp_path / "out", *flags) == 0
    matrix = fitted(tmp_path / "out" / "run_0")["matrix"]
    assert (matrix != 0).any(dim=0).sum() == 19
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert "PCA of 20 pixels gives 19 of them, the others are 0\n" in text


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "PCA, all 60 components, fitted on the whole scene, test pixels included"),
        (["--preprocess", "none"], "none"),
        (
            ["--preprocess", "standardise", "--fit-on", "train"],
            "each band standardised, fitted on each iteration's training pixels only",
        ),
    ],
)
def test_in_words(flags, words, toy_data, tmp_path):
    assert run("SSRN", toy_data, tmp_path / "out", *flags, "-i", "1", "-e", "1") == 0
    assert f"preprocessing: {words}\n" in (tmp_path / "out" / "report.txt").read_text("utf-8")
