"""Passes over feature maps whose batch lies innermost, between two convolutions (CPU).

Maps and gradients are a `Source` and a `Gradient` of `reading.py`.  Sums are kept in the type of a
norm per batch lane and thread, and in float64 from there on; lanes that hold no patch are left out.
"""

from typing import NamedTuple

import numba
import numpy as np

from common.fast.codegen import batch_norm as normalisation
from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled, helper, on_all_threads
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu.reading import (
    Cell,
    add_gradient_sums,
    buffers,
    copy,
    lanes_of,
    read_gradient,
    read_row,
    row_of,
    sum_row,
)

REACH = 1  # neighbours on either side that a gate sees


def _moments(x, floor, shift):
    x = x.at_least(floor) - shift
    return x, x * x


_add_moments = along_bands(_moments, inputs=1, numbers=2, sums=2)
_add_product = along_bands(lambda x, y: [x * y], inputs=2, sums=1)
_weighted_sum = along_bands(
    lambda x, y, w, v, floor: [x.times_plus(w, y * v).at_least(floor)],
    inputs=2, lanes=2, numbers=1, outputs=1,
)  # fmt: skip
_sum = along_bands(lambda x, y: [x + y], inputs=2, outputs=1)
_where_positive = along_bands(lambda g, x: [g.where_above(x, x - x)], inputs=2, outputs=1)


class BatchNorm(NamedTuple):
    """The parameters and running statistics of a batch norm, all (channels,)."""

    weight: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    momentum: float
    eps: float


