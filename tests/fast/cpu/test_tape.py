"""Layers noted on tapes: what stays with no gradient, and when memory is freed."""

import gc
import weakref

import pytest
import torch
from torch import nn

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fast import use_fast_form
from common.fast.cpu.feature_map import Store
from common.layers import BatchNormReLU

KERNELS = 8


def layers(count: int) -> nn.ModuleList:
    torch.manual_seed(0)
    convolutions = [nn.Conv3d(KERNELS, KERNELS, (1, 1, 7), padding="same") for _ in range(count)]
    return use_fast_form(nn.ModuleList([*convolutions, BatchNormReLU(KERNELS)]))


def test_layers_whose_output_is_not_used_have_no_gradient():
    one, unused, after_it, other, bn = layers(4)
    x = one(torch.randn(3, KERNELS, 2, 2, 20))
    after_it(unused(x))
    bn(other(x)).sum().backward()
    assert one.weight.grad.any() and bn.weight.grad.any()
    assert unused.weight.grad is None and after_it.weight.grad is None


def test_frozen_parameters_have_no_gradient():
    one, other, bn = layers(2)
    one.requires_grad_(False), other.weight.requires_grad_(False)
    y = one(torch.randn(3, KERNELS, 2, 2, 20))
    assert y.tape is None
    bn(other(y)).sum().backward()
    assert one.weight.grad is None and other.weight.grad is None and other.bias.grad is not None


def test_a_map_is_read_before_and_after_it_became_a_tensor():
    one, other, _ = layers(2)
    patches = torch.randn(3, KERNELS, 2, 2, 20)
    x = one(patches)
    (x.tensor().sum() + (2 * other(x).tensor()).sum() + x.tensor().square().sum()).backward()
    found = one.weight.grad.clone()
    one.zero_grad()
    y = one._conv_forward(patches, one.weight, one.bias)
    z = other._conv_forward(y, other.weight, other.bias)
    (y.sum() + (2 * z).sum() + y.square().sum()).backward()
    torch.testing.assert_close(found, one.weight.grad, rtol=1e-4, atol=1e-3)


def test_a_second_backward_pass_is_told():
    one, _ = layers(1)
    y = one(torch.randn(3, KERNELS, 2, 2, 20)).sum()
    y.backward()
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()


def test_maps_are_freed_without_a_search_for_circles(monkeypatch):
    made, of = [], Store.__init__

    def init(self, *arguments):
        of(self, *arguments)
        made.append(weakref.ref(self))

    monkeypatch.setattr(Store, "__init__", init)
    model = use_fast_form(A2S2KResNet(20, classes=3, kernels=KERNELS))
    model(torch.randn(2, 1, 5, 5, 20)).sum().backward()  # what Numba compiles leaves circles
    made.clear()
    gc.collect()
    gc.disable()
    try:
        model(torch.randn(2, 1, 5, 5, 20)).sum().backward()
        assert len(made) > 20 and all(store() is None for store in made)
    finally:
        gc.enable()
