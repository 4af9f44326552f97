"""Convolutions' weights as their compiled loops read them: in tiles of kernels, and in pairs."""

import contextlib
from collections.abc import Callable, Iterator

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from torch import Tensor, nn

from common.compiling import on_all_threads
from common.maps import first_kernels


def tiles_of(weights: Tensor, width: int, in_pairs: bool, in_reverse: bool = False) -> np.ndarray:
    """Arrange weights (groups, inputs, kernels) as ``(tiles, groups, inputs, width)``.

    Each tile has `width` kernels; the last two may overlap.  `in_pairs` the inputs are rounded to
    bfloat16, two neighbours in each int32 number: ``(tiles, groups, inputs / 2, width)``.
    `in_reverse` the last group comes first.  The weights may be any view of a whole tensor.
    """
    flat = weights.detach().as_strided((weights.numel(),), (1,)).numpy()
    arrange = _in_pairs if in_pairs else _in_numbers
    return arrange(flat, tuple(weights.shape), weights.stride(), in_reverse, width)


@on_all_threads
def _in_numbers(flat, shape, steps, in_reverse, width):
    (groups, inputs, kernels), (step, step_in, step_out) = shape, steps
    starts = first_kernels(kernels, width)
    tiles = np.empty((len(starts), groups, inputs, width), flat.dtype)
    for tile in numba.prange(len(starts)):
        for group in range(groups):
            first = (groups - 1 - group if in_reverse else group) * step + starts[tile] * step_out
            for i in range(inputs):
                for k in range(width):
                    tiles[tile, group, i, k] = flat[first + i * step_in + k * step_out]
    return tiles


@on_all_threads
def _in_pairs(flat, shape, steps, in_reverse, width):
    (groups, inputs, kernels), (step, step_in, step_out) = shape, steps
    starts = first_kernels(kernels, width)
    tiles = np.empty((len(starts), groups, inputs // 2, width), np.int32)
    for tile in numba.prange(len(starts)):
        for group in range(groups):
            first = (groups - 1 - group if in_reverse else group) * step + starts[tile] * step_out
            for i in range(inputs // 2):
                for k in range(width):
                    at = first + 2 * i * step_in + k * step_out
                    tiles[tile, group, i, k] = _pair(flat[at], flat[at + step_in])
    return tiles


@intrinsic
def _pair(_, first, second):
    """Two float32 numbers, rounded to the nearest in bfloat16, in one int32; NaN stays NaN."""

    def generate(context, builder, signature, values):
        word = context.get_value_type(types.int32)
        low, high = (_rounded(builder, value, word) for value in values)
        return builder.or_(builder.lshr(low, word(16)), builder.and_(high, word(-(2**16))))

    return types.int32(first, second), generate


def _rounded(builder, value, word):
    """The bits of a number whose upper half are those of the nearest in bfloat16."""
    bits = builder.bitcast(value, word)
    odd = builder.and_(builder.lshr(bits, word(16)), word(1))
    rounded = builder.add(bits, builder.add(odd, word(0x7FFF)))
    quiet_nan = word(0x7FC00000)
    return builder.select(builder.fcmp_unordered("uno", value, value), quiet_nan, rounded)


@contextlib.contextmanager
def constant(model: nn.Module) -> Iterator[None]:
    """Let a network keep what its modules make of their weights, which nobody changes meanwhile."""
    for module in model.modules():
        module.made = []
    try:
        yield
    finally:
        for module in model.modules():
            module.made = None


def made_once(module: nn.Module, make: Callable[[], object]) -> object:
    """Return what `make` makes of a module's weights; while they are `constant`, make it once."""
    made = getattr(module, "made", None)
    if made is None:
        return make()
    if not made:
        made.append(make())
    return made[0]
