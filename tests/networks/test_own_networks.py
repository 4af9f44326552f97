"""Networks of one's own give with the fast layers what they give without, from training to ONNX."""

import copy
import csv
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import common.run.export_command
import common.tables.paper_table
from common.fast import use_fast_form
from common.fast.replaced import in_fast_form, use_layers
from common.run.cli import main
from common.settings import Settings
from common.system.files import REPOSITORY
from common.training import network_classifier, network_input
from tests.networks.HybridSN import DEFAULTS, HybridSN
from tests.networks.own_networks import Custom, Mixture, Spectrum, Transformer

NETWORKS = [HybridSN, Spectrum, Mixture, Transformer, Custom]
LIKE_PYTORCHS = [Spectrum]  # without any of the layers that are replaced
SIZE, BANDS, CLASSES = 9, 30, 4
SLOW = pytest.mark.slow


def built(network: type[nn.Module]) -> nn.Module:
    """A network without dropout."""
    torch.manual_seed(0)
    size = {"patch_size": SIZE} if network is HybridSN else {}
    model = network(BANDS, CLASSES, **size)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model


def step(model: nn.Module, kind: torch.dtype) -> list[torch.Tensor]:
    """Logits in training and evaluation, all gradients and buffers."""
    patches = torch.randn(6, 1, SIZE, SIZE, BANDS, generator=torch.Generator().manual_seed(1))
    scores = model.train()(patches.to(kind))
    F.cross_entropy(scores, torch.arange(6) % CLASSES).backward()
    with torch.no_grad():
        logits = model.eval()(patches.to(kind))
    gradients = [p.grad for p in model.parameters()]
    return [scores.detach(), logits, *gradients, *(b.double() for b in model.buffers())]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_step_is_the_same(network):
    plain = built(network).double()
    fast = use_fast_form(copy.deepcopy(plain))
    assert bool(in_fast_form(fast)) == (network not in LIKE_PYTORCHS)
    found = [step(model, torch.float64) for model in (plain, fast)]
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("layers", ["fast", "PyTorch's"])
def test_bfloat16_meets_the_types_that_other_layers_expect(network, layers):
    plain = built(network)
    half = copy.deepcopy(plain)
    if layers == "fast":
        use_fast_form(half, dtype=torch.bfloat16)
    else:
        use_layers(half, common.fast.pytorch, torch.bfloat16)
    truth, found = step(plain, torch.float32), step(half, torch.float32)
    for one, other in zip(truth[:2], found[:2], strict=True):  # logits
        assert other.dtype == torch.float32
        torch.testing.assert_close(other, one, rtol=0.05, atol=0.05 * one.abs().max().item())
    one, other = (
        torch.cat([x.flatten() for x in f[2:] if x.dtype.itemsize == 4]) for f in (truth, found)
    )
    assert F.cosine_similarity(one, other, dim=0) > 0.99


def run(network: type[nn.Module], data, out, *flags: str) -> int:
    defaults = DEFAULTS if network is HybridSN else Settings(network.__name__, kernel=None)
    own = ["-d", "UP", "-e", "2", "-i", "1", "-p", "4", "--data-dir", str(data), "--out", str(out)]
    return main(network, defaults, [*own, *flags])


