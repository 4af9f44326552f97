"""Which modules the fast layers stand in for, and what they leave to PyTorch when called."""

import copy

import pytest
import torch
from torch import nn

from common.fast import use_fast_form
from common.fast.replaced import in_fast_form
from common.layers import BatchNormReLU, ConvBNReLU, GatedSum, WeightedSum
from tests.networks.own_networks import Custom, HalfSum, MeanWeights, Mixture

CHANNELS = 8


@pytest.mark.parametrize(
    ("network", "replaced"),
    [
        (Mixture, {"stem", "norms.2", "block", "down"} - {"norms.2"}),
        (Custom, {"stem.conv", "stem.bn", "plain", "bn", "sums.1", "sums.2", "sums.3"}),
    ],
)
def test_only_what_is_exactly_known_is_replaced(network, replaced):
    assert in_fast_form(use_fast_form(network(30, 4))).keys() == replaced


def test_a_hook_on_the_whole_network_hinders_nothing_but_one_on_a_block_does():
    network = nn.Sequential(nn.Sequential(ConvBNReLU(1, 4, (1, 1, 3))), nn.Conv3d(4, 4, 1))
    network.register_forward_pre_hook(lambda module, inputs: None)
    assert in_fast_form(use_fast_form(network)).keys() == {"0.0.conv", "0.0.bn", "1"}
    network[0].register_full_backward_hook(lambda module, inputs, outputs: None)
    assert in_fast_form(use_fast_form(network)).keys() == {"1"}


def test_a_forward_pass_of_the_object_itself_stays():
    convolution = nn.Conv3d(4, 4, 1)
    convolution.forward = lambda x: x
    assert not in_fast_form(use_fast_form(nn.Sequential(convolution)))


def both(layer: nn.Module) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    layer = layer.double()
    return layer, use_fast_form(copy.deepcopy(layer))


def random(*shape) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def test_what_the_layers_do_not_expect_is_done_by_pytorch():
    plain, fast = both(nn.Conv3d(CHANNELS, CHANNELS, (1, 1, 7), padding="same"))
    for shape in [(CHANNELS, 2, 2, 9), (3, CHANNELS, 2, 2, 9)]:  # one without a batch
        x = random(*shape)
        torch.testing.assert_close(fast(input=x) + 0, plain(x))
    plain, fast = both(BatchNormReLU(CHANNELS))
    x, broadcast = random(3, CHANNELS, 2, 2, 9), random(1, CHANNELS, 1, 1, 1)
    torch.testing.assert_close(fast(x, broadcast) + 0, plain(x, broadcast))
    torch.testing.assert_close(fast(x, x) + 0, plain(x, x))
    plain, fast = both(MeanWeights(CHANNELS))
    three = [random(3, CHANNELS, 2, 2, 9) for _ in range(3)]
    torch.testing.assert_close(fast(*three) + 0, plain(*three))
    small = random(3, CHANNELS, 1, 1, 1)
    torch.testing.assert_close(fast(small, three[0]) + 0, plain(small, three[0]))


@pytest.mark.parametrize(
    ("layer", "shape", "kind"),
    [
        (nn.Conv3d(4, 8, 1), (2, 3, 1, 1, 9), torch.float32),  # other channels
        (nn.Conv3d(4, 8, 1), (2, 4, 1, 1, 9), torch.float64),  # another type
        (BatchNormReLU(4), (2, 3, 1, 1, 9), torch.float32),
        (BatchNormReLU(4), (1, 4, 1, 1, 1), torch.float32),  # one number has no variance
    ],
)
def test_pytorchs_errors_stay(layer, shape, kind):
    with pytest.raises((RuntimeError, ValueError)):
        layer(torch.zeros(shape, dtype=kind))
    with pytest.raises((RuntimeError, ValueError)):
        use_fast_form(copy.deepcopy(layer))(torch.zeros(shape, dtype=kind))


class Shared(nn.Module):
    """Sums that weigh the same map, one of them twice."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, CHANNELS, (1, 1, 3))
        self.sums = nn.ModuleList([MeanWeights(CHANNELS) for _ in range(3)])

    def forward(self, x):
        x = self.conv(x)
        one, other, third = self.sums
        return third(one(x, x), other(x, shortcut=x)).mean(dim=(2, 3, 4))


def test_a_map_may_be_weighed_by_several_sums():
    plain, fast = both(Shared())
    x = random(5, 1, 3, 3, 20)
    for network in (plain, fast):
        network(x).square().sum().backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(other.grad, one.grad, rtol=1e-9, atol=1e-9)


def test_gates_of_a_subclass_are_its_own():
    class Half(GatedSum):
        def weights(self, averages):
            return super().weights(averages) / 2

    plain, fast = both(Half())
    x = random(3, CHANNELS, 2, 2, 9)
    torch.testing.assert_close(fast(x, shortcut=x) + 0, plain(x, shortcut=x))
    assert not in_fast_form(use_fast_form(nn.Sequential(HalfSum())))
    assert in_fast_form(use_fast_form(nn.Sequential(WeightedSum())))
