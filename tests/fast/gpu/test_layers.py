"""The form of the layers for a GPU, in Triton's interpreter where there is none."""

import copy
import sys

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import common.fast
from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fast import use_fast_form
from common.layers import BatchNormReLU, WeightedSum
from SSRN.SSRN import SSRN

pytest.importorskip("triton", reason="Triton is there for Linux only")
from common.fast.gpu import conv, grid, layers

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(autouse=True)
def compiled_form(monkeypatch):
    """Use Triton's form on the CPU too."""
    monkeypatch.setattr(common.fast, "_form", lambda model, on_cpu, dtype: layers)


def both_forms(network, bands: int = 31, kernels: int = 5) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = network(bands, classes=4, kernels=kernels)
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return plain, use_fast_form(copy.deepcopy(plain), DEVICE)


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
def test_training_step_is_the_same(network):
    plain, fast = both_forms(network)
    patches, labels = torch.randn(3, 1, 5, 5, 31), torch.arange(3)  # 325 places in three parts
    for model, device in ((plain, "cpu"), (fast, DEVICE)):
        F.cross_entropy(model(patches.to(device)), labels.to(device)).backward()
    for (name, parameter), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(
            other.grad.cpu(),
            parameter.grad,
            rtol=1e-4,
            atol=1e-6,
            msg=lambda m, n=name: f"{n}: {m}",
        )
    for (name, buffer), other in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(other.cpu(), buffer, msg=lambda m, n=name: f"{n}: {m}")
    plain.eval(), fast.eval()
    with torch.no_grad():
        torch.testing.assert_close(fast(patches.to(DEVICE)).cpu(), plain(patches))


@pytest.mark.parametrize("size", [(1, 1, 7), (3, 3, 1), (3, 1, 3)])
@pytest.mark.parametrize("kernels", [3, 16, 24])
def test_convolution_and_its_sums(size, kernels):
    torch.manual_seed(0)
    plain = nn.Conv3d(kernels, kernels, size, padding="same")
    fast = copy.deepcopy(plain).to(DEVICE)
    fast.compute_dtype = torch.float32
    x = torch.randn(1 + kernels % 2, kernels, 4, 5, 9, requires_grad=True)
    y = x.detach().to(DEVICE).requires_grad_()
    expected, out = plain(x), layers.conv(fast, y)
    torch.testing.assert_close(out.seen().cpu(), expected, rtol=1e-5, atol=1e-5)
    positive = expected.relu()
    for number, numbers in enumerate((expected, expected**2, positive, positive**2)):
        sums = out.sums[:, :, number].sum(1).cpu()
        torch.testing.assert_close(sums, numbers.sum(dim=(2, 3, 4)), rtol=1e-4, atol=1e-4)
    gradient = torch.randn_like(expected)
    expected.backward(gradient), out.seen().backward(gradient.to(DEVICE))
    for one, other in ((x, y), *zip(plain.parameters(), fast.parameters(), strict=True)):
        torch.testing.assert_close(other.grad.cpu(), one.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
def test_nan_goes_all_the_way_so_that_divergence_is_seen(network):
    _, fast = both_forms(network)
    patches = torch.randn(2, 1, 5, 5, 31, device=DEVICE)
    for name in ("spectral_block_1.conv1", "spatial_block_2.conv1"):
        broken = copy.deepcopy(fast)
        broken.get_submodule(name).bias.data[0] = torch.nan
        assert broken(patches).isnan().any()


def test_maps_of_many_kernels_are_left_to_pytorch():
    plain = [BatchNormReLU(layers.MOST_KERNELS + 1), WeightedSum()]
    x = torch.randn(2, layers.MOST_KERNELS + 1, 1, 1, 3)
    norm, total = (use_fast_form(copy.deepcopy(layer)) for layer in plain)
    torch.testing.assert_close(norm(x, x).seen(), plain[0](x, x))
    total.weights = lambda averages: averages
    expected = x * x.mean(dim=(2, 3, 4), keepdim=True) + x
    torch.testing.assert_close(total(x, shortcut=x).seen(), expected)


def test_partial_sums_do_not_depend_on_how_a_map_is_shared(monkeypatch):
    x = torch.randn(2, 3, 5, 5, 21, device=DEVICE)
    for programs in (1, 4, 1000):
        monkeypatch.setattr(grid, "PROGRAMS", programs)
        sums = grid.sums_of(grid.laid_out(x.clone()))
        assert sums.shape[1] == {1: 1, 4: 2, 1000: 5}[programs]
        torch.testing.assert_close(sums[:, :, 0].sum(1), x.sum(dim=(2, 3, 4)), rtol=1e-4, atol=1e-4)


def test_weights_that_someone_looks_at_are_the_same():
    """As `attention_maps.py` does, which puts a function of its own in place of `weights`."""
    _, network = both_forms(A2S2KResNet)
    seen, efr = [], network.spectral_block_1.efr
    patches = torch.randn(2, 1, 5, 5, 31, device=DEVICE)
    with torch.no_grad():
        expected = network.eval()(patches)
        efr.weights = lambda averages: seen.append(type(efr).weights(efr, averages)) or seen[-1]
        torch.testing.assert_close(network(patches), expected)
    assert seen[0].shape == (1, 2, 5)


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv3d(4, 4, (1, 1, 2), padding="same"),
        nn.Conv3d(4, 4, 3, padding="same", dilation=2),
        nn.Conv3d(4, 4, 3, padding="same", bias=False),
        nn.Conv3d(4, 4, 3, padding="same", groups=2),
        nn.Conv3d(4, 6, 3, padding="same"),
        nn.Conv3d(29, 29, (3, 3, 1), padding="same"),
        nn.Conv3d(1, 4, (3, 3, 7), padding=(0, 0, 3)),
    ],
)
def test_other_convolutions_are_pytorchs(module):
    assert not conv.is_same(module)
    assert not conv.is_stem(module)
    module, x = module.to(DEVICE), torch.randn(2, module.in_channels, 5, 5, 9, device=DEVICE)
    module.compute_dtype = torch.float32
    torch.testing.assert_close(layers.conv(module, x).seen(), module(x), rtol=1e-5, atol=1e-5)


def test_without_triton_pytorchs_layers_are_used_and_a_line_says_so(monkeypatch, capsys):
    common.fast._compiled_form.cache_clear()
    monkeypatch.setitem(sys.modules, "common.fast.gpu.layers", None)
    monkeypatch.delattr(common.fast.gpu, "layers")
    assert common.fast._compiled_form(torch.bfloat16) is None
    common.fast._compiled_form.cache_clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("slower on this GPU than need be, without Triton: ")