def batch_norm(
    x: np.ndarray, patches: int, floor: np.floating, module: BatchNorm, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a `BatchNorm` of max(x, floor) multiplies with and adds, per channel.

    The running statistics normalise where `momentum` is 0; otherwise the batch's own do, and the
    running ones follow.

    Returns
    -------
    mean, 1 / std
        float64 (channels,), that normalise.
    scale, offset
        (channels,), of `Norm`.
    """
    rows, cols, channels, bands, _ = x.shape
    shape = (threads if module.momentum > 0 else 0, channels, x.shape[4])
    shift = np.zeros(channels, module.weight.dtype)
    sums, squares = np.zeros(shape, shift.dtype), np.zeros(shape, shift.dtype)
    if module.momentum > 0:
        _add_up_moments(x, floor, shift, sums, squares)
    return _factors(module, shift, sums, squares, rows * cols * bands * patches, patches)


@on_all_threads
def _add_up_moments(x, floor, shift, sums, squares):
    """Sums of max(x, floor) - shift and of its square, per thread, channel and batch lane.

    The shift is an average of the first patch: what is summed is near zero, so that little cancels.
    """
    rows, cols, channels, bands, lanes = x.shape
    length, threads = rows * cols * channels, len(sums)
    vector = np.zeros(LANES, shift.dtype)
    for k in range(channels):
        for place in range(rows * cols):
            copy(1, row_of(x, Cell(place, 0), k), View(vector, 0, 0))
            shift[k] += max(vector[0], floor) / (rows * cols)
    for thread in numba.prange(threads):
        own_sums, own_squares = sums[thread], squares[thread]
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                _add_moments(
                    bands, row_of(x, cell, k), floor, shift[k],
                    lanes_of(own_sums, cell, k), lanes_of(own_squares, cell, k),
                )  # fmt: skip


@compiled
def _factors(module, shift, sums, squares, count, patches):
    """The same as `batch_norm`, given the sums of `_add_up_moments`, of `count` numbers each."""
    weight, bias, mean, variance, momentum, eps = module
    used_mean, used_variance = mean.astype(np.float64), variance.astype(np.float64)
    if momentum > 0:
        average, square = _total(sums, patches) / count, _total(squares, patches) / count
        used_mean, used_variance = shift + average, np.maximum(square - average**2, 0)
        normalisation.follow(mean, variance, used_mean, used_variance, count, momentum)
    inverse_std, scale, offset = normalisation.scale_and_offset(
        used_mean, used_variance, weight, bias, eps
    )
    return used_mean, inverse_std, scale.astype(weight.dtype), offset.astype(weight.dtype)


@compiled
def batch_norm_backward(x, mean, inverse_std, training, sums):
    """Gradients of a batch norm's weight and bias; slope and shift of `Gradient`.

    `x` is the map as the norm reads it, `sums` are those of `gradient_sums`.
    """
    rows, cols, _, bands, _ = x.array.shape
    of_bias, dot = _total(sums[:, 0], x.patches), _total(sums[:, 1], x.patches)
    of_weight, slope, shift = normalisation.gradients(
        mean, inverse_std, x.scale, of_bias, dot, rows * cols * bands * x.patches, training
    )
    kind = x.scale.dtype
    return of_weight.astype(kind), of_bias.astype(kind), slope.astype(kind), shift.astype(kind)


@on_all_threads
def gradient_sums(x, gradient, threads):
    """Sum of the gradient that passes a norm's last ReLU, and of it times max(x, floor).

    Returns ``(threads, 2, channels, lanes)``.
    """
    rows, cols, channels, bands, lanes = x.array.shape
    length = rows * cols * channels
    sums = np.zeros((threads, 2, channels, lanes), x.scale.dtype)
    gradients = buffers(threads, bands * LANES, x.scale)
    for thread in numba.prange(threads):
        g, own_sums = View(gradients, thread * bands * LANES, LANES), sums[thread]
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                read_gradient(gradient, cell, k, g)
                add_gradient_sums(x, cell, k, g, own_sums)
    return sums


@on_all_threads
def patch_sums(x, times, y, threads):
    """Sum of the map x, or of x * y, an array, where `times`: (threads, channels, lanes)."""
    rows, cols, channels, bands, lanes = x.array.shape
    length = rows * cols * channels
    sums = np.zeros((threads, channels, lanes), x.scale.dtype)
    rows_of_x = buffers(threads, bands * LANES, sums)
    for thread in numba.prange(threads):
        values, own_sums = View(rows_of_x, thread * bands * LANES, LANES), sums[thread]
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                read_row(x, cell, k, values)
                if times:
                    _add_product(bands, values, row_of(y, cell, k), lanes_of(own_sums, cell, k))
                else:
                    sum_row(bands, values, lanes_of(own_sums, cell, k))
    return sums


@on_all_threads
def weigh(x, weight, y, weight_y, floor, out, threads):
    """out = max(x * weight + y * weight_y, floor), weights (channels, lanes)."""
    rows, cols, channels, bands, lanes = out.shape
    length = rows * cols * channels
    rows_of_both = buffers(threads, 2 * bands * LANES, weight)
    for thread in numba.prange(threads):
        one = View(rows_of_both, 2 * thread * bands * LANES, LANES)
        other = View(rows_of_both, (2 * thread + 1) * bands * LANES, LANES)
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                read_row(x, cell, k, one)
                read_row(y, cell, k, other)
                _weighted_sum(
                    bands, one, other, lanes_of(weight, cell, k), lanes_of(weight_y, cell, k),
                    floor, row_of(out, cell, k),
                )  # fmt: skip


@on_all_threads
def materialise(x, out, threads):
    """out = the map x, as its norm reads it."""
    rows, cols, channels, _, lanes = out.shape
    length = rows * cols * channels
    for thread in numba.prange(threads):
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                read_row(x, cell, k, row_of(out, cell, k))


@on_all_threads
def materialise_gradient(gradient, plus, other, masked, output, out, threads):
    """out = the gradient [+ other where `plus`], zero where `masked` and output is not positive.

    It may be the gradient's own array, or `other`.
    """
    rows, cols, channels, bands, lanes = out.shape
    length = rows * cols * channels
    gradients = buffers(threads, bands * LANES, gradient.scale)
    for thread in numba.prange(threads):
        g = View(gradients, thread * bands * LANES, LANES)
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            place, k = row // channels, row % channels
            for lane in range(0, lanes, LANES):
                cell = Cell(place, lane)
                read_gradient(gradient, cell, k, g)
                if plus:
                    _sum(bands, g, row_of(other, cell, k), g)
                if masked:
                    _where_positive(bands, g, row_of(output, cell, k), g)
                copy(bands, g, row_of(out, cell, k))


@compiled
def gates(sums, numbers, weight):
    """The gates of `layers.GatedSum`, of a map's sums (channels, lanes).

    Returns the averages, of so many numbers each, and the gates, both (channels, lanes).
    """
    channels, lanes = sums.shape
    averages, out = sums / sums.dtype.type(numbers), np.zeros_like(sums)
    for k in range(channels):
        for j in range(max(0, k - REACH), min(channels, k + REACH + 1)):
            out[k] += weight[j - k + REACH] * averages[j]
        for lane in range(lanes):
            out[k, lane] = 1 / (1 + np.exp(-out[k, lane]))
    return averages, out


@compiled
def gates_backward(of_gates, averages, gates_, numbers, weight, patches):
    """Gradients of each of the numbers summed, and of the weight, from so many patches."""
    channels = len(averages)
    inner = of_gates * gates_ * (1 - gates_)  # of what the sigmoid is taken of
    of_numbers, of_weight = np.zeros_like(averages), np.zeros_like(weight)
    for k in range(channels):
        for j in range(max(0, k - REACH), min(channels, k + REACH + 1)):
            factor = weight[j - k + REACH]
            of_numbers[j] += factor * inner[k]
            for lane in range(patches):
                of_weight[j - k + REACH] += inner[k, lane] * averages[j, lane]
    return of_numbers / averages.dtype.type(numbers), of_weight


@helper
def _total(sums, patches):
    """Add up each channel's sums in the batch lanes that hold patches, in float64."""
    result = np.zeros(sums.shape[1])
    for thread in range(len(sums)):
        for k in range(len(result)):
            for lane in range(patches):
                result[k] += sums[thread, k, lane]
    return result
