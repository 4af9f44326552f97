"""Feature maps whose batch lies innermost in memory, and how they and their gradients are read.

A map is ``(rows, cols, channels, bands, lanes)``, in float32, float64 or, as its bits in uint16,
bfloat16, which is widened to float32 on reading and rounded to the nearest on writing.  Batch lanes
are the patches of a batch, rounded up to a multiple of 16: what 16 patches hold at one place is a
vector of the processor, so that every number of channels and every kernel size fills the vectors.
A place is a row and a col, counted row by row; a row of numbers is the bands of one place and
channel.

What stands between two convolutions is arithmetic on single numbers, cheap beside the way to
memory.  So it has no pass over memory of its own where that can be: a batch norm with its ReLUs is
a way to read a map (`Norm`), its gradient a way to read a gradient (`Gradient`).  To materialise a
map, or a gradient, is to write to memory what reading it gives.
"""

import math
from typing import NamedTuple

import numpy as np

from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import helper, inlined
from common.fast.codegen.vectors import LANES, Vector, View

LINE = 64  # bytes of a line of the cache


class Norm(NamedTuple):
    """How a map is read: max(max(x, floor) * scale + offset, floor_out), or as it is.

    `scale` and `offset` are (channels,); a floor is zero, or minus infinity for no ReLU.
    """

    normalised: bool
    scale: np.ndarray
    offset: np.ndarray
    floor: np.floating
    floor_out: np.floating


class Source(NamedTuple):
    """A map as compiled code reads it: the array, and the fields of its `Norm`.

    The first `patches` of the batch lanes hold patches; what finite numbers the others hold is of
    no effect.
    """

    array: np.ndarray
    patches: int
    normalised: bool
    scale: np.ndarray
    offset: np.ndarray
    floor: np.floating
    floor_out: np.floating


class Gradient(NamedTuple):
    """The gradient of a map, as far as it is materialised.

    It is `array`, like the map in shape; times `weight` plus `constant`, both (channels, lanes),
    where `weighted`; and if that is for the map as a norm reads it, whose fields follow, then it is
    led back to the `map` itself, with what the statistics add: `slope` times the map plus `shift`,
    both (channels,).  Who reads it last may write to `array` where nothing else holds it: `own`.
    """

    array: np.ndarray
    weighted: bool
    weight: np.ndarray
    constant: np.ndarray
    normalised: bool
    scale: np.ndarray
    offset: np.ndarray
    floor: np.floating
    floor_out: np.floating
    map: np.ndarray
    slope: np.ndarray
    shift: np.ndarray
    own: bool


class Cell(NamedTuple):
    """A place of a map and 16 of its batch lanes, of which `lane` is the first."""

    place: int
    lane: int


def _normalise(x: Vector, scale: Vector, offset: Vector, floor: Vector, floor_out: Vector):
    return [x.at_least(floor).times_plus(scale, offset).at_least(floor_out)]


def _normalise_backward(g, x, scale, offset, floor, floor_out, slope, shift):
    g = g.where_above(x.at_least(floor).times_plus(scale, offset), floor_out)
    return [g.times_plus(scale, x.times_plus(slope, shift)).where_above(x, floor)]


def _gradient_sums(g: Vector, x, scale, offset, floor, floor_out):
    x = x.at_least(floor)
    g = g.where_above(x.times_plus(scale, offset), floor_out)
    return g, g * x


copy = along_bands(lambda x: [x], inputs=1, outputs=1)
sum_row = along_bands(lambda x: [x], inputs=1, sums=1)
pair_up = along_bands(lambda x, y: [x.in_bfloat16(y).pairs()], inputs=2, outputs=1)
clear_lanes = along_bands(lambda x, valid: [x * valid], inputs=1, lanes=1, outputs=1)
_weigh = along_bands(lambda x, w, c: [x.times_plus(w, c)], inputs=1, lanes=2, outputs=1)
_normalise_row = along_bands(_normalise, inputs=1, numbers=4, outputs=1)
_normalise_row_backward = along_bands(_normalise_backward, inputs=2, numbers=6, outputs=1)
_add_gradient_sums = along_bands(_gradient_sums, inputs=2, numbers=4, sums=2)


@inlined
def row_of(array, cell, channel):
    """16 batch lanes of a row of a map."""
    _, _, channels, bands, lanes = array.shape
    return View(array, (cell.place * channels + channel) * bands * lanes + cell.lane, lanes)


@inlined
def lanes_of(array, cell, channel):
    """16 batch lanes of what is (channels, lanes)."""
    return View(array, channel * array.shape[1] + cell.lane, 0)


@inlined
def read_row(x, cell, channel, out):
    """Read 16 batch lanes of a row of a `Source` into the `View` `out`."""
    bands, row = x.array.shape[3], row_of(x.array, cell, channel)
    if x.normalised:
        scale, offset = x.scale[channel], x.offset[channel]
        _normalise_row(bands, row, scale, offset, x.floor, x.floor_out, out)
    else:
        copy(bands, row, out)


@inlined
def read_gradient(gradient, cell, channel, out):
    """Read 16 batch lanes of a row of a `Gradient` into the `View` `out`."""
    bands, row = gradient.array.shape[3], row_of(gradient.array, cell, channel)
    if gradient.weighted:
        weight = lanes_of(gradient.weight, cell, channel)
        _weigh(bands, row, weight, lanes_of(gradient.constant, cell, channel), out)
    else:
        copy(bands, row, out)
    if gradient.normalised:
        _normalise_row_backward(
            bands, out, row_of(gradient.map, cell, channel),
            gradient.scale[channel], gradient.offset[channel], gradient.floor, gradient.floor_out,
            gradient.slope[channel], gradient.shift[channel], out,
        )  # fmt: skip


@inlined
def add_gradient_sums(x, cell, channel, row, sums):
    """Add a row of a gradient, given as a `View`, to sums (2, channels, lanes).

    These are the sums of what of it passes the last ReLU of the norm that reads `x`, and of that
    times max(x, floor).
    """
    _, channels, lanes = sums.shape
    at = channel * lanes + cell.lane
    _add_gradient_sums(
        x.array.shape[3], row, row_of(x.array, cell, channel),
        x.scale[channel], x.offset[channel], x.floor, x.floor_out,
        View(sums, at, 0), View(sums, channels * lanes + at, 0),
    )  # fmt: skip


@helper
def buffer(numbers, like):
    """Zeros that begin at a line of the cache."""
    size = LINE // like.itemsize
    whole = np.zeros(numbers + size, like.dtype)
    start = -whole.ctypes.data % LINE // like.itemsize
    return whole[start : start + numbers]


def new_map(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array for a map, not filled, that begins at a line of the cache.

    Asked of malloc as it is: arrays that malloc aligns itself leave splinters around them, which
    others then fill, so that no later map fits where one has been and the heap grows.
    """
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + LINE, np.uint8)
    start = -buffer.ctypes.data % LINE
    return buffer[start : start + size].view(dtype).reshape(shape)


@helper
def first_channels(channels, size):
    """First channels of blocks of `size` that cover all; the last two blocks may overlap."""
    starts = np.empty(-(-channels // size), np.int64)
    for block in range(len(starts)):
        starts[block] = min(block * size, channels - size)
    return starts


@inlined
def cell_of(index, lanes):
    """The cell of that number, where those of one place follow one another."""
    groups = lanes // LANES
    return Cell(index // groups, index % groups * LANES)
