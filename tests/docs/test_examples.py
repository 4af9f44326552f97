"""The examples in Python run: a network of one's own, and the networks from Python."""

import importlib.util
import json

import numpy as np

from common.run.cli import main
from common.run.study import read_study
from common.system.files import REPOSITORY
from common.training.weights_file import save_weights
from tests.docs.pages import blocks, page
from tests.run.test_export import toy_cube, toy_weights


def test_network_of_one_s_own_trains_and_is_used(tmp_path, toy_data, monkeypatch):
    (example,) = blocks(page("CONTRIBUTING.md"), "python")
    assert len(example.splitlines()) <= 40
    (tmp_path / "SpectralNet").mkdir()
    file = tmp_path / "SpectralNet" / "SpectralNet.py"
    file.write_text(example, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)  # undone with what the example adds
    spec = importlib.util.spec_from_file_location("SpectralNet", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    flags = ["-d", "UP", "--data-dir", str(toy_data), "--precision", "fp32"]
    training = ["-e", "2", "-i", "1", "-p", "2", "-k", "4", "--out", str(tmp_path / "trained")]
    assert main(module.SpectralNet, module.DEFAULTS, [*flags, *training]) == 0
    report = json.loads((tmp_path / "trained" / "report.json").read_text("utf-8"))
    assert report["model"] == "SpectralNet"
    assert report["epochs_run"] == [2]
    weights = ["--weights", str(tmp_path / "trained" / "run_0" / "weights.pt")]
    used = tmp_path / "used"
    assert main(module.SpectralNet, module.DEFAULTS, [*flags, *weights, "--out", str(used)]) == 0
    assert json.loads((used / "report.json").read_text("utf-8"))["oa"] == report["oa"]


def test_networks_from_python(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/demo/run_0").mkdir(parents=True)
    weights = toy_weights("paper")
    save_weights(tmp_path / "results/demo/run_0/weights.pt", weights)
    cube = toy_cube()
    np.save("cube.npy", cube)
    values = {}
    for example in blocks(page("docs/python.md"), "python"):
        exec(example, values)
    assert values["logits"].shape == (4, 16)
    assert values["labels"].shape == values["confidence"].shape == (10,)
    assert set(eval(capsys.readouterr().out)) <= set(weights.class_names)


def test_study_is_one_that_can_be_run(tmp_path):
    (example,) = blocks(page("docs/paper-tables.md"), "yaml")
    (tmp_path / "study.yaml").write_text(example, "utf-8")
    study = read_study(tmp_path / "study.yaml")
    assert {run.settings.model for run in study.runs} == {"A2S2KResNet", "SSRN"}
    assert all(run.settings.recipe == "fast" for run in study.runs)


def test_examples_are_short_lines():
    for name in ("CONTRIBUTING.md", "docs/python.md", "docs/export.md"):
        for example in blocks(page(name), "python"):
            assert max(map(len, example.splitlines())) <= 100
            compile(example, str(REPOSITORY / name), "exec")
