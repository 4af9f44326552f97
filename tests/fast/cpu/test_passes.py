"""Passes over feature maps between convolutions, against `reference.py`."""

import numpy as np
import pytest
import torch

from common.fast.cpu import layers, passes, reference
from common.fast.cpu.feature_map import Store, floors
from common.fast.cpu.reading import Norm
from common.layers import BatchNormReLU
from tests.fast.cpu.against_reference import ERRORS, KINDS, error, numbers, random, store

CHANNELS = 7
BATCHES = [16, 35, 5]
ALL_RELUS = [(False, False), (False, True), (True, False), (True, True)]
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)
batches = pytest.mark.parametrize("batch", BATCHES)
relus = pytest.mark.parametrize("relus", ALL_RELUS, ids=str)


def shape(batch: int) -> tuple[int, ...]:
    return batch, CHANNELS, 3, 2, 11


def normalised(kind: torch.dtype, batch: int, *relus: bool) -> tuple[Store, np.ndarray, tuple]:
    """A map that is read through a norm, its numbers, and the norm as the reference takes it."""
    x = random(*shape(batch))
    out, arrays = store(x, kind), [random(CHANNELS, seed=seed) for seed in (1, 2)]
    limits = [0 if relu else -np.inf for relu in relus]
    own = (array.astype(out.norm.scale.dtype) for array in arrays)
    out.norm = Norm(True, *own, *floors(out.array, *relus))
    return out, x, (*arrays, *limits)


@kinds
@batches
@relus
def test_batch_norm_and_its_gradients(kind, batch, relus):
    relu_before, relu = relus
    module = BatchNormReLU(CHANNELS, relu_before=relu_before, relu=relu).to(numbers(kind))
    module.map_dtype = kind
    weight, bias, mean = (random(CHANNELS, seed=seed) for seed in (1, 2, 3))
    variance = random(CHANNELS, seed=4) ** 2
    x, seed = random(*shape(batch)), random(*shape(batch), seed=5)
    state = {"weight": weight, "bias": bias, "running_mean": mean, "running_var": variance}
    state = {name: torch.from_numpy(values.copy()) for name, values in state.items()}
    module.load_state_dict(module.state_dict() | state)
    how = weight, bias, module.eps, relu_before, relu
    truth, batch_mean, batch_variance = reference.batch_norm(x, *how)
    inputs = torch.from_numpy(x).to(numbers(kind)).requires_grad_()
    out = layers.batch_norm_relu(module, inputs).tensor()
    wanted = [inputs, module.weight, module.bias]
    found = torch.autograd.grad(out, wanted, torch.from_numpy(seed).to(out.dtype))
    truths = [truth, *reference.batch_norm_backward(seed, x, *how)]
    errors = [error(a, b) for a, b in zip([out, *found], truths, strict=True)]
    assert max(errors) < ERRORS[kind]
    running = reference.running_statistics(
        np.stack([mean, variance]), batch_mean, batch_variance, x.size // CHANNELS, module.momentum
    )
    for buffer, values in zip([module.running_mean, module.running_var], running, strict=True):
        assert error(buffer, values) < ERRORS[kind]


def test_nothing_to_divide_by_is_infinite_as_in_pytorch():
    """Running statistics of a channel that never varied, and not even eps."""
    plain = torch.nn.BatchNorm3d(2, eps=0.0).eval()
    plain.running_var.zero_()
    module = BatchNormReLU(2, relu=False).eval()
    module.load_state_dict(plain.state_dict())
    module.eps = 0.0
    x = torch.arange(-1.0, 1.0).reshape(1, 2, 1, 1, 1).expand(3, 2, 2, 2, 4).contiguous()
    found = layers.batch_norm_relu(module, x).tensor()
    assert not torch.isfinite(found).any()
    assert not torch.isfinite(plain(x)).any()


@kinds
@batches
@relus
def test_a_map_is_materialised(kind, batch, relus):
    x, values, norm = normalised(kind, batch, *relus)
    found = Store(x.materialised(), batch).tensor()
    assert error(found, reference.normalise(values, *norm)) < ERRORS[kind]


