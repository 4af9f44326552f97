"""Convolutions' weights as their compiled loops read them: in tiles of channels, and in pairs."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
from numba import types
from numba.extending import intrinsic, overload
from torch import Tensor, nn

from common.fast.codegen.jit import compiled, helper
from common.fast.codegen.threads import on_all_threads
from common.fast.cpu.reading import first_channels


def tiles_of(weights: Tensor, width: int, in_pairs: bool, in_reverse: bool = False) -> np.ndarray:
    """Arrange weights (groups, inputs, channels) as ``(tiles, groups, inputs, width)``.

    Each tile has `width` channels; the last two may overlap.  `in_pairs` the inputs are rounded to
    bfloat16, two neighbours in each int32 number, the last with a zero if they are odd: ``(tiles,
    groups, inputs / 2 rounded up, width)``.  `in_reverse` the last group comes first.  The weights
    may be any view of a whole tensor.
    """
    flat = weights.detach().as_strided((weights.numel(),), (1,)).numpy()
    groups, inputs, channels = weights.shape
    units, kind = (-(-inputs // 2), np.int32) if in_pairs else (inputs, flat.dtype)
    tiles = np.empty((-(-channels // width), groups, units, width), kind)
    _arrange(flat, weights.stride(), (inputs, channels), in_reverse, tiles)
    return tiles


@compiled
def _arrange(flat, steps, counts, in_reverse, tiles):
    """Write weights to `tiles`, given how far apart groups, inputs and channels lie.

    `counts` are of inputs and channels.
    """
    on_all_threads(_arrange_part, len(tiles), flat, steps, counts, in_reverse, tiles)


@helper
def _arrange_part(tile, _, flat, steps, counts, in_reverse, tiles):
    (_, groups, units, width), (inputs, channels) = tiles.shape, counts
    step, step_in, step_out = steps
    starts = first_channels(channels, width)
    for group in range(groups):
        first = (groups - 1 - group if in_reverse else group) * step + starts[tile] * step_out
        for i in range(units):
            for k in range(width):
                tiles[tile, group, i, k] = _unit(
                    flat, first + k * step_out, step_in, inputs, i, tiles
                )


def _unit(flat, first, step, count, i, tiles):
    """The i-th of `count` numbers from `first` on, or of their pairs if `tiles` holds pairs."""


@overload(_unit)
def _unit_for(flat, first, step, count, i, tiles):
    def pair(flat, first, step, count, i, tiles):
        at = first + 2 * i * step
        return _pair(flat[at], flat[at + step] if 2 * i + 1 < count else flat.dtype.type(0))

    def number(flat, first, step, count, i, tiles):
        return flat[first + i * step]

    return pair if tiles.dtype == types.int32 else number


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
