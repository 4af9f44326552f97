"""``--start-from``: which weights are taken over, and which are refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torch import nn

import common.training.network_classifier
from A2S2KResNet import A2S2KResNet
from baselines import SAE
from common.run.cli import main
from common.system.files import file_sha256
from common.training.start_from import last_layer
from SSRN import SSRN
from tests.conftest import toy_labels

SHORT = ["-p", "2", "-k", "4", "-e", "2", "-i", "1", "--precision", "fp32"]
SCENE = "name: Field\ncube: {path: field.mat, variable: cube}\n"
SCENE += "ground_truth: {path: field.mat, variable: truth}\n"
CLASSES = "classes: [Rye, Oats, Wheat, Barley, Maize]\n"
FEWER = "classes: {1: Rye, 2: Oats, 5: Maize}\nignored_label: [0, 3, 4]\n"


def run(folder: Path, out: str, *flags: str, of=SSRN, network: type[nn.Module] = SSRN.SSRN) -> int:
    where = ["-d", str(folder / "field.yaml"), "--out", str(folder / out)]
    return main(network, of.DEFAULTS, [*where, *SHORT, *flags])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two scenes, and the weights of a network that was trained on the first."""
    folder, labels = tmp_path_factory.mktemp("start"), toy_labels()
    generator = np.random.default_rng(0)
    cube = generator.normal(size=(6, 60))[labels] + 0.3 * generator.normal(size=(40, 36, 60))
    scipy.io.savemat(folder / "field.mat", {"cube": cube, "truth": labels})
    scene(folder, CLASSES)
    assert run(folder, "first") == 0
    return folder


def scene(folder: Path, more: str) -> None:
    (folder / "field.yaml").write_text(SCENE + more, "utf-8")


def start(folder: Path) -> list[str]:
    return ["--start-from", str(folder / "first" / "run_0" / "weights.pt")]


def state(folder: Path, out: str) -> dict[str, torch.Tensor]:
    return torch.load(folder / out / "run_0" / "weights.pt", weights_only=True)["state"]


@pytest.fixture
def begun(monkeypatch):
    """What networks hold when their training begins."""
    found, real = [], common.training.network_classifier.Training

    def record(model, *arguments, **named):
        found.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return real(model, *arguments, **named)

    monkeypatch.setattr(common.training.network_classifier, "Training", record)
    return found


def report(folder: Path, out: str) -> dict:
    return json.loads((folder / out / "report.json").read_text("utf-8"))


def test_of_the_same_classes_all_weights_are_taken_over(folder, begun, tmp_path):
    scene(folder, CLASSES)
    assert run(folder, tmp_path / "out", *start(folder), "--seed", "7") == 0
    ends = state(folder, "first")
    assert begun[0].keys() == ends.keys()
    assert all(torch.equal(tensor, ends[name]) for name, tensor in begun[0].items())
    origin = report(folder, tmp_path / "out")["started_from"]
    path = folder / "first" / "run_0" / "weights.pt"
    assert origin == {
        "file": str(path),
        "sha256": file_sha256(path),
        "scene": "Field",
        "new_last_layer": False,
    }
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert f"started from: {path}, trained on Field (SHA-256 {origin['sha256'][:12]}…)" in text


@pytest.mark.parametrize("classes", [CLASSES.replace("Rye, Oats", "Oats, Rye"), FEWER])
def test_other_classes_get_a_new_last_layer(folder, begun, tmp_path, classes):
    scene(folder, classes)
    assert run(folder, tmp_path / "anew", "--seed", "7") == 0
    assert run(folder, tmp_path / "out", *start(folder), "--seed", "7") == 0
    anew, started = begun
    ends = state(folder, "first")
    for name, tensor in started.items():
        same = anew if name.startswith("classifier.") else ends
        assert torch.equal(tensor, same[name]), name
    assert report(folder, tmp_path / "out")["started_from"]["new_last_layer"]
    assert ", with a new last layer (SHA" in (tmp_path / "out" / "report.txt").read_text("utf-8")


def test_layers_are_not_trained_one_by_one_first(tmp_path, folder, begun, monkeypatch):
    scene(folder, CLASSES)
    monkeypatch.setattr(SAE.SAE, "pretraining_epochs", 1)
    own = {"of": SAE, "network": SAE.SAE}
    assert run(folder, tmp_path / "first", **own) == 0
    assert (tmp_path / "first" / "run_0" / "pretraining.csv").exists()
    weights = str(tmp_path / "first" / "run_0" / "weights.pt")
    assert run(folder, tmp_path / "out", "--start-from", weights, **own) == 0
    assert not (tmp_path / "out" / "run_0" / "pretraining.csv").exists()
    ends = state(tmp_path, "first")
    assert all(torch.equal(tensor, ends[name]) for name, tensor in begun[1].items())


