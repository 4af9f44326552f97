"""The systems that the SSRN paper compares: sizes, shapes, and whole runs by the same code."""

import csv
import json

import numpy as np
import pytest
import torch
from torch import nn

from baselines import CNN, SAE
from common.fast import use_fast_form
from common.reporting.page import write_page
from common.run import export_command
from common.run.cli import main
from common.samples.patches import Patches
from common.tables.methods import read_methods, with_distinct_names
from common.training import network_classifier
from common.training.predict import logits
from SSRN import CNNL, SPA, SPC, SSRN, SSRNKeras, SSRNLeaky
from tests.conftest import toy_labels

MODULES = {
    module.DEFAULTS.model: module for module in (SPC, SPA, CNNL, CNN, SAE, SSRNKeras, SSRNLeaky)
}
NETWORKS = {name: getattr(module, name) for name, module in MODULES.items()}


@pytest.fixture(autouse=True)
def short_pretraining(monkeypatch):
    monkeypatch.setattr(SAE.SAE, "pretraining_epochs", 2)


@pytest.mark.parametrize(
    ("name", "bands", "classes", "parameters"),
    [
        ("SPC", 200, 16, 317_088),
        ("SPC", 176, 13, 279_837),
        ("SPC", 103, 9, 168_729),
        ("SPA", 200, 16, 64_696),
        ("SPA", 176, 13, 59_437),
        ("SPA", 103, 9, 43_569),
        ("CNNL", 200, 16, 364_168),
        ("CNN", 200, 16, 287_408),
        ("SAE", 200, 16, 24_016),
    ],
)
def test_parameter_count(name, bands, classes, parameters):
    assert sum(p.numel() for p in NETWORKS[name](bands, classes).parameters()) == parameters


@pytest.mark.parametrize("name", NETWORKS)
def test_every_odd_patch(name):
    model = NETWORKS[name](21, classes=3, kernels=4).eval()
    least = 2 * getattr(NETWORKS[name], "least_half_width", 2) + 1
    for size in (least, least + 2, least + 6):
        assert model(torch.zeros(2, 1, size, size, 21)).shape == (2, 3)
    with pytest.raises(ValueError, match="P odd"):
        model(torch.zeros(2, 1, least + 1, least + 1, 21))


