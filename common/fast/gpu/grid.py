"""How maps are shared among a GPU's programs, and the sums over them that are made in passing."""

import math

import torch
import triton
from torch import Tensor

from common.fast.gpu import norm_kernels
from common.fast.gpu.norm_kernels import Share, Sizes
from common.fast.pytorch import CHANNELS_LAST, Map

PROGRAMS = 132  # to share a map among, at least: a large GPU has as many processors


class Grid:
    """How a map (patches, kernels, rows, cols, bands) is shared among programs."""

    def __init__(self, shape: torch.Size, largest_block: int = 128) -> None:
        self.patches, self.kernels, self.size = shape[0], shape[1], tuple(shape[2:])
        self.places = math.prod(self.size)
        self.width = power_of_2(self.kernels)
        self.block = min(largest_block, power_of_2(self.places), max(16, 4096 // self.width))
        blocks = triton.cdiv(self.places, self.block)
        parts = min(blocks, triton.cdiv(PROGRAMS, self.patches))
        self.chunk = triton.cdiv(blocks, parts) * self.block
        self.parts = triton.cdiv(self.places, self.chunk)
        programs, numbers = self.patches * self.parts, self.patches * self.places
        self.share = Share(self.places, self.chunk, self.parts, programs, numbers)
        self.sizes = Sizes(self.kernels, self.width, self.block)

    def sums(self, like: Tensor, *sizes: int) -> Tensor:
        """Make room for partial sums (patches, parts, *sizes)."""
        return like.new_empty(self.patches, self.parts, *sizes, dtype=torch.float32)

    def run(self, kernel, *arguments, **named) -> None:
        """Launch a kernel, which is told how the map is shared."""
        named = {"share": self.share, "sizes": self.sizes} | named
        # loops without products say their own stages
        kernel[self.patches, self.parts](*arguments, num_warps=8, num_stages=1, **named)

    def run_per_patch(self, kernel, *arguments, parts: int) -> None:
        """Launch a kernel with one program for each patch, whose sums are in so many parts."""
        share = self.share._replace(parts=parts, count=self.places)
        kernel[self.patches,](*arguments, share=share, sizes=self.sizes)


def power_of_2(number: int) -> int:
    """The next power of two, 16 at least: what Triton's products of matrices take."""
    return max(16, triton.next_power_of_2(number))


def kept(ctx, grid: Grid, out: Tensor, sums: Tensor, *saved: Tensor | None):
    """Keep what a layer's backward pass needs; return the layer's output and its sums."""
    ctx.grid = grid
    ctx.save_for_backward(*saved)
    ctx.mark_non_differentiable(sums)
    ctx.set_materialize_grads(False)
    return out, sums


def sums_of(x: Map) -> Tensor:
    """A map's sums (patches, parts, 4, kernels), made now unless the layer before has made them."""
    if x.sums is None:
        grid = Grid(x.shape)
        x.sums = grid.sums(x.x, 4, grid.kernels)
        grid.run(norm_kernels.sums_of, x.x.detach(), x.sums)
    return x.sums


def laid_out(x: Tensor | Map) -> Map:
    """Return a map with its kernels innermost: the very same, with its sums, if they are."""
    x = Map.of(x)
    if x.x.is_contiguous(memory_format=CHANNELS_LAST):
        return x
    return Map(x.x.contiguous(memory_format=CHANNELS_LAST))