def wavelengths(shift: float) -> str:
    return f"wavelengths: {[400.0 + 10 * band + shift for band in range(60)]}\n"


def test_wavelengths_must_be_the_same_within_5_nm(folder, tmp_path, capsys):
    scene(folder, CLASSES + wavelengths(0))
    assert run(folder, tmp_path / "first") == 0
    begin = ["--start-from", str(tmp_path / "first" / "run_0" / "weights.pt")]
    for shift, status in ((4, 0), (6, 2)):
        scene(folder, CLASSES + wavelengths(shift))
        assert run(folder, tmp_path / f"{shift}", *begin) == status
    line = capsys.readouterr().err.splitlines()[-1]
    assert "weights.pt: band 0 was at 400 nm in training, but is at 406 nm in Field" in line
    scene(folder, CLASSES)  # which states none
    assert run(folder, tmp_path / "unstated", *begin) == 0


def refused(folder: Path, capsys, *flags: str, **own) -> str:
    capsys.readouterr()
    assert run(folder, "refused", *flags, **own) == 2
    assert not (folder / "refused").exists()
    return capsys.readouterr().err.splitlines()[-1]


def test_what_does_not_fit_is_told_in_one_line(folder, tmp_path, capsys):
    scene(folder, CLASSES)
    begin = start(folder)
    assert "trained with kernels 4, here it is 8; use --kernel 4" in refused(
        folder, capsys, *begin, "-k", "8"
    )
    assert "trained on 60 components, here these are 20; leave --components out" in refused(
        folder, capsys, *begin, "--components", "20"
    )
    other = {"of": A2S2KResNet, "network": A2S2KResNet.A2S2KResNet}
    assert "weights of SSRN, but this is A2S2KResNet" in refused(folder, capsys, *begin, **other)
    scene(folder, f"{CLASSES}ignored_bands: [3]\n")
    assert "trained on 60 bands, but Field has 59; leave out" in refused(folder, capsys, *begin)
    scene(folder, CLASSES)
    content = Path(begin[1]).read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[:-400])
    assert f"--start-from {tmp_path}/cut.pt: not a weights file of this project" in refused(
        folder, capsys, "--start-from", str(tmp_path / "cut.pt")
    )
    assert "holds the weights to start from; choose another" in refused_there(folder, capsys)


def refused_there(folder: Path, capsys) -> str:
    """The message where results are to replace those that training starts from."""
    before = (folder / "first" / "run_0" / "weights.pt").read_bytes()
    assert run(folder, "first", *start(folder), "--overwrite") == 2
    assert (folder / "first" / "run_0" / "weights.pt").read_bytes() == before
    return capsys.readouterr().err.splitlines()[-1]


def test_attention_must_be_the_same(folder, tmp_path, capsys):
    scene(folder, CLASSES)
    own = {"of": A2S2KResNet, "network": A2S2KResNet.A2S2KResNet}
    assert run(folder, tmp_path / "first", **own) == 0
    begin = ["--start-from", str(tmp_path / "first" / "run_0" / "weights.pt")]
    line = refused(folder, capsys, *begin, "--attention", "official", **own)
    assert "trained with attention paper, here it is official; use --attention paper" in line


def test_resuming_wants_the_same_content_wherever_it_lies(folder, tmp_path, capsys):
    scene(folder, CLASSES)
    weights = tmp_path / "weights.pt"
    weights.write_bytes((folder / "first" / "run_0" / "weights.pt").read_bytes())
    out = tmp_path / "out"
    assert run(folder, out, *start(folder)) == 0
    (out / "report.html").touch()  # which tests do not write
    capsys.readouterr()
    assert run(folder, out, "--start-from", str(weights), "--resume") == 0
    assert "finished already" in capsys.readouterr().err
    content = torch.load(weights, weights_only=True)
    content["state"]["classifier.bias"][0] += 1
    torch.save(content, weights)
    assert run(folder, out, "--start-from", str(weights), "--resume") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "--resume: start_from was SHA-256" in line
    assert run(folder, out, "--resume") == 2
    assert "start_from was SHA-256" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (SSRN.SSRN, {"classifier.weight", "classifier.bias"}),
        (A2S2KResNet.A2S2KResNet, {"classifier.weight", "classifier.bias"}),
        (SAE.SAE, {"classifier.weight", "classifier.bias"}),
    ],
)
def test_the_last_layer_is_found(network, expected):
    assert last_layer(network, {"bands": 20, "classes": 4, "kernels": 4}) == expected
