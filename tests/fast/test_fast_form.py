"""The fast form of both networks is the same function as the plain one."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from A2S2KResNet.A2S2KResNet import A2S2KResNet
from common.fast import prepare, use_fast_form
from common.layers import BatchNormReLU, ConvBNReLU
from SSRN.CNNL import CNNL
from SSRN.SPA import SPA
from SSRN.SPC import SPC
from SSRN.SSRN import SSRN
from SSRN.SSRNKeras import SSRNKeras
from SSRN.SSRNLeaky import SSRNLeaky

NETWORKS = [A2S2KResNet, SSRN, SSRNKeras, SSRNLeaky, SPC, SPA, CNNL]


def both_forms(
    network, bands: int, dtype: torch.dtype, kernels: int = 8
) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = network(bands, classes=5, kernels=kernels).to(dtype)
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    fast = use_fast_form(copy.deepcopy(plain))
    return plain, fast


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("bands", [7, 8, 19, 20, 60])  # at 19 and 20 the blocks are 7 bands deep
def test_training_step_is_the_same(network, bands):
    check_training_step(network, bands, kernels=8, batch=6)


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
@pytest.mark.parametrize("kernels, batch", [(24, 16), (7, 17), (6, 32), (5, 33)])
def test_training_step_is_the_same_for_any_kernels_and_batch(network, kernels, batch):
    check_training_step(network, 60, kernels, batch)


def check_training_step(network, bands, kernels, batch):
    plain, fast = both_forms(network, bands, torch.float64, kernels)
    patches = torch.randn(batch, 1, 7, 7, bands, dtype=torch.float64)
    labels = torch.arange(batch) % 5
    for model in (plain, fast):
        F.cross_entropy(model(patches), labels).backward()
    for (name, parameter), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(
            other.grad, parameter.grad, rtol=1e-9, atol=1e-11, msg=lambda m, n=name: f"{n}: {m}"
        )
    for (name, buffer), other in zip(plain.named_buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(other, buffer, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("bands", [7, 8, 9, 60])
def test_logits_are_the_same_in_float32(network, training, bands):
    plain, fast = both_forms(network, bands, torch.float32)
    patches = torch.randn(6, 1, 7, 7, bands)
    plain.train(training), fast.train(training)
    torch.testing.assert_close(fast(patches), plain(patches), rtol=1e-5, atol=1e-5)


def test_weights_go_from_one_form_to_the_other():
    plain, fast = both_forms(SSRN, 60, torch.float32)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(fast.state_dict())


@pytest.mark.parametrize("network", [A2S2KResNet, SSRN])
def test_bfloat16_is_as_near_to_float32_as_pytorchs_own(network):
    plain, _ = both_forms(network, 60, torch.float32)
    automatic = copy.deepcopy(plain)
    ours = use_fast_form(copy.deepcopy(plain), dtype=torch.bfloat16)
    patches, labels = torch.randn(16, 1, 7, 7, 60), torch.arange(16) % 5

    def gradient_and_logits(model, autocast):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            scores = model.train()(patches).float()
        F.cross_entropy(scores, labels).backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = model.eval()(patches)
        return torch.cat([p.grad.flatten() for p in model.parameters()]), logits

    expected_gradient, expected_logits = gradient_and_logits(plain, autocast=False)
    errors = []
    for model, autocast in [(automatic, True), (ours, False)]:
        gradient, logits = gradient_and_logits(model, autocast)
        angle = 1 - F.cosine_similarity(gradient, expected_gradient, dim=0)
        errors.append((angle, (logits - expected_logits).std()))
    assert logits.dtype == torch.float32
    assert 0 < errors[1][0] < 1.5 * errors[0][0]
    assert 0 < errors[1][1] < errors[0][1]


def test_gradients_in_evaluation_mode():
    plain, fast = both_forms(SSRN, 20, torch.float64)
    patches = torch.randn(3, 1, 5, 5, 20, dtype=torch.float64)
    gradients = []
    for model in (plain.eval(), fast.eval()):
        x = patches.clone().requires_grad_()
        model(x).square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*gradients)


def test_number_of_threads_stays():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    use_fast_form(SSRN(20, 3, 4))
    assert torch.get_num_threads() == 1
    torch.set_num_threads(threads)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_network_of_other_layers(dtype):
    plain = nn.Sequential(
        nn.Conv3d(1, 6, (3, 3, 5), stride=(2, 1, 2), padding=(1, 0, 0)),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.Conv3d(6, 6, (3, 3, 1), stride=(2, 2, 1)),
        nn.Conv3d(6, 6, (3, 1, 1), dilation=(2, 1, 1), groups=3, padding="same", bias=False),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, 3),
    )
    fast = use_fast_form(copy.deepcopy(plain), dtype=dtype)
    patches = torch.randn(4, 1, 9, 9, 5)
    tolerance = 1e-5 if dtype is None else 0.02
    torch.testing.assert_close(fast(patches), plain(patches), rtol=tolerance, atol=tolerance)


def test_compiling_leaves_network_and_random_numbers_alone():
    _, fast = both_forms(SSRN, 20, torch.float32)
    before = {name: value.clone() for name, value in fast.state_dict().items()}
    state = torch.get_rng_state()
    prepare(fast, torch.randn(2, 1, 5, 5, 20, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in fast.state_dict().items())
    assert all(parameter.grad is None for parameter in fast.parameters())


def test_the_same_sum_a_hundred_times():
    """Memory that is freed too early shows now and then only."""
    torch.manual_seed(0)
    plain = A2S2KResNet(60, classes=5, kernels=8).attention
    fast = use_fast_form(copy.deepcopy(plain))
    for _ in range(100):
        maps = torch.randn(2, 6, 8, 7, 7, 27)
        torch.testing.assert_close(fast(*maps).tensor(), plain(*maps), rtol=1e-4, atol=1e-5)


class Mixed(nn.Module):
    """A network that does to feature maps what the layers of this project's do not."""

    def __init__(self):
        super().__init__()
        self.first = ConvBNReLU(1, 8, (1, 1, 7), stride=(1, 1, 2))
        self.second = nn.Conv3d(8, 8, (1, 1, 7), padding="same")
        self.bn = BatchNormReLU(8)
        self.again = BatchNormReLU(8, relu=False)

    def forward(self, patches):
        x = self.first(patches)
        y = self.again(self.bn(self.second(x)))  # a batch norm of a batch norm
        z = torch.cat([x + y, 2 * x - y, -y[:, :3] / 3, F.relu(y)], dim=1)
        return z.mean(dim=(2, 3, 4)) + self.second(y).amax(dim=(2, 3, 4)).sum(1, keepdim=True)


def test_to_other_functions_a_map_is_a_tensor():
    torch.manual_seed(0)
    plain = Mixed().double()
    fast = use_fast_form(copy.deepcopy(plain))
    patches = torch.randn(5, 1, 5, 5, 30, dtype=torch.float64)
    results = []
    for model in (plain, fast):
        out = model(patches)
        out.square().sum().backward()
        results.append([out, *(p.grad for p in model.parameters())])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
