"""Feature maps whose batch lies innermost in memory, and how they and their gradients are read.

A map is ``(rows, cols, kernels, bands, lanes)``, in float32, float64 or, as its bits in uint16,
bfloat16, which is widened to float32 on reading and rounded to the nearest on writing.  Lanes are
the patches of a batch, rounded up to a multiple of 16: what 16 patches hold at one place is a
vector of the processor, so that every number of kernels and every kernel size fills the vectors.  A
row is the bands of one place and kernel.

What stands between two convolutions is arithmetic on single numbers, cheap beside the way to
memory.  So it has no pass over memory of its own where that can be: a batch norm with its ReLUs is
a way to read a map (`Norm`), its gradient a way to read a gradient (`Gradient`).
"""

from typing import NamedTuple

import numpy as np

from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled
from common.fast.codegen.vectors import Vector


class Norm(NamedTuple):
    """How a map is read: max(max(x, floor) * scale + offset, floor_out), or as it is.

    `scale` and `offset` are (kernels,); a floor is zero, or minus infinity for no ReLU.
    """

    used: bool
    scale: np.ndarray
    offset: np.ndarray
    floor: np.floating
    floor_out: np.floating


class Gradient(NamedTuple):
    """The gradient of a map, as far as it is worked out.

    It is `array`, like the map in shape but flat; times `weight` plus `constant`, both flat
    (kernels, lanes), where `weighted`; and if that is for the map read as `norm` says, then it is
    led back to the `map` itself, flat too, with what the statistics add: `slope` times the map plus
    `shift`, both (kernels,).  Who reads it last may write to `array` where nothing else holds it:
    `own`.
    """

    array: np.ndarray
    weighted: bool
    weight: np.ndarray
    constant: np.ndarray
    norm: Norm
    map: np.ndarray
    slope: np.ndarray
    shift: np.ndarray
    own: bool

    def flat(self) -> tuple:
        """As compiled code takes it: a plain tuple, `norm` not a tuple within, without `own`."""
        return (*self[:4], *self.norm, *self[5:8])


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
weigh = along_bands(lambda x, w, c: [x.times_plus(w, c)], inputs=1, lanes=2, outputs=1)
normalise = along_bands(_normalise, inputs=1, numbers=4, outputs=1)
normalise_backward = along_bands(_normalise_backward, inputs=2, numbers=6, outputs=1)
sum_row = along_bands(lambda x: [x], inputs=1, sums=1)
pair_up = along_bands(lambda x, y: [x.in_bfloat16(y).pairs()], inputs=2, outputs=1)
clear_lanes = along_bands(lambda x, valid: [x * valid], inputs=1, lanes=1, outputs=1)
add_gradient_sums = along_bands(_gradient_sums, inputs=2, numbers=4, sums=2)


@compiled
def read_row(x, at, step, bands, norm, kernel, row, row_at, row_step):
    """Read 16 lanes of a row of a flat map, from `at` on, into `row`; `norm` as a plain tuple."""
    used, scale, offset, floor, floor_out = norm
    if used:
        normalise(
            bands, x, at, step, scale[kernel], offset[kernel], floor, floor_out,
            row, row_at, row_step,
        )  # fmt: skip
    else:
        copy(bands, x, at, step, row, row_at, row_step)


@compiled
def read_gradient(gradient, at, lanes, bands, kernel, lane, row, row_at, row_step):
    """Read 16 lanes, from `lane` on, of a row of a gradient, as `Gradient.flat` gives it."""
    array, weighted, weight, constant = gradient[:4]
    used, scale, offset, floor, floor_out = gradient[4:9]
    x, slope, shift = gradient[9:]
    if weighted:
        here = kernel * lanes + lane
        weigh(bands, array, at, lanes, weight, here, constant, here, row, row_at, row_step)
    else:
        copy(bands, array, at, lanes, row, row_at, row_step)
    if used:
        normalise_backward(
            bands, row, row_at, row_step, x, at, lanes, scale[kernel], offset[kernel],
            floor, floor_out, slope[kernel], shift[kernel], row, row_at, row_step,
        )  # fmt: skip


@compiled
def rooms(threads, numbers, like):
    """Zeros for each thread, ``(threads, numbers)``, that begin at lines of the cache (64 bytes).

    To be called before the threads part: a lack of memory in one of them could not be told.
    """
    numbers_in_all = threads * numbers
    room = np.zeros(numbers_in_all + 64 // like.itemsize, like.dtype)
    start = -room.ctypes.data % 64 // like.itemsize
    return room[start : start + numbers_in_all].reshape(threads, numbers)


@compiled
def first_kernels(kernels, size):
    """First kernels of blocks of `size` that cover all; the last two blocks may overlap."""
    return np.minimum(np.arange(0, kernels, size), kernels - size)
