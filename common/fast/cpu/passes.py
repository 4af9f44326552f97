"""Passes over feature maps whose batch lies innermost, between two convolutions (CPU).

Maps and gradients are a `Source` and a `Gradient` of `reading.py`.  Sums are kept in the type of a
norm per batch lane and thread, and in float64 from there on; lanes that hold no patch are left out.
"""

from typing import NamedTuple

import numpy as np

from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled, helper
from common.fast.codegen.threads import on_all_threads, share
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu.reading import (
    Cell,
    add_gradient_sums,
    buffer,
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


@compiled
def _add_up_moments(x, floor, shift, sums, squares):
    """Sums of max(x, floor) - shift and of its square, per thread, channel and batch lane.

    The shift is an average of the first patch: what is summed is near zero, so that little cancels.
    """
    rows, cols, channels, _, _ = x.shape
    vector = np.zeros(LANES, shift.dtype)
    for k in range(channels):
        for place in range(rows * cols):
            copy(1, row_of(x, Cell(place, 0), k), View(vector, 0, 0))
            shift[k] += max(vector[0], floor) / (rows * cols)
    on_all_threads(_add_up_moments_part, len(sums), x, floor, shift, sums, squares)


@helper
def _add_up_moments_part(thread, threads, x, floor, shift, sums, squares):
    rows, cols, channels, bands, lanes = x.shape
    for row in share(rows * cols * channels, thread, threads):
        place, k = row // channels, row % channels
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            _add_moments(
                bands, row_of(x, cell, k), floor, shift[k],
                lanes_of(sums[thread], cell, k), lanes_of(squares[thread], cell, k),
            )  # fmt: skip


@compiled
def _factors(module, shift, sums, squares, count, patches):
    """The same as `batch_norm`, given the sums of `_add_up_moments`, of `count` numbers each."""
    weight, bias, running_mean, running_variance, momentum, eps = module
    channels, number = len(weight), weight.dtype.type
    means, inverse_stds = np.empty(channels), np.empty(channels)
    scale, offset = np.empty(channels, weight.dtype), np.empty(channels, weight.dtype)
    totals, totals_of_squares = _total(sums, patches), _total(squares, patches)
    for k in range(channels):
        mean, variance = np.float64(running_mean[k]), np.float64(running_variance[k])
        if momentum > 0:
            average, square = totals[k] / count, totals_of_squares[k] / count
            mean, variance = shift[k] + average, max(square - average * average, 0.0)
            running_mean[k] += momentum * (mean - running_mean[k])
            unbiased = variance * count / (count - 1)
            running_variance[k] += momentum * (unbiased - running_variance[k])
        std = np.sqrt(variance + eps)
        means[k], inverse_stds[k] = mean, 1 / std if std != 0 else np.inf
        scale[k] = number(weight[k] * inverse_stds[k])
        offset[k] = number(bias[k] - mean * weight[k] * inverse_stds[k])
    return means, inverse_stds, scale, offset


@compiled
def batch_norm_backward(x, mean, inverse_std, training, sums):
    """Gradients of a batch norm's weight and bias; slope and shift of `Gradient`.

    `x` is the map as the norm reads it, `sums` are those of `gradient_sums`.  The gradient of the
    map is the usual weight / std * (g - mean(g) - x̂ mean(g x̂)).
    """
    rows, cols, channels, bands, _ = x.array.shape
    kind, number, count = x.scale.dtype, x.scale.dtype.type, rows * cols * bands * x.patches
    of_weight, of_bias = np.empty(channels, kind), np.empty(channels, kind)
    slope, shift = np.zeros(channels, kind), np.zeros(channels, kind)
    totals, dots = _total(sums[:, 0], x.patches), _total(sums[:, 1], x.patches)
    for k in range(channels):
        dot = (dots[k] - mean[k] * totals[k]) * inverse_std[k]
        of_weight[k], of_bias[k] = number(dot), number(totals[k])
        if training:
            factor = -x.scale[k] * inverse_std[k] * dot / count
            slope[k] = number(factor)
            shift[k] = number(-x.scale[k] * totals[k] / count - factor * mean[k])
    return of_weight, of_bias, slope, shift


@compiled
def gradient_sums(x, gradient, threads):
    """Sum of the gradient that passes a norm's last ReLU, and of it times max(x, floor).

    Returns ``(threads, 2, channels, lanes)``.
    """
    _, _, channels, _, lanes = x.array.shape
    sums = np.zeros((threads, 2, channels, lanes), x.scale.dtype)
    on_all_threads(_gradient_sums_part, threads, x, gradient, sums)
    return sums


@helper
def _gradient_sums_part(thread, threads, x, gradient, sums):
    rows, cols, channels, bands, lanes = x.array.shape
    g = View(buffer(bands * LANES, x.scale), 0, LANES)
    for row in share(rows * cols * channels, thread, threads):
        place, k = row // channels, row % channels
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            read_gradient(gradient, cell, k, g)
            add_gradient_sums(x, cell, k, g, sums[thread])


@compiled
def patch_sums(x, times, y, threads):
    """Sum of the map x, or of x * y, an array, where `times`: (threads, channels, lanes)."""
    _, _, channels, _, lanes = x.array.shape
    sums = np.zeros((threads, channels, lanes), x.scale.dtype)
    on_all_threads(_patch_sums_part, threads, x, times, y, sums)
    return sums


@helper
def _patch_sums_part(thread, threads, x, times, y, sums):
    rows, cols, channels, bands, lanes = x.array.shape
    values, own_sums = View(buffer(bands * LANES, sums), 0, LANES), sums[thread]
    for row in share(rows * cols * channels, thread, threads):
        place, k = row // channels, row % channels
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            read_row(x, cell, k, values)
            if times:
                _add_product(bands, values, row_of(y, cell, k), lanes_of(own_sums, cell, k))
            else:
                sum_row(bands, values, lanes_of(own_sums, cell, k))


@compiled
def weigh(x, weight, y, weight_y, floor, out, threads):
    """out = max(x * weight + y * weight_y, floor), weights (channels, lanes)."""
    on_all_threads(_weigh_part, threads, x, weight, y, weight_y, floor, out)


@helper
def _weigh_part(thread, threads, x, weight, y, weight_y, floor, out):
    rows, cols, channels, bands, lanes = out.shape
    one = View(buffer(bands * LANES, weight), 0, LANES)
    other = View(buffer(bands * LANES, weight), 0, LANES)
    for row in share(rows * cols * channels, thread, threads):
        place, k = row // channels, row % channels
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            read_row(x, cell, k, one)
            read_row(y, cell, k, other)
            _weighted_sum(
                bands, one, other, lanes_of(weight, cell, k), lanes_of(weight_y, cell, k),
                floor, row_of(out, cell, k),
            )  # fmt: skip


@compiled
def materialise(x, out, threads):
    """out = the map x, as its norm reads it."""
    on_all_threads(_materialise_part, threads, x, out)


@helper
def _materialise_part(thread, threads, x, out):
    rows, cols, channels, _, lanes = out.shape
    for row in share(rows * cols * channels, thread, threads):
        place, k = row // channels, row % channels
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            read_row(x, cell, k, row_of(out, cell, k))


@compiled
def materialise_gradient(gradient, plus, other, masked, output, out, threads):
    """out = the gradient [+ other where `plus`], zero where `masked` and output is not positive.

    It may be the gradient's own array, or `other`.
    """
    on_all_threads(_materialise_gradient_part, threads, gradient, plus, other, masked, output, out)


@helper
def _materialise_gradient_part(thread, threads, gradient, plus, other, masked, output, out):
    rows, cols, channels, bands, lanes = out.shape
    g = View(buffer(bands * LANES, gradient.scale), 0, LANES)
    for row in share(rows * cols * channels, thread, threads):
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
    (channels, lanes), number = sums.shape, sums.dtype.type
    averages, out = np.empty(sums.shape, sums.dtype), np.empty(sums.shape, sums.dtype)
    for k in range(channels):
        for lane in range(lanes):
            averages[k, lane] = sums[k, lane] / number(numbers)
    for k in range(channels):
        for lane in range(lanes):
            total = number(0)
            for j in range(max(0, k - REACH), min(channels, k + REACH + 1)):
                total += weight[j - k + REACH] * averages[j, lane]
            out[k, lane] = 1 / (1 + np.exp(-total))
    return averages, out


@compiled
def gates_backward(of_gates, averages, gates_, numbers, weight, patches):
    """Gradients of each of the numbers summed, and of the weight, from so many patches."""
    (channels, lanes), number = averages.shape, averages.dtype.type
    of_numbers = np.zeros(averages.shape, averages.dtype)
    of_weight = np.zeros(weight.shape, weight.dtype)
    for k in range(channels):
        for j in range(max(0, k - REACH), min(channels, k + REACH + 1)):
            i = j - k + REACH
            for lane in range(lanes):
                gate = gates_[k, lane]
                # Of what the sigmoid is taken of.
                of_inner = number(of_gates[k, lane] * gate * (1 - gate))
                of_numbers[j, lane] += weight[i] * of_inner
                if lane < patches:
                    of_weight[i] += of_inner * averages[j, lane]
    for k in range(channels):
        for lane in range(lanes):
            of_numbers[k, lane] /= number(numbers)
    return of_numbers, of_weight


@helper
def _total(sums, patches):
    """Add up each channel's sums in the batch lanes that hold patches, in float64."""
    result = np.zeros(sums.shape[1])
    for thread in range(len(sums)):
        for k in range(len(result)):
            for lane in range(patches):
                result[k] += sums[thread, k, lane]
    return result
