"""To a network's own code a feature map is the tensor that PyTorch's layer would have returned."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.fast import pytorch, use_fast_form
from common.fast.feature_map import FeatureMap
from common.fast.replaced import use_layers

BACKENDS = {"cpu": use_fast_form, "pytorch": lambda network: use_layers(network, pytorch, None)}


def in_place(x):
    x += 1
    x[:, 0] = 2
    return x


def in_place_by_another_name(x):
    y = x.relu_()
    return x * y


def looked_at_without_a_gradient(x):
    with torch.no_grad():
        x.mul_(2)
        largest = x.max()
    return x / largest


def viewed(x):
    return x.view(len(x), -1)[:, ::3]


def compared(x):
    return torch.where(x > 0.1, x, -x) ** 2 - 1 / (2 + abs(x))


def sized(x):
    batch, channels = x.size()[:2]
    assert x.dim() == x.ndim == 5 and x.shape[1] == x.size(1) == channels
    return x.reshape(batch, channels, -1).softmax(dim=2)


USES = [in_place, in_place_by_another_name, looked_at_without_a_gradient, viewed, compared, sized]
USES += [F.relu_, lambda x: torch.cat([x, x.detach()]), lambda x: F.dropout(x, 0.5)]


class Network(nn.Module):
    """Layers that read a map after `use` has looked at it."""

    def __init__(self, use):
        super().__init__()
        self.use, self.conv = use, nn.Conv3d(1, 8, (1, 1, 5))
        self.after, self.bn = nn.Conv3d(8, 8, (1, 1, 7), padding="same"), nn.BatchNorm3d(8)

    def forward(self, x):
        x = self.bn(self.conv(x))
        used = self.use(x)
        return used.square().sum() + self.after(x).amax(dim=(2, 3, 4)).sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("use", USES)
def test_a_map_is_a_tensor_to_others(use, backend):
    torch.manual_seed(0)
    plain = Network(use).double()
    fast = BACKENDS[backend](copy.deepcopy(plain))
    patches, found = torch.randn(3, 1, 3, 3, 24, dtype=torch.float64), []
    for network in (plain, fast):
        torch.manual_seed(1)
        out = network(patches)
        out.backward()
        found.append([out, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_of_maps_can_be_looked_at_and_changed(backend):
    plain = nn.Sequential(nn.Conv3d(1, 8, (1, 1, 5)), nn.BatchNorm3d(8)).double()
    fast, found = BACKENDS[backend](copy.deepcopy(plain)), []
    patches = torch.randn(3, 1, 3, 3, 24, dtype=torch.float64)
    for network in (plain, fast):
        x = network[0](patches)
        x.retain_grad()
        x.register_hook(lambda gradient: 2 * gradient)
        out = network[1](x)
        assert isinstance(out, FeatureMap) == (network is fast)
        (out**3).sum().backward()
        found.append([x.grad, *(p.grad for p in network.parameters())])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


def test_in_bfloat16_others_see_float32():
    network = nn.Sequential(nn.Conv3d(1, 8, (1, 1, 5)), nn.BatchNorm3d(8), nn.Conv3d(8, 8, 3))
    for form in ("cpu", "pytorch"):
        fast = copy.deepcopy(network)
        if form == "cpu":
            use_fast_form(fast, dtype=torch.bfloat16)
        else:
            use_layers(fast, pytorch, torch.bfloat16)
        out = fast(torch.randn(3, 1, 3, 3, 24))
        assert out.mean(dim=(2, 3, 4)).dtype == torch.float32
        assert F.relu(out).dtype == torch.float32
        assert F.relu(out).is_contiguous()
