"""The channels-last form of both networks is the same function as the plain one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fused import use_fast_form
from SSRN.SSRN import SSRN


def both_forms(network, bands: int, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = network(bands, classes=5, kernels=8).to(dtype)
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    fast = use_fast_form(copy.deepcopy(plain))
    return plain, fast


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
@pytest.mark.parametrize("bands", [7, 19, 20, 60])  # at 19 and 20 the blocks are 7 bands deep
def test_training_step_is_the_same(network, bands):
    plain, fast = both_forms(network, bands, torch.float64)
    patches = torch.randn(6, 1, 7, 7, bands, dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 3, 4, 0])
    for model in (plain, fast):
        F.cross_entropy(model(patches), labels).backward()
    for (name, parameter), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(
            other.grad, parameter.grad, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )
    for (name, buffer), other in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(other, buffer, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
@pytest.mark.parametrize("training", [True, False])
def test_logits_are_the_same_in_float32(network, training):
    plain, fast = both_forms(network, 60, torch.float32)
    patches = torch.randn(6, 1, 7, 7, 60)
    plain.train(training), fast.train(training)
    torch.testing.assert_close(fast(patches), plain(patches), rtol=1e-5, atol=1e-5)


def test_weights_go_from_one_form_to_the_other():
    plain, fast = both_forms(SSRN, 60, torch.float32)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(fast.state_dict())
