"""The forms of SSRN that its authors released: sizes, shapes, initial weights."""

import pytest
import torch
from torch import nn

from common.samples.patches import Patches
from common.training.predict import logits
from SSRN.SSRNKeras import SSRNKeras
from SSRN.SSRNLeaky import SSRNLeaky

FORMS = [SSRNKeras, SSRNLeaky]


@pytest.mark.parametrize(
    ("network", "bands", "classes", "parameters"),
    [
        (SSRNKeras, 200, 16, 346_144),
        (SSRNKeras, 103, 9, 198_513),
        (SSRNLeaky, 200, 16, 735_884),  # what the released file holds besides statistics
    ],
)
def test_parameter_count(network, bands, classes, parameters):
    assert sum(p.numel() for p in network(bands, classes).parameters()) == parameters


@pytest.mark.parametrize("network", FORMS)
@pytest.mark.parametrize("size", [5, 7, 9, 11])
@pytest.mark.parametrize("bands", [7, 30, 31])
def test_every_odd_patch_and_any_bands(network, size, bands):
    scores = network(bands, classes=3, kernels=4).eval()(torch.zeros(2, 1, size, size, bands))
    assert scores.shape == (2, 3)


@pytest.mark.parametrize("network", FORMS)
@pytest.mark.parametrize("shape", [(1, 6, 6), (1, 3, 3), (1, 5, 7), (2, 5, 5)])
def test_patches_without_a_centre_or_too_small_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"must be \(batch, 1, P, P, bands\), P odd"):
        network(30, classes=3)(torch.zeros(2, *shape, 30))


@pytest.mark.parametrize("network", FORMS)
def test_position_by_position_gives_the_logits_of_patches(network):
    torch.manual_seed(0)
    model = network(21, classes=3, kernels=4).eval()
    patches = Patches.of_cube(torch.randn(9, 8, 21).numpy(), 3, torch.device("cpu"))
    pixels = torch.tensor([0, 7, 30, 31, 38, 71])
    expected = model(patches.gather(pixels))
    torch.testing.assert_close(logits(model, patches, pixels), expected, rtol=1e-4, atol=1e-5)


def test_keras_form_starts_as_keras_does():
    torch.manual_seed(0)
    model = SSRNKeras(200, 16)
    weight = model.spectral_collapse.conv.weight.detach()
    std = (2 / (24 * 97)) ** 0.5  # "he_normal": cut off at two of them, which leaves 0.88 of one
    assert weight.abs().max() <= 2 * std
    assert weight.std().item() == pytest.approx(0.88 * std, rel=0.01)
    assert not model.classifier.bias.any() and not model.spatial_block.shortcut.bias.any()
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm3d)]
    assert len(norms) == 9
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}
