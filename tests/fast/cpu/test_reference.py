"""The reference is the mathematics of PyTorch's layers."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.fast.cpu import reference
from common.layers import BatchNormReLU, GatedSum
from tests.fast.cpu.against_reference import random

SHAPE = (3, 4, 5, 6, 11)  # batch, channels, rows, cols, bands


def assert_same(found, truth):
    for one, other in zip(found, truth, strict=True):
        np.testing.assert_allclose(one, other.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "size, padding, stride",
    [((1, 1, 7), (0, 0, 3), 1), ((3, 2, 4), (1, 0, 2), 2), ((3, 3, 11), (2, 1, 0), 1)],
)
def test_convolution(size, padding, stride):
    module = nn.Conv3d(4, 5, size, stride=(1, 1, stride), padding=padding).double()
    x = torch.from_numpy(random(*SHAPE)).requires_grad_()
    out, parameters = module(x), [module.weight.detach().numpy(), module.bias.detach().numpy()]
    assert_same([reference.conv(x.detach().numpy(), *parameters, padding, stride)], [out])
    seed = random(*out.shape, seed=1)
    truth = torch.autograd.grad(out, [x, module.weight, module.bias], torch.from_numpy(seed))
    found = reference.conv_backward(seed, x.detach().numpy(), parameters[0], padding, stride)
    assert_same(found, truth)


def test_a_row_by_fourier_transforms_is_the_convolution():
    x, taps = random(16), random(7)
    np.testing.assert_allclose(reference.row_by_fourier(x, taps), np.correlate(x, taps, "valid"))


@pytest.mark.parametrize("relu_before", [False, True])
@pytest.mark.parametrize("relu", [False, True])
def test_batch_norm(relu_before, relu):
    module = BatchNormReLU(4, relu_before=relu_before, relu=relu).double()
    weight, bias = random(4, seed=1), random(4, seed=2)
    module.load_state_dict(
        module.state_dict() | {"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)}
    )
    x = torch.from_numpy(random(*SHAPE)).requires_grad_()
    seed, how = random(*SHAPE, seed=3), (weight, bias, module.eps, relu_before, relu)
    y = module(x)
    out, mean, variance = reference.batch_norm(x.detach().numpy(), *how)
    assert_same([out], [y])
    truth = torch.autograd.grad(y, [x, module.weight, module.bias], torch.from_numpy(seed))
    assert_same(reference.batch_norm_backward(seed, x.detach().numpy(), *how), truth)
    running = np.stack([np.zeros(4), np.ones(4)])
    count = x.numel() // 4
    found = reference.running_statistics(running, mean, variance, count, module.momentum)
    assert_same(found, [module.running_mean, module.running_var])


@pytest.mark.parametrize("floors", [(-np.inf, 0.0), (0.0, -np.inf), (0.0, 0.0)])
def test_a_norm_and_its_gradient(floors):
    scale, offset = random(4, seed=1), random(4, seed=2)
    x, seed = torch.from_numpy(random(*SHAPE)).requires_grad_(), random(*SHAPE, seed=3)
    by_channel = (torch.from_numpy(v)[:, None, None, None] for v in (scale, offset))
    inner = F.relu(x) if floors[0] == 0 else x
    y = inner * next(by_channel) + next(by_channel)
    y = F.relu(y) if floors[1] == 0 else y
    norm = (scale, offset, *floors)
    assert_same([reference.normalise(x.detach().numpy(), *norm)], [y])
    none, one = np.zeros((3, 4)), np.ones((3, 4))
    found = reference.gradient(seed, one, none, norm, x.detach().numpy(), none[0], none[0])
    assert_same([found], torch.autograd.grad(y, x, torch.from_numpy(seed)))


def test_gates():
    averages, weight = (torch.from_numpy(random(*s)).requires_grad_() for s in [(3, 6), (3,)])
    seed, arrays = random(3, 6, seed=1), (averages.detach().numpy(), weight.detach().numpy())
    gated = GatedSum()
    del gated.weight
    gated.weight = weight  # no leaf, so that it can be any tensor
    out = gated.weights(averages)
    assert_same([reference.gates(*arrays)], [out])
    truth = torch.autograd.grad(out, [averages, weight], torch.from_numpy(seed))
    assert_same(reference.gates_backward(seed, *arrays), truth)
