"""What is kept of the attention: its weights per class, and a network that is left as it was."""

import numpy as np
import pytest
import torch

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fast import use_fast_form
from common.layers import WeightedSum
from common.samples.patches import Patches
from common.training.attention_maps import PATCHES_PER_CLASS, weights_per_class
from common.training.predict import logits
from SSRN.SSRN import SSRN
from tests.conftest import toy_labels

LAYERS = ["attention", "spatial_block_1.efr", "spatial_block_2.efr"]
LAYERS += ["spectral_block_1.efr", "spectral_block_2.efr"]


def network(attention="paper", fast=False):
    torch.manual_seed(0)
    model = A2S2KResNet(bands=20, classes=7, kernels=4, attention=attention)
    for parameter in model.parameters():  # else all weights are near one half
        parameter.data += 0.3 * torch.randn_like(parameter)
    return use_fast_form(model, torch.device("cpu"), torch.float32) if fast else model


@pytest.fixture(scope="module")
def patches():
    cube = np.random.default_rng(1).normal(size=(40, 36, 20))
    return Patches.of_cube(cube, 2, torch.device("cpu"))


@pytest.fixture(scope="module")
def pixels():
    """Pixels of classes 1..5 but not 4, with more than are looked at of each."""
    labels = toy_labels().ravel()
    chosen = np.flatnonzero((labels > 0) & (labels != 4))
    chosen = np.random.default_rng(2).permutation(chosen)
    return chosen, labels[chosen]


@pytest.mark.parametrize("fast", [False, True])
def test_weights_equal_a_direct_computation(patches, pixels, fast):
    model = network(fast=fast)
    found = weights_per_class(model, patches, 7, *pixels)
    assert sorted(found) == LAYERS
    layers = dict(model.named_modules())
    for name, weights in found.items():
        assert weights.shape == (7, 2 if name == "attention" else 1, 4)
        assert np.isnan(weights[[3, 5, 6]]).all()  # classes without a pixel

    for label in (1, 5):
        chosen = pixels[0][pixels[1] == label][:PATCHES_PER_CLASS]
        assert len(chosen) == PATCHES_PER_CLASS
        for name in LAYERS:
            maps = []
            hook = layers[name].register_forward_pre_hook(
                lambda layer, inputs, maps=maps: maps.append(inputs)
            )
            with torch.no_grad():
                model.eval()(patches.gather(torch.from_numpy(chosen)))
            hook.remove()
            averages = torch.stack([x.mean(dim=(2, 3, 4)) for x in maps[0]])
            expected = layers[name].weights(averages).mean(dim=1).detach()
            np.testing.assert_allclose(found[name][label - 1], expected, atol=1e-5)


def test_branches_share_the_weight(patches, pixels):
    weights = weights_per_class(network(), patches, 5, *pixels)["attention"]
    used = [0, 1, 2, 4]
    np.testing.assert_allclose(weights[used].sum(axis=1), 1, atol=1e-5)
    assert np.ptp(weights[used]) > 0.01


def test_official_attention_gives_each_branch_one_half(patches, pixels):
    weights = weights_per_class(network("official"), patches, 5, *pixels)["attention"]
    np.testing.assert_allclose(weights[[0, 1, 2, 4]], 0.5, atol=1e-6)


@pytest.mark.parametrize("fast", [False, True])
def test_the_network_is_left_as_it_was(patches, pixels, fast):
    model = network(fast=fast)
    some = torch.from_numpy(pixels[0][:40])
    before = logits(model, patches, some)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights_per_class(model, patches, 5, *pixels)
    for layer in model.modules():
        assert not isinstance(layer, WeightedSum) or "weights" not in vars(layer)
    assert torch.equal(logits(model, patches, some), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_networks_and_splits_without_any(patches, pixels):
    model = SSRN(bands=20, classes=5, kernels=4)
    assert weights_per_class(model, patches, 5, *pixels) == {}
    nothing = np.empty(0, np.int64)
    assert weights_per_class(network(), patches, 5, nothing, nothing) == {}
