"""A fast form that is wrong on the machine at hand is found out, told and not used."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import common.fast
from common.fast import layer_errors, prepare, self_check, use_fast_form
from common.fast.cpu import conv_fourier, conv_spatial, passes
from common.fast.replaced import in_fast_form
from common.layers import BatchNormReLU, ConvBNReLU, GatedSum, WeightedSum

CHANNELS, BANDS = 8, 30


class Small(nn.Module):
    """One layer of each kind, as in the networks."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBNReLU(1, CHANNELS, (3, 3, 7), stride=(1, 1, 2), padding=(1, 1, 0))
        self.conv = nn.Conv3d(CHANNELS, CHANNELS, (1, 1, 7), padding="same")
        self.bn = BatchNormReLU(CHANNELS, relu_before=True)
        self.efr = GatedSum()
        self.attention = Halves()
        self.collapse = nn.Conv3d(CHANNELS, 16, (1, 1, 12))
        self.classifier = nn.Linear(16, 3)

    def forward(self, x):
        x = self.stem(x)
        x = self.efr(self.bn(self.conv(x), shortcut=x), shortcut=x)
        return self.classifier(self.collapse(self.attention(x, self.conv(x))).mean(dim=(2, 3, 4)))


class Halves(WeightedSum):
    """Two maps, weighed by their own averages."""

    def weights(self, averages):
        return averages.softmax(dim=0)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    monkeypatch.setattr(layer_errors, "PATCHES", 5)
    return tmp_path / "hsi-fast-layers"


def small(dtype=None) -> nn.Module:
    torch.manual_seed(0)
    return use_fast_form(Small(), dtype=dtype)


def patches() -> torch.Tensor:
    return torch.randn(2, 1, 5, 5, BANDS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_right_layers_pass_and_nothing_is_changed(dtype, capsys, own_cache):
    network = small(dtype)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state, replaced = torch.get_rng_state(), in_fast_form(network)
    prepare(network, patches())
    assert [line for line in capsys.readouterr().err.splitlines() if "compiling" not in line] == []
    assert in_fast_form(network) == replaced and len(replaced) == 7
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    (outcome,) = own_cache.iterdir()
    assert json.loads(outcome.read_text("utf-8")) == {"fault": ""}


def slightly_more(function, place: int, returned: bool):
    """The function, which adds a thousandth to one number of an array it writes, or returns."""

    def wrong(*arguments):
        result = function(*arguments)
        array = (result if returned else arguments)[place]
        array.reshape(-1)[:16] += array.dtype.type(0.001 * np.abs(array).max())
        return result

    return wrong


WRONG = {  # what is wrong: a function, the array it writes or returns, and the layer it is in
    "Fourier convolution": (conv_fourier, "convolve", 4, False, "conv"),
    "gradient of its weights": (conv_fourier, "weight_gradient", 0, True, "conv"),
    "spatial convolution": (conv_spatial, "convolve", 4, False, "collapse"),
    "sum": (passes, "weigh", 5, False, "bn"),
    "gates": (passes, "gates", 1, True, "efr"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_kernel_that_is_wrong_on_purpose_is_found_out(what, monkeypatch, capsys, own_cache):
    module, name, place, returned, layer = WRONG[what]
    monkeypatch.setattr(module, name, slightly_more(getattr(module, name), place, returned))
    network = small()
    plain = copy.deepcopy(network)
    for m in plain.modules():
        vars(m).pop("forward", None)
    prepare(network, patches())
    (line,) = (s for s in capsys.readouterr().err.splitlines() if "compiling" not in s)
    assert line.startswith(f"{layer}: its fast form is wrong here (")
    assert line.endswith("; plain PyTorch is used for the whole network")
    assert not in_fast_form(network)
    assert torch.equal(network(patches()), plain(patches()))

    monkeypatch.setattr(self_check, "errors", None)  # what came of it is known the next time
    again = small()
    prepare(again, patches())
    assert line in capsys.readouterr().err
    assert not in_fast_form(again)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fault": 1}', "\udcff"])
def test_a_damaged_outcome_is_none(content, own_cache, capsys):
    prepare(small(), patches())
    (outcome,) = own_cache.iterdir()
    outcome.write_bytes(content.encode("utf-8", "surrogateescape"))
    prepare(small(), patches())
    assert json.loads(outcome.read_text("utf-8")) == {"fault": ""}


def test_without_a_place_for_it_the_check_is_made_each_time(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way", "utf-8")
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    calls, check = [], self_check.errors
    monkeypatch.setattr(self_check, "errors", lambda *given: calls.append(given) or check(*given))
    prepare(small(), patches())
    once = len(calls)
    prepare(small(), patches())
    assert once > 0 and len(calls) == 2 * once
    assert "wrong" not in capsys.readouterr().err


def test_other_sizes_and_other_code_are_checked_anew(own_cache, monkeypatch):
    prepare(small(), patches())
    prepare(small(), patches()[:, :, :3, :3])
    assert len(list(own_cache.iterdir())) == 2
    monkeypatch.setattr(torch, "__version__", "another")
    prepare(small(), patches())
    assert len(list(own_cache.iterdir())) == 3


class Chooses(nn.Module):
    """A network that looks at what it was given."""

    def __init__(self, look):
        super().__init__()
        self.look, self.conv = look, nn.Conv3d(1, CHANNELS, (1, 1, 7))

    def forward(self, x):
        return self.look(self.conv(x)).mean(dim=(2, 3, 4))


def refuse(x):
    assert type(x) is torch.Tensor
    return x


def test_a_network_that_the_fast_layers_do_not_suit_runs_without(capsys):
    network = use_fast_form(Chooses(refuse))
    prepare(network, patches())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("the fast layers fail in this network (AssertionError")
    network(patches())

    other = use_fast_form(Chooses(lambda x: x if type(x) is torch.Tensor else 3 * x))
    prepare(other, patches())
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("this network gives other logits with the fast layers")


def test_the_networks_own_error_is_its_own():
    def wrong(x):
        raise ZeroDivisionError("of the network's own")

    with pytest.raises(ZeroDivisionError, match="of the network's own"):
        prepare(use_fast_form(Chooses(wrong)), patches())


def test_bfloat16_falls_back_on_pytorch_in_bfloat16(monkeypatch, capsys):
    monkeypatch.setattr(self_check, "fault", lambda *_: "something is wrong")
    network = small(torch.bfloat16)
    prepare(network, patches())
    assert capsys.readouterr().err.startswith("something is wrong; plain PyTorch is used")
    exact = small()
    difference = (network(patches()) - exact(patches())).abs().max()
    assert 0 < difference < 0.05
    F.cross_entropy(network(patches()), torch.tensor([0, 1])).backward()
    assert network.stem.conv.weight.grad.any()


def test_a_network_of_other_layers_needs_nothing(own_cache):
    prepare(use_fast_form(nn.Linear(3, 3)), torch.randn(2, 3))
    assert not own_cache.exists()
    assert "Layers" in common.fast.__all__