@kinds
@batches
@relus
@pytest.mark.parametrize("weighted", [False, True])
def test_a_gradient_is_materialised(kind, batch, relus, weighted):
    x, values, norm = normalised(kind, batch, *relus)
    array, other, output = (random(*shape(batch), seed=seed) for seed in (3, 4, 5))
    weight, constant = np.ones((batch, CHANNELS)), np.zeros((batch, CHANNELS))
    if weighted:
        weight, constant = (random(batch, CHANNELS, seed=seed) for seed in (6, 7))
    slope, shift = (random(CHANNELS, seed=seed) for seed in (8, 9))
    how = {"map": x.array, **x.norm._asdict()}
    how |= {name: v.astype(x.norm.scale.dtype) for name, v in [("slope", slope), ("shift", shift)]}
    how |= {"weight": x.per_lane(weight), "constant": x.per_lane(constant), "weighted": weighted}
    x.add_gradient(store(array, kind).array, **how)
    x.add_gradient(store(other, kind).array)
    found = Store(x.take_gradient_array(store(output, kind).array), batch).tensor()
    truth = reference.gradient(array, weight, constant, norm, values, slope, shift) + other
    assert error(found, truth * (output > 0)) < ERRORS[kind]


@kinds
@batches
@relus
def test_sums_of_a_gradient(kind, batch, relus):
    x, values, norm = normalised(kind, batch, *relus)
    array = random(*shape(batch), seed=3)
    x.add_gradient(store(array, kind).array)
    sums = passes.gradient_sums(x.source, x.take_gradient(), 1)
    found = sums[0, :, :, :batch].sum(axis=2)
    assert error(found, reference.gradient_sums(array, norm, values)) < ERRORS[kind]


@kinds
@batches
@relus
def test_sums_over_patches(kind, batch, relus):
    x, values, norm = normalised(kind, batch, *relus)
    other, read = random(*shape(batch), seed=3), reference.normalise(values, *norm)
    assert error(x.patch_sums(), reference.patch_sums(read)) < ERRORS[kind]
    found = x.patch_sums(store(other, kind).array)
    assert error(found, reference.patch_sums(read, other)) < ERRORS[kind]


@kinds
@batches
@pytest.mark.parametrize("relu", [False, True])
def test_a_weighted_sum(kind, batch, relu):
    x, values, norm = normalised(kind, batch, True, False)
    other = random(*shape(batch), seed=3)
    weight, weight_y = (random(batch, CHANNELS, seed=seed) for seed in (4, 5))
    y, out = store(other, kind), Store(x.empty(), batch)
    (floor,) = floors(out.array, relu)
    in_lanes = x.per_lane(weight), x.per_lane(weight_y)
    passes.weigh(x.source, in_lanes[0], y.source, in_lanes[1], floor, out.array, 1)
    read = reference.normalise(values, *norm)
    truth = reference.weighted_sum(read, weight, other, weight_y, float(floor))
    assert error(out.tensor(), truth) < ERRORS[kind]


@pytest.mark.parametrize("kind", KINDS[:2], ids=str)
@batches
def test_gates_and_their_gradients(kind, batch):
    x, count = store(random(*shape(batch)), kind), 66
    sums, of_gates = (random(batch, CHANNELS, seed=seed) for seed in (1, 2))
    weight = random(3)
    own = weight.astype(x.array.dtype)
    lanes = (x.per_lane(values, 0) for values in (sums, of_gates))
    averages, gates = passes.gates(next(lanes), count, own)
    found = passes.gates_backward(next(lanes), averages, gates, count, own, batch)
    truth = reference.gates_backward(of_gates, sums / count, weight)
    assert error(averages.T[:batch], sums / count) < ERRORS[kind]
    assert error(gates.T[:batch], reference.gates(sums / count, weight)) < ERRORS[kind]
    assert error(found[0].T[:batch], truth[0] / count) < ERRORS[kind]
    assert error(found[1], truth[1]) < ERRORS[kind]


def test_bfloat16_is_rounded_to_nearest_even():
    special = [0.0, -0.0, 1e38, 1 + 2**-8, 1 + 3 * 2**-8, torch.inf, -torch.inf, torch.nan]
    values = torch.cat([torch.randn(1000), torch.tensor(special)])
    x = Store(values.numpy().reshape(1, 1, 1, -1, 16), 16)
    out = np.empty(x.array.shape, np.uint16)
    passes.materialise(x.source, out, 1)
    found = torch.from_numpy(out).view(torch.bfloat16).flatten()
    torch.testing.assert_close(found, values.bfloat16(), rtol=0, atol=0, equal_nan=True)
