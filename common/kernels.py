"""What stands between two convolutions, in as few passes over memory as it takes (CPU).

A step of these small networks moves far more memory than it needs to when each ReLU, each sum
and each product is a pass of its own.  The loops here are compiled by Numba when first called
(once per machine: Numba caches the result), so that no C++ compiler is needed.

Feature maps are read as ``(rows, columns)``: one row per position of a patch, its bands × kernels
side by side, kernels innermost.  They hold float32, float64, or bfloat16 given as its bits in
uint16, which is widened to float32 on reading and rounded to nearest even on writing.  Sums are
kept in the wider type per column, and in float64 from there on.  A ReLU is a `floor`: zero, or
minus infinity for none.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from common import normalisation
from common.compiling import compiled, on_all_threads


def _wide(value):
    """Return the number that an element of a feature map stands for."""


@overload(_wide, inline="always")
def _wide_of(value):
    if value == types.uint16:
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


def _store(array, row, column, value):
    """Write a number to a feature map, rounded to its precision."""


@overload(_store, inline="always")
def _store_in(array, row, column, value):
    if array.dtype != types.uint16:

        def store(array, row, column, value):
            array[row, column] = value

        return store

    def store_bfloat16(array, row, column, value):
        bits = np.float32(value).view(np.uint32)
        bits += np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        array[row, column] = np.uint16(bits >> np.uint32(16))

    return store_bfloat16


@compiled
def batch_norm(
    x, floor, weight, bias, mean, variance, momentum, eps, shortcut, floor_out, out, threads
):
    """out = max(BN(max(x, floor)) [+ shortcut], floor_out).

    `mean` and `variance` are the running statistics.  They normalise where `momentum` is 0;
    otherwise the batch's own do, and the running ones follow.  `shortcut` is like `out`, or None.

    Returns what `batch_norm_backward` needs: mean and 1 / std of each kernel, scale and offset of
    each column.
    """
    used_mean, used_variance = mean.astype(np.float64), variance.astype(np.float64)
    if momentum > 0:
        used_mean, used_variance = _statistics(x, floor, weight, threads)
        count = x.size // len(weight)
        normalisation.follow(mean, variance, used_mean, used_variance, count, momentum)
    inverse_std, scale, offset = normalisation.scale_and_offset(
        used_mean, used_variance, weight, bias, eps
    )
    scale, offset = _for_columns(scale, x, weight), _for_columns(offset, x, weight)
    _normalise(x, floor, scale, offset, shortcut, floor_out, out)
    return used_mean, inverse_std, scale, offset


@compiled
def batch_norm_backward(x, floor, saved, floor_out, training, gradient, x_gradient, threads):
    """Write the gradient of `batch_norm`, without a shortcut, for x; return weight's and bias'.

    `saved` is what `batch_norm` returned.
    """
    mean, inverse_std, scale, offset = saved
    kernels = len(mean)
    sums, dots = _per_thread(threads, scale), _per_thread(threads, scale)
    _gradient_sums(x, floor, scale, offset, floor_out, gradient, sums, dots)
    bias_gradient, dot = _per_kernel(sums, kernels), _per_kernel(dots, kernels)
    weight_gradient, slope, constant = normalisation.gradients(
        mean, inverse_std, scale[:kernels], bias_gradient, dot, x.size // kernels, training
    )
    slopes, constants = _for_columns(slope, x, scale), _for_columns(constant, x, scale)
    _normalise_backward(x, floor, scale, offset, floor_out, gradient, slopes, constants, x_gradient)
    return weight_gradient.astype(scale.dtype), bias_gradient.astype(scale.dtype)


@on_all_threads
def relu_backward(output, zero, gradient, out):
    """out = gradient where the ReLU's output is above `zero`, else zero."""
    rows, columns = output.shape
    for row in numba.prange(rows):
        for j in range(columns):
            g = _wide(gradient[row, j])
            if _wide(output[row, j]) <= zero:
                g = zero
            _store(out, row, j, g)


@compiled
def patch_sums(x, y, sums):
    """Sum of x * y, or of x where y is None, per patch and kernel: `sums` (patches, kernels)."""
    patches, kernels = sums.shape
    per_column = np.zeros((patches, x.shape[1]), sums.dtype)
    _sum_rows(x, y, per_column)
    for patch in range(patches):
        sums[patch] = _per_kernel(per_column[patch : patch + 1], kernels)


@compiled
def weigh(x, weight, y, weight_y, out):
    """out = x * weight + y * weight_y, weights ``(patches, kernels)``, or None for 1."""
    columns = _patch_columns(weight, x)
    if weight_y is None:
        _weigh(x, columns, y, None, out)
    else:
        _weigh(x, columns, y, _patch_columns(weight_y, y), out)


@compiled
def scale_and_shift(x, weight, constant, out):
    """out = x * weight + constant, both ``(patches, kernels)``."""
    _scale_and_shift(x, _patch_columns(weight, x), _patch_columns(constant, x), out)


