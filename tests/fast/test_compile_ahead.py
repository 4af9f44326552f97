"""Several processes compile at a time: each loop once, and what is needed."""

import os
import pickle
import subprocess
import sys

import pytest
import torch
from torch import nn

from common.fast import prepare, use_fast_form
from common.fast.compile_ahead import compiled_ahead, layers_in_order
from common.fast.replaced import in_fast_form
from common.fast.self_check import calls_of
from common.layers import ConvBNReLU, GatedSum
from common.system.files import REPOSITORY

LOOP = """
import os, sys, time
sys.path.insert(0, {repository!r})
from common.fast.codegen.jit import compiled

def many(x):
    for _ in range(3):
        x = x * 2 + 1
    return x

open(sys.argv[1], "w").close()
while not os.path.exists(sys.argv[2]):  # which waits for this one as well
    time.sleep(0.001)
many = compiled(many)
assert many(3) == 31
assert many(1.0) == 15
print(sum(many.stats.cache_misses.values()), sum(many.stats.cache_hits.values()))
"""


def test_a_loop_is_compiled_by_one_of_two_processes(tmp_path):
    path = tmp_path / "loop.py"
    path.write_text(LOOP.format(repository=str(REPOSITORY)), "utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    both = [
        subprocess.Popen(
            [sys.executable, str(path), str(tmp_path / one), str(tmp_path / other)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for one, other in (("here", "there"), ("there", "here"))
    ]
    found = [process.communicate()[0].split() for process in both]
    misses, hits = (sum(map(int, numbers)) for numbers in zip(*found, strict=True))
    assert (misses, hits) == (2, 2)  # for whole numbers and for others


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = ConvBNReLU(1, 8, (1, 1, 7), padding=(0, 0, 3))
        self.gates = GatedSum()
        self.last = nn.Conv3d(8, 8, (1, 1, 7), padding=(0, 0, 3))
        self.collapse = nn.Conv3d(8, 8, (1, 1, 20))
        self.own = Own(8, 8, 1)

    def forward(self, x):
        x = self.conv(x)
        return self.own(self.collapse(self.gates(self.last(x), x))).mean(dim=(2, 3, 4))


class Own(nn.Conv3d):
    """Not replaced, so that it is not compiled for."""


def network() -> nn.Module:
    torch.manual_seed(0)
    return use_fast_form(Network())


PATCHES = torch.randn(2, 1, 5, 5, 20, generator=torch.Generator().manual_seed(0))


def test_plain_layers_are_called_as_the_fast_ones_are():
    calls = calls_of(network(), PATCHES)
    assert {call.layer for call in calls} == {"conv.conv", "conv.bn", "gates", "last", "collapse"}
    assert calls_of(network(), PATCHES, plain=True) == calls


def test_others_begin_with_the_last_convolution_along_the_bands():
    model = network()
    layers = [pickle.loads(layer) for layer in layers_in_order(model, calls_of(model, PATCHES))]
    assert [*dict.fromkeys(call.layer for _, call in layers)] == [
        "last",
        "conv.conv",
        "collapse",
        "gates",
        "conv.bn",
    ]
    assert not in_fast_form(layers[0][0]) and in_fast_form(model)["last"]


def test_layers_that_no_other_process_knows_are_left_out():
    class Local(GatedSum):
        """Of this function."""

    model = network()
    model.gates = Local()
    model = use_fast_form(model)
    layers = [
        pickle.loads(layer)[1].layer for layer in layers_in_order(model, calls_of(model, PATCHES))
    ]
    assert {*layers} == {"last", "conv.conv", "collapse", "conv.bn"}


def test_nobody_helps_where_all_is_compiled():
    model = network()
    prepare(model, PATCHES)
    with compiled_ahead(model, lambda: pytest.fail("compiled"), None):
        model(PATCHES).sum().backward()


AHEAD = """
import sys, time
from pathlib import Path
sys.path.insert(0, ".")
import torch
from common.fast.compile_ahead import compiled_ahead
from common.fast.cpu import conv_fourier, weight_tiles
from common.fast.self_check import calls_of
from tests.fast.test_compile_ahead import PATCHES, network

torch.set_num_threads(2)
model = network()
calls = [call for call in calls_of(model, PATCHES, plain=True) if call.layer == "last"]
with compiled_ahead(model, lambda: calls, None):
    weight_tiles.tiles_of(torch.zeros(1, 8, 8), 4, False)  # what is compiled first
    while not list(Path(sys.argv[1]).rglob("conv_fourier._add_up*.nbc")):
        time.sleep(0.1)
model.last(torch.randn(2, 8, 5, 5, 20))
assert conv_fourier.convolve.stats.cache_hits
assert not conv_fourier.convolve.stats.cache_misses
"""


@pytest.mark.slow
def test_what_another_process_compiles_is_found(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", AHEAD, str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=environment, check=True, timeout=600)
