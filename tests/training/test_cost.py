"""Learned parameters and multiply-adds, against a count of each layer by hand."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from baselines.CNN import CNN
from common.training.classifier import Cost
from common.training.cost import network_cost
from SSRN.SPC import SPC
from SSRN.SSRN import SSRN
from tests.networks.HybridSN import HybridSN
from tests.networks.own_networks import Custom, Mixture, Spectrum, Transformer

ARGUMENTS = {"bands": 60, "classes": 5}


def by_hand(model: nn.Module, half_width: int) -> int:
    """Multiply-adds of all convolutions and linear layers for one patch, by their shapes."""
    found = []

    def count(layer: nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        of_a_number = math.prod(layer.weight.shape[1:])
        found.append(output[0].numel() * of_a_number)

    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Conv3d, nn.Linear)):
            layer.register_forward_hook(count)
    width = 2 * half_width + 1
    with torch.no_grad():
        model.eval()(torch.zeros(1, 1, width, width, ARGUMENTS["bands"]))
    return sum(found)


@pytest.mark.parametrize(("network", "half_width"), [(SSRN, 2), (SSRN, 3), (SPC, 2), (CNN, 13)])
def test_patches_are_counted_layer_by_layer(network, half_width):
    cost, model = network_cost(network, ARGUMENTS, half_width), network(**ARGUMENTS)
    assert cost.macs_per_pixel == by_hand(model, half_width)
    assert cost.parameters == sum(p.numel() for p in model.parameters())


def test_it_is_the_sum_of_pytorchs_own_counter():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        A2S2KResNet(**ARGUMENTS).eval()(torch.zeros(1, 1, 7, 7, 60))
    assert network_cost(A2S2KResNet, ARGUMENTS, 3).macs_per_pixel == counter.get_total_flops() // 2


def test_what_patches_share_is_counted_once():
    """Of a patch of SSRN the spectral half sees 49 pixels and the stem 25 windows."""
    model = SSRN(**ARGUMENTS).eval()
    spectral = by_hand_of(model.spectral, torch.zeros(1, 1, 1, 1, 60))
    stem = by_hand_of(model.spatial_stem, torch.zeros(1, 1, 3, 3, 128))
    cost = network_cost(SSRN, ARGUMENTS, 3)
    assert cost.macs_per_pixel - cost.macs_per_pixel_dense == 48 * spectral + 24 * stem
    assert network_cost(A2S2KResNet, ARGUMENTS, 3).macs_per_pixel_dense is None


def by_hand_of(function, batch: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        function(batch)
    return counter.get_total_flops() // 2


def test_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    network_cost(SSRN, ARGUMENTS, 2)
    assert torch.equal(torch.rand(2), expected)


def test_a_network_made_for_one_size_of_patches():
    arguments = ARGUMENTS | {"patch_size": 9}
    assert network_cost(HybridSN, arguments, 4).macs_per_pixel == by_hand(HybridSN(**arguments), 4)


@pytest.mark.parametrize("network", [Custom, Mixture, Spectrum, Transformer])
def test_networks_of_ones_own(network):
    cost = network_cost(network, ARGUMENTS, 3)
    assert cost.parameters and cost.macs_per_pixel


class Refusing(nn.Linear):
    def __init__(self, bands: int, classes: int) -> None:
        super().__init__(bands, classes)

    def forward(self, patches: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("only when all is there")


def test_what_cannot_be_counted_is_left_out():
    assert network_cost(Refusing, ARGUMENTS, 2) == Cost(parameters=60 * 5 + 5)