def with_random_norms(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return model.eval()


def test_spc_averages_what_ssrns_spectral_half_finds():
    torch.manual_seed(0)
    spc = with_random_norms(SPC.SPC(21, 3, kernels=4))
    ssrn = with_random_norms(SSRN.SSRN(21, 3, kernels=4))
    half = {name: t for name, t in spc.state_dict().items() if name.startswith("spectral")}
    missing, unexpected = ssrn.load_state_dict(half, strict=False)
    assert not unexpected and all(not name.startswith("spectral") for name in missing)
    patches = torch.randn(2, 1, 5, 5, 21)
    features = ssrn.spectral(patches).mean(dim=(1, 2, 3))
    torch.testing.assert_close(spc(patches), spc.classifier(features))


def test_spa_is_ssrns_spatial_half_on_the_bands():
    torch.manual_seed(0)
    spa = with_random_norms(SPA.SPA(128, 3, kernels=4))
    ssrn = with_random_norms(SSRN.SSRN(21, 3, kernels=4))
    ssrn.load_state_dict(spa.state_dict(), strict=False)
    patches = torch.randn(2, 1, 5, 5, 128)
    torch.testing.assert_close(spa(patches), ssrn.spatial(ssrn.spatial_stem(patches)))


def test_cnnl_is_ssrn_without_shortcuts(monkeypatch):
    torch.manual_seed(0)
    cnnl = with_random_norms(CNNL.CNNL(21, 3, kernels=4))
    ssrn = SSRN.SSRN(21, 3, kernels=4).eval()
    ssrn.load_state_dict(cnnl.state_dict())
    patches = torch.randn(2, 1, 5, 5, 21)
    assert not torch.allclose(cnnl(patches), ssrn(patches))
    plain = lambda block, x: block.bn2(block.conv2(block.bn1(block.conv1(x))))  # noqa: E731
    monkeypatch.setattr(SSRN.ResidualBlock, "forward", plain)
    torch.testing.assert_close(cnnl(patches), ssrn(patches))


def test_cnn_in_its_fast_form_is_the_same_function():
    torch.manual_seed(0)
    model = with_random_norms(CNN.CNN(21, 3, kernels=8))
    patches = torch.randn(2, 1, 27, 27, 21)
    expected = model(patches).detach()
    torch.testing.assert_close(use_fast_form(model)(patches), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["SPC", "CNNL"])
def test_position_by_position_gives_the_logits_of_patches(name):
    torch.manual_seed(0)
    model = with_random_norms(NETWORKS[name](21, classes=3, kernels=4))
    patches = Patches.of_cube(torch.randn(9, 8, 21).numpy(), 3, torch.device("cpu"))
    pixels = torch.tensor([71, 0, 7, 30, 31, 38])
    expected = model(patches.gather(pixels)).detach()
    torch.testing.assert_close(logits(model, patches, pixels), expected, rtol=1e-4, atol=1e-5)


def run(name: str, toy_data, out, *flags: str) -> int:
    given = ["-d", "UP", "-e", "2", "-k", "4", "--per-class", "5", "--precision", "fp32"]
    given += ["--data-dir", str(toy_data), "--out", str(out), *flags]
    return main(NETWORKS[name], MODULES[name].DEFAULTS, given)


@pytest.mark.parametrize("name", NETWORKS)
def test_trains_maps_resumes_exports_and_stands_in_tables(name, toy_data, tmp_path):
    """Every network by the code that all share."""
    out = tmp_path / "out"
    assert run(name, toy_data, out, "-i", "1") == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert (report["model"], report["epochs_run"]) == (name, [2])
    label_map = np.load(out / "run_0" / "map.npy")
    np.testing.assert_array_equal(label_map == 0, toy_labels() == 0)
    with open(out / "run_0" / "history.csv", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 2

    (out / "report.html").touch()  # which tests leave out
    assert run(name, toy_data, out, "-i", "1", "--resume") == 0  # nothing to do

    weights = str(out / "run_0" / "weights.pt")
    assert run(name, toy_data, tmp_path / "again", "--weights", weights) == 0
    again = json.loads((tmp_path / "again" / "report.json").read_text("utf-8"))
    assert again["confusion"] == report["confusion"]
    np.testing.assert_array_equal(np.load(tmp_path / "again" / "run_0" / "map.npy"), label_map)

    (method,) = with_distinct_names(read_methods([out]))
    assert method.name == name
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    assert export_command.main([weights, str(tmp_path / "model.onnx")]) == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_an_interrupted_training_goes_on_to_the_same_bits(name, toy_data, tmp_path, monkeypatch):
    def killed(training):
        training.start_epoch()
        training.end_epoch()
        raise KeyboardInterrupt

    flags = ["-i", "1", "--map", "none"]
    assert run(name, toy_data, tmp_path / "whole", *flags) == 0
    with monkeypatch.context() as patch:
        patch.setattr(network_classifier, "run", killed)
        assert run(name, toy_data, tmp_path / "resumed", *flags) == 130
    assert run(name, toy_data, tmp_path / "resumed", *flags, "--resume") == 0
    states = [
        torch.load(tmp_path / out / "run_0" / "weights.pt", weights_only=True)["state"]
        for out in ("whole", "resumed")
    ]
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())


@pytest.mark.parametrize("name", NETWORKS)
def test_trains_alike_in_bfloat16(name, toy_data, tmp_path, monkeypatch):
    capabilities = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    losses = {}
    for precision in ("fp32", "bf16"):
        out = tmp_path / precision
        flags = ["-i", "1", "-e", "1", "--map", "none", "--precision", precision]
        assert run(name, toy_data, out, *flags) == 0
        report = json.loads((out / "report.json").read_text("utf-8"))
        assert report["environment"]["precision"] == precision
        with open(out / "run_0" / "history.csv", encoding="utf-8") as file:
            losses[precision] = float(next(csv.DictReader(file))["train_loss"])
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_saes_page_is_drawn(toy_data, tmp_path):
    """Its pretraining leaves a file that no other network has."""
    assert run("SAE", toy_data, tmp_path / "out", "-i", "1") == 0
    write_page(tmp_path / "out")
    assert "SAE" in (tmp_path / "out" / "report.html").read_text("utf-8")


@pytest.mark.parametrize("recipe", ["fast", "authors"])
@pytest.mark.parametrize("name", ["CNN", "SAE", "SSRNLeaky"])
def test_other_recipes(name, recipe, toy_data, tmp_path):
    flags = ["-i", "1", "--recipe", recipe, "--map", "none"]
    assert run(name, toy_data, tmp_path / "out", *flags) == 0


def test_cnn_refuses_smaller_patches_in_one_line(toy_data, tmp_path, capsys):
    assert run("CNN", toy_data, tmp_path / "out", "-p", "12") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "-p 12: CNN needs patches of 27×27 pixels; use -p 13 or more" in line
    assert not (tmp_path / "out").exists()
