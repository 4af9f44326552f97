"""Convolutions whose kernels fill the band axis, against PyTorch's and the reference."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.fast import pytorch
from common.fast.cpu import layers
from common.fast.cpu.conv import spatial_backward
from common.fast.cpu.conv_spatial import CHANNELS
from common.fast.cpu.tape import Map, as_tensor
from common.layers import BatchNormReLU, kernels_as_bands
from tests.fast.cpu.against_reference import KINDS, check_convolution


def compare(dtype, kernels, size, padding, shape, bias=True, normalised=False):
    """Largest errors of the output and of every gradient, relative to the largest number.

    Where `normalised` the input comes from a batch norm with a ReLU.  In bfloat16 the parameters
    and what goes in and out stay float32.
    """
    torch.manual_seed(0)
    conv = nn.Conv3d(shape[1], kernels, size, padding=padding, bias=bias)
    modules = nn.ModuleList([BatchNormReLU(shape[1]), conv] if normalised else [conv]).double()
    number = torch.float32 if dtype == torch.bfloat16 else dtype
    own = copy.deepcopy(modules).to(number)
    own[-1].compute_dtype = own[-1].map_dtype = dtype
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    y = conv(modules[0](x) if normalised else x)
    own_x = x.detach().to(number).requires_grad_()
    read = layers.batch_norm_relu(own[0], own_x) if normalised else own_x
    found = layers.conv(own[-1], read)
    assert isinstance(found, Map) and found.tape.steps[-1][1].func is spatial_backward
    seed = torch.randn_like(y)
    truth = [y, *torch.autograd.grad(y, [x, *modules.parameters()], seed)]
    inputs, found = [own_x, *own.parameters()], found.tensor()
    pairs = zip([found, *torch.autograd.grad(found, inputs, seed.to(number))], truth, strict=True)
    return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs]


COLLAPSE = [(16, 24, 7, 7, 11), (35, 5, 2, 2, 7), (5, 3, 1, 1, 5), (260, 2, 1, 1, 4)]


@pytest.mark.parametrize("shape", COLLAPSE, ids=str)
@pytest.mark.parametrize("kernels", [CHANNELS, 13, 128])
@pytest.mark.parametrize("bias", [True, False])
def test_collapse(kernels, shape, bias):
    assert max(compare(torch.float64, kernels, (1, 1, shape[-1]), 0, shape, bias)) < 1e-13


@pytest.mark.parametrize("batch", [16, 35, 5])
@pytest.mark.parametrize(
    "kernels, size, padding, shape",
    [
        (24, (3, 3, 128), 0, (1, 7, 7, 128)),
        (24, (3, 3, 1), "same", (24, 5, 5, 1)),
        (9, (3, 3, 1), (2, 0, 0), (11, 4, 6, 1)),
        (10, (1, 2, 3), (0, 1, 0), (4, 3, 5, 3)),
    ],
    ids=["stem", "block", "padded along rows", "padded along cols"],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_over_rows_and_cols(batch, kernels, size, padding, shape, normalised):
    errors = compare(torch.float64, kernels, size, padding, (batch, *shape), normalised=normalised)
    assert max(errors) < 1e-12


def test_in_float32_the_error_is_a_few_roundings():
    assert max(compare(torch.float32, 128, (1, 1, 97), 0, (16, 24, 7, 7, 97))) < 2e-6


@pytest.mark.parametrize("batch", [16, 35, 5])
@pytest.mark.parametrize(
    "kernels, size, padding, shape",
    [
        (128, (1, 1, 97), 0, (24, 7, 7, 97)),
        (8, (1, 1, 8), 0, (6, 1, 1, 8)),
        (24, (3, 3, 128), 0, (1, 7, 7, 128)),
        (8, (3, 3, 1), (2, 0, 0), (10, 4, 6, 1)),
        (9, (1, 1, 11), 0, (24, 3, 3, 11)),
    ],
    ids=["collapse", "one place", "stem", "padded along rows", "odd kernels"],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_in_bfloat16_the_error_is_a_few_roundings(batch, kernels, size, padding, shape, normalised):
    errors = compare(torch.bfloat16, kernels, size, padding, (batch, *shape), normalised=normalised)
    assert 0 < max(errors) < 2**-6


def test_what_is_too_small_for_a_tile_is_pytorchs_own():
    module, x = nn.Conv3d(2, CHANNELS - 1, (1, 1, 9)), torch.randn(3, 2, 4, 4, 9)
    found = layers.conv(module, x)
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found, F.conv3d(x, module.weight, module.bias))


@pytest.mark.parametrize(
    "size, padding, bands",
    [((3, 3, 1), (3, 4, 0), 1), ((1, 1, 9), (1, 0, 0), 9), ((1, 1, 7), (0, 0, 7), 20)],
)
def test_padding_wider_than_the_kernel_is_pytorchs_own(size, padding, bands):
    module, x = nn.Conv3d(8, 9, size, padding=padding), torch.randn(3, 8, 4, 5, bands)
    torch.testing.assert_close(layers.conv(module, x), module(x))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("form", [layers.conv, pytorch.conv])
@pytest.mark.parametrize(
    "size, padding, bands",
    [((2, 2, 1), "same", 1), ((3, 3, 3), "valid", 3), ((1, 1, 3), "valid", 12)],
)
def test_padding_in_words(form, size, padding, bands):
    module, x = nn.Conv3d(8, 9, size, padding=padding), torch.randn(3, 8, 4, 5, bands)
    module.compute_dtype = torch.float32
    torch.testing.assert_close(as_tensor(form(module, x)), module(x), rtol=1e-5, atol=1e-5)


def test_maps_smaller_than_the_kernel_are_refused():
    with pytest.raises(RuntimeError, match="Kernel size"):
        layers.conv(nn.Conv3d(8, 9, (3, 3, 1)), torch.randn(3, 8, 2, 5, 1))


def test_a_weight_that_was_changed_before_its_gradient_is_told():
    module, x = nn.Conv3d(8, 9, (1, 1, 5)), torch.randn(3, 8, 4, 5, 5, requires_grad=True)
    y = layers.conv(module, x).tensor().sum()
    with torch.no_grad():
        module.weight.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_kernels_become_bands_without_a_copy():
    x = torch.randn(5, 8, 3, 3, 1, requires_grad=True)
    one = Map.of(x)
    other = kernels_as_bands(one)
    assert isinstance(other, Map) and np.shares_memory(other.store.array, one.store.array)
    torch.testing.assert_close(other.tensor(), x.transpose(1, 4))
    seed = torch.randn(5, 1, 3, 3, 8)
    (gradient,) = torch.autograd.grad(other.tensor(), x, seed)
    torch.testing.assert_close(gradient, seed.transpose(1, 4))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("batch", [16, 35, 5])
@pytest.mark.parametrize(
    "channels, size, padding, shape",
    [
        (128, (1, 1, 11), (0, 0, 0), (24, 3, 3, 11)),
        (24, (3, 3, 16), (0, 0, 0), (1, 5, 5, 16)),
        (24, (3, 3, 1), (1, 1, 0), (24, 3, 4, 1)),
        (9, (3, 3, 1), (2, 0, 0), (11, 4, 6, 1)),
        (10, (1, 2, 3), (0, 1, 0), (4, 3, 5, 3)),
    ],
    ids=["collapse", "stem", "block", "padded along rows", "padded along cols"],
)
def test_against_the_reference(kind, batch, channels, size, padding, shape):
    module = nn.Conv3d(shape[0], channels, size, padding=padding)
    check_convolution(kind, spatial_backward, module, (batch, *shape))
