"""SAE: its size, its pretraining against the formula, and that it goes on where it stopped."""

import csv
import json

import numpy as np
import pytest
import torch

import common.training.pretraining
from baselines.SAE import DEFAULTS, SAE, Autoencoder
from common.run.cli import main

FLAGS = ["-d", "UP", "-i", "1", "-e", "3", "--per-class", "10", "--map", "none"]


class QuickSAE(SAE):
    """A few epochs a layer."""

    pretraining_epochs = 4


def run(toy_data, out, *flags: str, network=QuickSAE) -> int:
    flags = [*FLAGS, "--data-dir", str(toy_data), "--out", str(out), *flags]
    return main(network, DEFAULTS, flags)


def pretraining(out) -> list[dict[str, str]]:
    with open(out / "run_0" / "pretraining.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_parameter_count_at_indian_pines_size():
    assert sum(p.numel() for p in SAE(200, 16).parameters()) == 24_016


def test_starts_as_the_papers_code_does():
    model = SAE(200, 16)
    bounds = [4 * (6 / (n + 60)) ** 0.5 for n in (200, 60, 60, 60)]
    for encoder, bound in zip(model.encoders, bounds, strict=True):
        assert 0.95 * bound < encoder.weight.abs().max() <= bound
        assert not encoder.bias.any()
    assert not any(parameter.any() for parameter in model.classifier.parameters())


def test_sees_the_central_pixel_alone():
    model = SAE(7, 3, kernels=4)
    torch.nn.init.normal_(model.classifier.weight)
    patches = torch.rand(2, 1, 5, 5, 7)
    others = patches.clone()
    others[:, :, 0] = 9.0
    assert torch.equal(model(patches), model(others))
    others[:, :, 2, 2] = 9.0
    assert not torch.equal(model(patches), model(others))


def test_loss_is_the_cross_entropy_of_input_and_reconstruction():
    torch.manual_seed(0)
    autoencoder = Autoencoder(torch.nn.Linear(7, 4))
    torch.nn.init.normal_(autoencoder.bias)
    x = torch.rand(5, 7)
    weight, bias, back = (
        tensor.detach().numpy()
        for tensor in (autoencoder.encoder.weight, autoencoder.encoder.bias, autoencoder.bias)
    )
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    z = sigmoid(sigmoid(x.numpy() @ weight.T + bias) @ weight + back)
    expected = -(x.numpy() * np.log(z) + (1 - x.numpy()) * np.log(1 - z)).sum(axis=1).mean()
    assert autoencoder(x).item() == pytest.approx(expected, rel=1e-5)


def test_pretraining_lowers_every_layers_loss_and_says_so(toy_data, tmp_path, capsys):
    assert run(toy_data, tmp_path / "out") == 0
    rows = pretraining(tmp_path / "out")
    assert [(row["layer"], row["epoch"]) for row in rows] == [
        (f"{layer}", f"{epoch}") for layer in range(1, 5) for epoch in range(1, 5)
    ]
    losses = np.array([float(row["loss"]) for row in rows]).reshape(4, 4)
    assert (losses[:, -1] < losses[:, 0]).all()
    stderr = capsys.readouterr().err
    for layer in range(1, 5):
        assert (
            f"iteration 1/1, pretraining {layer}/4: epoch 4/4, loss {losses[layer - 1, 3]:.4f}"
            in (stderr)
        )


class Killed(BaseException):
    pass


@pytest.mark.parametrize("killed_in", [3, 4, 5, 11])  # epochs of all layers, counted from 1
def test_an_interrupted_pretraining_goes_on_to_the_same_bits(
    toy_data, tmp_path, monkeypatch, killed_in
):
    monkeypatch.setattr("common.training.checkpoint.LARGEST_COST", 1e9)  # after every epoch
    assert run(toy_data, tmp_path / "whole") == 0
    real_epoch, calls = common.training.pretraining._epoch, []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == killed_in:
            raise Killed
        return real_epoch(*arguments)

    monkeypatch.setattr(common.training.pretraining, "_epoch", killed)
    with pytest.raises(Killed):
        run(toy_data, tmp_path / "out")
    assert run(toy_data, tmp_path / "out", "--resume") == 0
    assert len(calls) == 16 + 1  # none is done twice but the one that was cut off
    losses = [[row["loss"] for row in pretraining(tmp_path / name)] for name in ("whole", "out")]
    assert losses[0] == losses[1]
    states = [
        torch.load(tmp_path / name / "run_0" / "weights.pt", weights_only=True)["state"]
        for name in ("whole", "out")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not list((tmp_path / "out" / "run_0").glob("pretraining*.pt"))


@pytest.mark.parametrize("preprocess", ["pca", "standardise", "centre", "none"])
def test_other_preprocessing_is_refused_in_one_line(toy_data, tmp_path, capsys, preprocess):
    assert run(toy_data, tmp_path / "out", "--preprocess", preprocess) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--preprocess {preprocess}: QuickSAE takes numbers from 0 to 1; use" in line
    assert not (tmp_path / "out").exists()


def test_learns(toy_data, tmp_path):
    flags = ["-e", "60", "--lr", "0.01"]
    assert run(toy_data, tmp_path / "out", *flags) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    assert report["oa"][0] > 0.8  # chance: 0.2