@compiled
def _statistics(x, floor, weight, threads):
    """Mean and variance of max(x, floor) per kernel."""
    rows, columns = x.shape
    shift = np.empty(columns, weight.dtype)
    sums, squares = _per_thread(threads, shift), _per_thread(threads, shift)
    samples = min(rows, 16)
    for j in range(columns):  # what is summed is near zero, so that little cancels
        shift[j] = 0
        for sample in range(samples):
            shift[j] += max(_wide(x[sample * rows // samples, j]), floor) / samples
    _moments(x, floor, shift, sums, squares)
    kernels, bands = len(weight), columns // len(weight)
    column_mean, column_square = _over_threads(sums) / rows, _over_threads(squares) / rows
    mean, variance = np.zeros(kernels), np.zeros(kernels)
    for j in range(columns):
        mean[j % kernels] += (shift[j] + column_mean[j]) / bands
    for j in range(columns):
        between = shift[j] + column_mean[j] - mean[j % kernels]
        variance[j % kernels] += (column_square[j] - column_mean[j] ** 2 + between**2) / bands
    return mean, variance


@on_all_threads
def _moments(x, floor, shift, sums, squares):
    rows, columns = x.shape
    threads = len(sums)
    for thread in numba.prange(threads):
        total, square = sums[thread], squares[thread]
        for row in range(thread * rows // threads, (thread + 1) * rows // threads):
            for j in range(columns):
                value = max(_wide(x[row, j]), floor) - shift[j]
                total[j] += value
                square[j] += value * value


@on_all_threads
def _normalise(x, floor, scale, offset, shortcut, floor_out, out):
    rows, columns = x.shape
    for row in numba.prange(rows):
        for j in range(columns):
            value = max(_wide(x[row, j]), floor) * scale[j] + offset[j]
            if shortcut is not None:
                value += _wide(shortcut[row, j])
            _store(out, row, j, max(value, floor_out))


@on_all_threads
def _gradient_sums(x, floor, scale, offset, floor_out, gradient, sums, dots):
    """Sums of the gradient that passes the last ReLU, and of it times max(x, floor)."""
    rows, columns = x.shape
    threads = len(sums)
    zero = scale.dtype.type(0)
    for thread in numba.prange(threads):
        total, dot = sums[thread], dots[thread]
        for row in range(thread * rows // threads, (thread + 1) * rows // threads):
            for j in range(columns):
                value = max(_wide(x[row, j]), floor)
                g = _wide(gradient[row, j])
                if value * scale[j] + offset[j] <= floor_out:
                    g = zero
                total[j] += g
                dot[j] += g * value


@on_all_threads
def _normalise_backward(x, floor, scale, offset, floor_out, gradient, slope, constant, x_gradient):
    rows, columns = x.shape
    zero = scale.dtype.type(0)
    for row in numba.prange(rows):
        for j in range(columns):
            value = _wide(x[row, j])
            g = _wide(gradient[row, j])
            if max(value, floor) * scale[j] + offset[j] <= floor_out:
                g = zero
            g = g * scale[j] + slope[j] * value + constant[j]
            if value <= floor:
                g = zero
            _store(x_gradient, row, j, g)


@on_all_threads
def _sum_rows(x, y, sums):
    patches, columns = sums.shape
    positions = len(x) // patches
    for patch in numba.prange(patches):
        total = sums[patch]
        for row in range(patch * positions, (patch + 1) * positions):
            for j in range(columns):
                value = _wide(x[row, j])
                if y is not None:
                    value *= _wide(y[row, j])
                total[j] += value


@on_all_threads
def _weigh(x, weight, y, weight_y, out):
    rows, columns = x.shape
    positions = rows // len(weight)
    for row in numba.prange(rows):
        patch = row // positions
        for j in range(columns):
            value = _wide(y[row, j])
            if weight_y is not None:
                value *= weight_y[patch, j]
            _store(out, row, j, _wide(x[row, j]) * weight[patch, j] + value)


@on_all_threads
def _scale_and_shift(x, weight, constant, out):
    rows, columns = x.shape
    positions = rows // len(weight)
    for row in numba.prange(rows):
        patch = row // positions
        for j in range(columns):
            _store(out, row, j, _wide(x[row, j]) * weight[patch, j] + constant[patch, j])


@compiled
def _for_columns(per_kernel, x, like):
    """Repeat a value per kernel for all columns of `x`, in the type of `like`."""
    kernels = len(per_kernel)
    values = np.empty(x.shape[1], like.dtype)
    for j in range(0, len(values), kernels):
        for k in range(kernels):
            values[j + k] = per_kernel[k]
    return values


@compiled
def _patch_columns(per_kernel, x):
    """Repeat a value per patch and kernel for all columns of `x`: ``(patches, columns)``."""
    patches = len(per_kernel)
    values = np.empty((patches, x.shape[1]), per_kernel.dtype)
    for patch in range(patches):
        values[patch] = _for_columns(per_kernel[patch], x, per_kernel)
    return values


@compiled
def _per_thread(threads, like):
    """Zeros for every thread to sum up in."""
    return np.zeros((threads, len(like)), like.dtype)


@compiled
def _over_threads(sums):
    """Add up what each thread has: float64 per column."""
    total = np.zeros(sums.shape[1])
    for thread in range(len(sums)):
        total += sums[thread]
    return total


@compiled
def _per_kernel(sums, kernels):
    """Add up what each thread has for the columns of a kernel: float64 per kernel."""
    columns, total = _over_threads(sums), np.zeros(kernels)
    for j in range(0, len(columns), kernels):
        for k in range(kernels):
            total[k] += columns[j + k]
    return total
