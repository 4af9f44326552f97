"""Kernels for a GPU that are wrong on purpose are found out, in Triton's interpreter too."""

import pytest
import torch
from torch import nn

import common.fast
from common.fast import layer_errors, prepare, use_fast_form
from common.fast.replaced import in_fast_form
from common.layers import ConvBNReLU, GatedSum

pytest.importorskip("triton", reason="Triton is there for Linux only")
import triton
import triton.language as tl

from common.fast.gpu import conv_kernels, layers, norm_kernels, sum_kernels

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RIGHT = {
    "a convolution's window": (conv_kernels, "_window"),
    "a ReLU": (norm_kernels, "relu"),
    "sums of a patch": (sum_kernels, "_of_patch"),
}


@triton.jit
def window(x, place, inside, column, kernels: tl.constexpr, geometry: tl.constexpr,
           sign: tl.constexpr):  # fmt: skip
    return right_window(x, place, inside, column, kernels, geometry, sign) * 1.001


@triton.jit
def relu(y):
    return tl.where(y < 0, 0.0, 1.001 * y)


@triton.jit
def of_patch(parts, number, stride: tl.constexpr, at, there):
    return right_of_patch(parts, number, stride, at, there) * 1.001


right_window, right_of_patch = conv_kernels._window, sum_kernels._of_patch
WRONG = {
    "a convolution's window": (window, "stem.conv"),
    "a ReLU": (relu, "stem.conv"),  # which is checked with batch norms around it
    "sums of a patch": (of_patch, "efr"),
}


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = ConvBNReLU(1, 5, (1, 1, 7), stride=(1, 1, 2))
        self.efr = GatedSum()

    def forward(self, x):
        x = self.stem(x)
        return self.efr(x, shortcut=x).mean(dim=(2, 3, 4))


@pytest.fixture(autouse=True)
def compiled_form(monkeypatch, tmp_path):
    """Use Triton's form on the CPU too, and check with few patches."""
    monkeypatch.setattr(common.fast, "_form", lambda model, on_cpu, dtype: layers)
    monkeypatch.setattr(layer_errors, "PATCHES", 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def checked(capsys) -> tuple[bool, list[str]]:
    """Whether a network keeps its fast layers, and what is said."""
    torch.manual_seed(0)
    network = use_fast_form(Small(), DEVICE)
    prepare(network, torch.randn(2, 1, 3, 3, 21, device=DEVICE))
    lines = [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line]
    return bool(in_fast_form(network)), lines


def test_right_kernels_pass(capsys):
    assert checked(capsys) == (True, [])


@pytest.mark.skipif(DEVICE == "cuda", reason="kernels that are compiled are not replaced")
@pytest.mark.parametrize("what", WRONG)
def test_a_kernel_that_is_wrong_on_purpose_is_found_out(what, monkeypatch, capsys):
    wrong, layer = WRONG[what]
    monkeypatch.setattr(*RIGHT[what], wrong)
    keeps, (line,) = checked(capsys)
    assert not keeps
    assert line.startswith(f"{layer}: its fast form is wrong here (")
