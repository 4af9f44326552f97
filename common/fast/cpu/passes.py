"""Passes over feature maps whose batch lies innermost, between two convolutions (CPU).

Maps and gradients are those of `reading.py`.  Sums are kept in the type of a norm per lane and
thread, and in float64 from there on; lanes that hold no patch, from `used` on, are left out.
"""

import numba
import numpy as np

from common.fast.codegen import batch_norm as normalisation
from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled, on_all_threads
from common.fast.codegen.vectors import LANES
from common.fast.cpu.reading import add_gradient_sums, copy, read_gradient, read_row, rooms


def _moments(x, floor, shift):
    x = x.at_least(floor) - shift
    return x, x * x


_add_moments = along_bands(_moments, inputs=1, numbers=2, sums=2)
_add = along_bands(lambda x: [x], inputs=1, sums=1)
_add_product = along_bands(lambda x, y: [x * y], inputs=2, sums=1)
_weighted_sum = along_bands(
    lambda x, y, w, v, floor: [x.times_plus(w, y * v).at_least(floor)],
    inputs=2, lanes=2, numbers=1, outputs=1,
)  # fmt: skip
_sum = along_bands(lambda x, y: [x + y], inputs=2, outputs=1)
_where_positive = along_bands(lambda g, x: [g.where_above(x, x - x)], inputs=2, outputs=1)


@compiled
def batch_norm(x, used, floor, weight, bias, mean, variance, momentum, eps, threads):
    """What a batch norm of max(x, floor) multiplies with and adds, per kernel.

    `mean` and `variance` are the running statistics.  They normalise where `momentum` is 0;
    otherwise the batch's own do, and the running ones follow.

    Returns
    -------
    mean, 1 / std
        float64 (kernels,), that normalise.
    scale, offset
        (kernels,), of `Norm`.
    """
    used_mean, used_variance = mean.astype(np.float64), variance.astype(np.float64)
    if momentum > 0:
        used_mean, used_variance, count = _statistics(x, used, floor, weight, threads)
        normalisation.follow(mean, variance, used_mean, used_variance, count, momentum)
    inverse_std, scale, offset = normalisation.scale_and_offset(
        used_mean, used_variance, weight, bias, eps
    )
    return used_mean, inverse_std, scale.astype(weight.dtype), offset.astype(weight.dtype)


@compiled
def batch_norm_backward(x, used, norm, mean, inverse_std, training, sums):
    """Gradients of a batch norm's weight and bias; slope and shift of `Gradient`.

    `sums` are those of `gradient_sums`.
    """
    rows, cols, _, bands, _ = x.shape
    of_bias, dot, count = _total(sums[0], used), _total(sums[1], used), rows * cols * bands * used
    of_weight, slope, shift = normalisation.gradients(
        mean, inverse_std, norm[1], of_bias, dot, count, training
    )
    kind = norm[1].dtype
    return of_weight.astype(kind), of_bias.astype(kind), slope.astype(kind), shift.astype(kind)


@compiled
def _statistics(x, used, floor, like, threads):
    """Mean and variance of max(x, floor) per kernel, and how many numbers these are of."""
    rows, cols, kernels, bands, lanes = x.shape
    shift, lanes_ = np.zeros(kernels, like.dtype), np.zeros(LANES, like.dtype)
    for k in range(kernels):  # what is summed is near zero, so that little cancels
        for place in range(rows * cols):
            at = (place * kernels + k) * bands * lanes
            copy(1, x.reshape(-1), at, 0, lanes_, 0, 0)
            shift[k] += max(lanes_[0], floor) / (rows * cols)
    sums = np.zeros((threads, kernels, lanes), like.dtype)
    squares = np.zeros_like(sums)
    _moments_on_threads(x.reshape(-1), x.shape, floor, shift, sums, squares)
    count = rows * cols * bands * used
    mean, square = _total(sums, used) / count, _total(squares, used) / count
    return shift + mean, np.maximum(square - mean**2, 0), count


@on_all_threads
def _moments_on_threads(x, shape, floor, shift, sums, squares):
    rows, cols, kernels, bands, lanes = shape
    length, threads = rows * cols * kernels, len(sums)
    for thread in numba.prange(threads):
        flat, flat_squares = sums[thread].reshape(-1), squares[thread].reshape(-1)
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            k, here = row % kernels, row * bands * lanes
            for lane in range(0, lanes, LANES):
                at = k * lanes + lane
                _add_moments(
                    bands, x, here + lane, lanes, floor, shift[k], flat, at, flat_squares, at
                )


