"""Compile every kernel of a training step for a GPU that need not be there: prints how many.

To be run as a program: Triton then compiles, where the tests of this folder interpret.
"""

import sys

import torch
import triton
from torch import nn
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from common.fast.gpu import layers
from common.fast.replaced import use_layers
from common.layers import BatchNormReLU, ConvBNReLU, GatedSum, WeightedSum


class Gpu:
    """What Triton asks of a GPU before it launches a kernel there: an H100."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", 90, 32)


compiled = set()


def compile_only(function, grid):
    def launch(*arguments, **named):
        kernel = function.run(*arguments, grid=grid, warmup=True, **named)
        assert "cubin" in kernel.asm
        compiled.add((kernel.name, kernel.hash))

    return launch


class Halves(WeightedSum):
    """Two maps, weighed by their own averages."""

    def weights(self, averages):
        return averages.softmax(dim=0)


class Network(nn.Module):
    """One layer of each kind."""

    def __init__(self):
        super().__init__()
        self.stem = ConvBNReLU(1, 24, (1, 1, 7), stride=(1, 1, 2))
        self.conv = nn.Conv3d(24, 24, (1, 1, 7), padding="same")
        self.bn = BatchNormReLU(24, relu_before=True)
        self.gated, self.halves = GatedSum(), Halves()

    def forward(self, patches):
        x = self.stem(patches)
        x = self.gated(self.bn(self.conv(x), shortcut=x), shortcut=x)
        return self.halves(x, self.conv(x)).mean(dim=(2, 3, 4))


if __name__ == "__main__":
    triton.runtime.driver.set_active(Gpu())
    JITFunction.__getitem__ = compile_only
    network = use_layers(Network(), layers, {"fp32": None, "bf16": torch.bfloat16}[sys.argv[1]])
    network(torch.randn(3, 1, 5, 5, 31)).sum().backward()
    print(len({name for name, _ in compiled}))
