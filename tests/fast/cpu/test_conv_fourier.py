"""Convolutions along the bands by short Fourier transforms, against PyTorch's and the reference."""

import numba
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.fast.codegen.short_fourier import (
    OUTPUTS,
    PARTNERS,
    POINTS,
    SLOTS,
    TAPS,
    transform,
    transform_back,
    weights_transform,
)
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu import layers, reference
from common.fast.cpu.conv import fourier_backward
from common.fast.cpu.tape import Map
from tests.fast.cpu.against_reference import KINDS, check_convolution

_transform, _transform_back = transform(POINTS, True, True), transform_back(POINTS, 0)


@numba.njit
def _slots(rows, pairs, halves):
    """Transform a row, and of pairs the row after it too."""
    apart = View(halves, 0, LANES)
    _transform(View(rows, 0, POINTS * LANES), View(pairs, 0, LANES), apart, LANES // 2)


@numba.njit
def _matrices(inputs, slots, unit_slots, outputs):
    _slots(inputs, slots, slots)
    for i in range(len(unit_slots)):
        _transform_back(View(unit_slots[i], 0, LANES), View(outputs[i], 0, LANES))


@pytest.fixture(scope="module")
def matrices():
    """The matrices of `transform` and `transform_back`, taken from what they make of units."""
    slots, outputs = np.zeros((SLOTS, LANES)), np.zeros((SLOTS, POINTS, LANES))
    unit_slots = np.repeat(np.eye(SLOTS)[:, :, None], LANES, axis=2)
    flat = unit_slots.reshape(SLOTS, -1), outputs.reshape(SLOTS, -1)
    _matrices(np.eye(POINTS).ravel(), slots.ravel(), *flat)
    return slots, outputs[:, :, 0].T


def test_transform_is_the_fourier_transform(matrices):
    x = np.random.default_rng(0).normal(size=POINTS)
    slots, frequencies = matrices[0] @ x, np.fft.rfft(x).conj()
    np.testing.assert_allclose(slots[:2], frequencies[[0, -1]].real, atol=1e-12)
    complex_slots = slots[2:].reshape(-1, 3)
    np.testing.assert_allclose(complex_slots[:, 0] + 1j * complex_slots[:, 1], frequencies[1:-1])
    np.testing.assert_allclose(complex_slots[:, 2], complex_slots[:, 0] + complex_slots[:, 1])


def test_transform_back_is_the_transpose(matrices):
    np.testing.assert_allclose(matrices[1], matrices[0].T, atol=1e-15)


def test_ten_bands_from_sixteen(matrices):
    random = np.random.default_rng(1)
    x, w = random.normal(size=POINTS), random.normal(size=TAPS)
    products = (weights_transform(np.float64) @ w) * (matrices[0] @ x)
    y = (matrices[1] @ products[PARTNERS])[:OUTPUTS]
    np.testing.assert_allclose(y, reference.row_by_fourier(x, w, POINTS), atol=1e-13)


def test_slots_of_two_rows_in_bfloat16():
    rows = np.random.default_rng(2).normal(size=(2, POINTS, LANES)).astype(np.float32)
    slots = [np.zeros((SLOTS, LANES), np.float32) for _ in rows]
    for row, out in zip(rows, slots, strict=True):
        _slots(row.ravel(), out.ravel(), out.ravel())
    expected = torch.from_numpy(np.stack(slots, axis=1)).bfloat16()  # (slots, rows, lanes)
    pairs, halves = np.zeros((2, SLOTS, LANES), np.int32)
    _slots(rows.ravel(), pairs.ravel(), halves.ravel())
    in_lanes = torch.from_numpy(pairs).view(torch.bfloat16).view(SLOTS, LANES, 2)
    assert torch.equal(in_lanes, expected.transpose(1, 2))
    assert torch.equal(torch.from_numpy(halves).view(torch.bfloat16), expected.flatten(1))


def compare(dtype, kernels_in, kernels, bands, batch, padding):
    """Errors of output and gradients by Fourier transforms, and PyTorch's, relative to the most.

    The first layer of a network need not find the gradient of its input: that finds the others'.
    """
    torch.manual_seed(0)
    module = nn.Conv3d(kernels_in, kernels, (1, 1, TAPS), padding=(0, 0, padding)).double()
    x = torch.randn(batch, kernels_in, 2, 3, bands, dtype=torch.float64, requires_grad=True)
    seed = torch.randn_like(module(x))
    truth = [module(x), *torch.autograd.grad(module(x), [x, *module.parameters()], seed)]

    def errors(convolve):
        one = nn.Conv3d(kernels_in, kernels, (1, 1, TAPS), padding=(0, 0, padding)).to(dtype)
        one.load_state_dict(module.state_dict())
        one.compute_dtype = one.map_dtype = dtype
        own_x = x.detach().to(dtype).requires_grad_()
        y = convolve(one, own_x)
        found = [y, *torch.autograd.grad(y, [own_x, *one.parameters()], seed.to(dtype))]
        first = convolve(one, own_x.detach())
        alone = torch.autograd.grad(first, one.parameters(), seed.to(first.dtype))
        torch.testing.assert_close(list(alone), found[2:])
        pairs = zip(found, truth, strict=True)
        return [((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs]

    def fast(one, own_x):
        if dtype == torch.bfloat16:  # parameters stay float32
            one, own_x = one.float(), own_x.float()
        y = layers.conv(one, own_x)
        assert isinstance(y, Map) and y.tape.steps[-1][1].func is fourier_backward
        return y.tensor()

    plain = errors(lambda one, x: F.conv3d(x, one.weight, one.bias, padding=one.padding))
    return errors(fast), plain


@pytest.mark.parametrize("kernels_in, kernels", [(24, 24), (6, 7), (9, 6)])
@pytest.mark.parametrize("bands", [10, 11, 49, 60])
@pytest.mark.parametrize("batch, padding", [(16, 3), (35, 3), (5, 4)])
def test_convolution_and_its_gradients(kernels_in, kernels, bands, batch, padding):
    assert max(compare(torch.float64, kernels_in, kernels, bands, batch, padding)[0]) < 1e-13


def test_fewer_kernels_than_a_tile_of_products_has():
    module, x = nn.Conv3d(2, 8, (1, 1, TAPS), padding="same"), torch.randn(16, 2, 2, 3, 20)
    ours, theirs = layers.conv(module, x).tensor(), module(x)
    found = [torch.autograd.grad(y.square().sum(), module.parameters()) for y in (ours, theirs)]
    torch.testing.assert_close([ours, *found[0]], [theirs, *found[1]], rtol=1e-4, atol=1e-4)


def test_in_float32_the_error_is_a_few_roundings():
    """The transforms add roundings of their own: not many more than PyTorch's sums have."""
    fast, plain = compare(torch.float32, 24, 24, 97, 16, 3)
    assert max(fast) < 2e-6
    assert max(a / b for a, b in zip(fast, plain, strict=True)) < 8


@pytest.mark.parametrize("kernels_in, kernels", [(24, 24), (6, 8), (6, 7)])  # 7 are not in pairs
@pytest.mark.parametrize("bands", [10, 60, 97])
@pytest.mark.parametrize("batch, padding", [(16, 3), (35, 3), (5, 4)])
def test_in_bfloat16_the_error_is_a_few_roundings(kernels_in, kernels, bands, batch, padding):
    fast, _ = compare(torch.bfloat16, kernels_in, kernels, bands, batch, padding)
    assert 2**-12 < max(fast) < 2**-7


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("channels_in, channels", [(24, 24), (6, 7)])
@pytest.mark.parametrize(
    "batch, padding, bands", [(16, 3, 27), (35, 3, 10), (5, 4, 60), (5, 0, 21)]
)
def test_against_the_reference(kind, channels_in, channels, batch, padding, bands):
    module = nn.Conv3d(channels_in, channels, (1, 1, TAPS), padding=(0, 0, padding))
    check_convolution(kind, fourier_backward, module, (batch, channels_in, 2, 3, bands))
