"""Convolutions by direct sums, and the first layers' in pairs of bfloat16 numbers."""

import copy

import pytest
import torch
from torch import nn

from common.fast.cpu import layers
from common.fast.cpu.conv import direct_backward
from tests.fast.cpu.against_reference import KINDS, check_convolution


@pytest.mark.parametrize("batch", [16, 35, 5])
@pytest.mark.parametrize(
    "kernels_in, size, padding, bands",
    [
        (1, (1, 1, 7), (0, 0, 0), 200),
        (1, (3, 3, 7), (1, 1, 0), 27),
        (2, (3, 3, 6), (1, 1, 2), 33),
        (3, (1, 3, 1), (0, 0, 0), 31),
        (1, (1, 1, 7), (0, 0, 0), 9),
    ],
    ids=["(1,1,7)", "(3,3,7)", "even, padded", "one band", "two bands out"],
)
def test_the_error_is_a_few_roundings(batch, kernels_in, size, padding, bands):
    torch.manual_seed(0)
    plain = nn.Conv3d(kernels_in, 24, size, stride=(1, 1, 2), padding=padding)
    fast = copy.deepcopy(plain)
    fast.compute_dtype = fast.map_dtype = torch.bfloat16
    x = torch.randn(batch, kernels_in, 3, 4, bands)
    y, found = plain(x), layers.conv(fast, x)
    assert found.tape.steps[-1][1].func is direct_backward
    seed = torch.randn_like(y)
    truth = [y, *torch.autograd.grad(y, plain.parameters(), seed)]
    found = found.tensor()
    found = [found, *torch.autograd.grad(found, fast.parameters(), seed)]
    errors = [(a - b).abs().max() / b.abs().max() for a, b in zip(found, truth, strict=True)]
    assert 2**-12 < max(errors) < 2**-7
    assert min(errors) > 2**-14  # each is made of rounded numbers, the gradients too


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("batch", [16, 35, 5])
@pytest.mark.parametrize(
    "channels_in, channels, size, padding, bands",
    [
        (8, 7, (1, 1, 3), (0, 0, 1), 13),
        (6, 9, (1, 1, 7), (0, 0, 0), 12),
        (7, 8, (3, 3, 1), (1, 1, 0), 5),
        (6, 6, (2, 3, 4), (1, 0, 2), 7),
    ],
    ids=["along bands", "too short for Fourier", "over rows and cols", "even, padded"],
)
def test_against_the_reference(kind, batch, channels_in, channels, size, padding, bands):
    module = nn.Conv3d(channels_in, channels, size, padding=padding)
    check_convolution(kind, direct_backward, module, (batch, channels_in, 3, 4, bands))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size, padding", [((1, 1, 7), (0, 0, 0)), ((3, 3, 7), (1, 1, 0))])
def test_strides_against_the_reference(kind, size, padding):
    """Of stride 2 along the bands, as the first layers, which need no gradient of their input."""
    module = nn.Conv3d(1, 24, size, stride=(1, 1, 2), padding=padding)
    check_convolution(kind, direct_backward, module, (35, 1, 3, 4, 60), of_x=False)