@on_all_threads
def gradient_sums(x, norm, gradient, threads):
    """Sum of the gradient that passes a norm's last ReLU, and of it times max(x, floor).

    Returns ``(2, threads, kernels, lanes)``.
    """
    rows, cols, kernels, bands, lanes = x.shape
    length, flat_x = rows * cols * kernels, x.reshape(-1)
    both = np.zeros((2, threads, kernels, lanes), norm[1].dtype)
    gradients = rooms(threads, bands * LANES, norm[1])
    for thread in numba.prange(threads):
        g = gradients[thread]
        sums, dots = both[0, thread].reshape(-1), both[1, thread].reshape(-1)
        _, scale, offset, floor, floor_out = norm
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            k, start = row % kernels, row * bands * lanes
            for lane in range(0, lanes, LANES):
                at, here = k * lanes + lane, start + lane
                read_gradient(gradient, here, lanes, bands, k, lane, g, 0, LANES)
                add_gradient_sums(
                    bands, g, 0, LANES, flat_x, here, lanes, scale[k], offset[k], floor, floor_out,
                    sums, at, dots, at,
                )  # fmt: skip
    return both


@on_all_threads
def patch_sums(shape, norm, x, times, y, threads):
    """Sum of x, read as `norm` says, or of x * y where `times`: (threads, kernels, lanes)."""
    rows, cols, kernels, bands, lanes = shape
    length = rows * cols * kernels
    sums = np.zeros((threads, kernels, lanes), norm[1].dtype)
    values_of = rooms(threads, bands * LANES, sums)
    for thread in numba.prange(threads):
        values, flat = values_of[thread], sums[thread].reshape(-1)
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            k, here = row % kernels, row * bands * lanes
            for lane in range(0, lanes, LANES):
                at = k * lanes + lane
                read_row(x, here + lane, lanes, bands, norm, k, values, 0, LANES)
                if times:
                    _add_product(bands, values, 0, LANES, y, here + lane, lanes, flat, at)
                else:
                    _add(bands, values, 0, LANES, flat, at)
    return sums


@on_all_threads
def weigh(shape, norm, x, weight, norm_y, y, weight_y, floor, out, threads):
    """out = max(x * weight + y * weight_y, floor).

    Maps are read as norms say, weights are flat (kernels, lanes).
    """
    rows, cols, kernels, bands, lanes = shape
    length = rows * cols * kernels
    ones = rooms(threads, bands * LANES, weight)
    others = rooms(threads, bands * LANES, weight)
    for thread in numba.prange(threads):
        one, other = ones[thread], others[thread]
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            k, here = row % kernels, row * bands * lanes
            for lane in range(0, lanes, LANES):
                at = k * lanes + lane
                read_row(x, here + lane, lanes, bands, norm, k, one, 0, LANES)
                read_row(y, here + lane, lanes, bands, norm_y, k, other, 0, LANES)
                _weighted_sum(
                    bands, one, 0, LANES, other, 0, LANES, weight, at, weight_y, at,
                    floor, out, here + lane, lanes,
                )  # fmt: skip


@on_all_threads
def work_out(shape, norm, x, out, threads):
    """out = x, read as `norm` says."""
    rows, cols, kernels, bands, lanes = shape
    length = rows * cols * kernels
    for thread in numba.prange(threads):
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            for here in range(row * bands * lanes, row * bands * lanes + lanes, LANES):
                read_row(x, here, lanes, bands, norm, row % kernels, out, here, lanes)


@on_all_threads
def work_out_gradient(shape, gradient, plus, other, masked, output, out, threads):
    """out = the gradient [+ other where `plus`], zero where `masked` and output is not positive.

    It may be the gradient's own array, or `other`.
    """
    rows, cols, kernels, bands, lanes = shape
    length = rows * cols * kernels
    gradients = rooms(threads, bands * LANES, gradient[2])
    for thread in numba.prange(threads):
        g = gradients[thread]
        for row in range(thread * length // threads, (thread + 1) * length // threads):
            k, start = row % kernels, row * bands * lanes
            for lane in range(0, lanes, LANES):
                here = start + lane
                read_gradient(gradient, here, lanes, bands, k, lane, g, 0, LANES)
                if plus:
                    _sum(bands, g, 0, LANES, other, here, lanes, g, 0, LANES)
                if masked:
                    _where_positive(bands, g, 0, LANES, output, here, lanes, g, 0, LANES)
                copy(bands, g, 0, LANES, out, here, lanes)


@compiled
def _total(sums, used):
    """Add up each kernel's sums in the lanes that hold patches, in float64."""
    result = np.zeros(sums.shape[1])
    for thread in range(len(sums)):
        for k in range(len(result)):
            for lane in range(used):
                result[k] += sums[thread, k, lane]
    return result
