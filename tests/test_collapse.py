"""Convolutions whose kernels fill the band axis, against PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common import batch_last
from common.collapse import NUMBERS
from common.graph import Map


def compare(dtype, kernels, bias, shape):
    """Largest errors of the output and of every gradient, relative to the largest number."""
    torch.manual_seed(0)
    module = nn.Conv3d(shape[1], kernels, (1, 1, shape[-1]), bias=bias).to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    y = batch_last.conv(module, x)
    assert isinstance(y, Map) and "Collapse" in type(y.token.grad_fn).__name__
    right = F.conv3d(x.double(), *(p.double() for p in module.parameters()))
    seed, inputs = torch.randn_like(right), [x, *module.parameters()]
    found = [y.tensor(), *torch.autograd.grad(y.tensor(), inputs, seed.to(dtype))]
    truth = [right, *torch.autograd.grad(right, inputs, seed)]
    return [
        ((a.double() - b).abs().max() / b.abs().max()).item()
        for a, b in zip(found, truth, strict=True)
    ]


@pytest.mark.parametrize("kernels", [NUMBERS, 13, 128])
@pytest.mark.parametrize(
    "shape",
    [(16, 24, 3, 3, 11), (35, 5, 2, 2, 7), (5, 3, 1, 1, 5), (260, 2, 1, 1, 4)],
    ids=["places", "lanes in groups", "lanes without patch", "dense"],
)
@pytest.mark.parametrize("bias", [True, False])
def test_product_and_its_gradients(kernels, shape, bias):
    assert max(compare(torch.float64, kernels, bias, shape)) < 1e-13


def test_in_float32_the_error_is_a_few_roundings():
    assert max(compare(torch.float32, 128, True, (16, 24, 7, 7, 97))) < 2e-6


def test_what_is_too_small_for_a_tile_is_pytorchs_own():
    module, x = nn.Conv3d(2, NUMBERS - 1, (1, 1, 9)), torch.randn(3, 2, 4, 4, 9)
    assert isinstance(batch_last.conv(module, x), torch.Tensor)