def history(out) -> np.ndarray:
    """Training and validation loss of each epoch."""
    with open(out / "run_0" / "history.csv", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return np.array(
            [[float(row[f"{p}_loss"]) for p in ("train", "validation")] for row in rows]
        )


@pytest.mark.parametrize(
    "network",
    [HybridSN, Spectrum, Transformer, *(pytest.param(n, marks=SLOW) for n in (Mixture, Custom))],
)
@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=SLOW)])
def test_from_training_to_onnx(network, precision, toy_data, tmp_path, monkeypatch, capsys):
    capabilities = {"avx512_bf16": True}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    flags, fast = ["--precision", precision, "--seed", "3"], network_input.use_fast_form
    used = []

    def with_fast_layers(model, device, dtype):
        used.append(fast(model, device, dtype))
        return used[-1]

    monkeypatch.setattr(network_input, "use_fast_form", with_fast_layers)
    assert run(network, toy_data, tmp_path / "fast", *flags) == 0
    assert bool(in_fast_form(used[0])) == (network not in LIKE_PYTORCHS)  # also after its check
    assert "plain PyTorch" not in capsys.readouterr().err

    monkeypatch.setattr(network_input, "use_fast_form", lambda model, device, dtype: model)
    assert run(network, toy_data, tmp_path / "plain", *flags) == 0
    of_training, of_validation = (0.05, 0.25) if precision == "bf16" else (1e-3, 1e-2)
    ours, plain = (history(tmp_path / name) for name in ("fast", "plain"))
    np.testing.assert_allclose(ours[:, 0], plain[:, 0], rtol=of_training)
    np.testing.assert_allclose(ours[:, 1], plain[:, 1], rtol=of_validation)  # roundings have grown

    monkeypatch.setattr(network_input, "use_fast_form", fast)
    weights = tmp_path / "fast" / "run_0" / "weights.pt"
    mapped = tmp_path / "mapped"
    assert run(network, toy_data, mapped, "--weights", str(weights), *flags[:2]) == 0
    if network is not Mixture:  # one of its norms sees with whom a patch is in a batch
        maps = [np.load(out / "run_0" / "map.npy") for out in (tmp_path / "fast", mapped)]
        np.testing.assert_array_equal(*maps)

    table = [str(tmp_path / name) for name in ("fast", "plain")]
    assert common.tables.paper_table.main(table) == 0
    assert network.__name__ in capsys.readouterr().out

    pytest.importorskip("onnxruntime")
    file = "HybridSN.py" if network is HybridSN else "own_networks.py"
    own = ["--network", str(REPOSITORY / "tests" / "networks" / file)]
    status = common.run.export_command.main([str(weights), str(tmp_path / "net.onnx"), *own])
    said = capsys.readouterr()
    if network is Mixture:  # the exporter knows no norm of the batch at hand
        assert (status, said.err.count("\n")) == (2, 1)
        assert "error: network 'Mixture': " in said.err
    else:
        assert status == 0
        assert "predicted classes agree" in said.out


@SLOW
def test_an_interrupted_training_goes_on_to_the_same_bits(toy_data, tmp_path, monkeypatch):
    def killed(training):
        training.start_epoch()
        training.end_epoch()
        raise KeyboardInterrupt

    assert run(Custom, toy_data, tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(network_classifier, "run", killed)
        assert run(Custom, toy_data, tmp_path / "resumed") == 130
    assert run(Custom, toy_data, tmp_path / "resumed", "--resume") == 0
    states = [
        torch.load(tmp_path / name / "run_0" / "weights.pt", weights_only=True)["state"]
        for name in ("whole", "resumed")
    ]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def of_recipe(capsys) -> list[str]:
    """What was said of the recipe, but for the note that a toy makes few updates."""
    lines = [line for line in capsys.readouterr().err.splitlines() if "--recipe fast" in line]
    return [line for line in lines if "updates of the weights, which are few" not in line]


def test_the_fast_recipe_keeps_the_patches_of_a_network_for_one_width(toy_data, tmp_path, capsys):
    flags = ["--recipe", "fast", "--map", "none"]
    assert run(HybridSN, toy_data, tmp_path / "one", *flags) == 0
    assert of_recipe(capsys) == [
        "--recipe fast: HybridSN takes no patches of -p 3, so that all epochs have those of -p 4"
    ]
    assert run(Spectrum, toy_data, tmp_path / "any", *flags) == 0
    assert of_recipe(capsys) == []
    report = json.loads((tmp_path / "one" / "report.json").read_text("utf-8"))
    assert report["settings"]["kernel"] is None
