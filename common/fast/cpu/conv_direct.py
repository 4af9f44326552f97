"""Convolutions of stride 1 over rows and cols, and any stride over the bands, on the CPU.

Feature maps and their gradients are those of `reading.py`, `norm` and `gradient` given as plain
tuples.  `size` and `padding` are those over (rows, cols, bands), `stride` is along the bands.
Where it is 2 and the gradient of the input is not wanted, the products can be made in bfloat16, of
pairs of numbers in int32: of neighbouring bands, over which a convolution's stride is 1; or, for
the weights' gradient, of a band and the one that the next of the output's bands sees.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from common.fast.codegen.jit import compiled, on_all_threads
from common.fast.codegen.processor import AVX512
from common.fast.codegen.tiles import (
    GRADIENT_KERNELS,
    OFFSETS,
    add_up_lanes,
    gradient_tile,
    output_tile,
)
from common.fast.codegen.vectors import LANES
from common.fast.cpu.reading import (
    add_gradient_sums,
    clear_lanes,
    copy,
    first_kernels,
    pair_up,
    read_gradient,
    read_row,
    rooms,
    sum_row,
)

KERNELS = 6  # of an output tile
BANDS = 4 if AVX512 else 1  # of a wide one
_wide_tile, _narrow_tile = output_tile(KERNELS, BANDS), output_tile(KERNELS, 1)


@on_all_threads
def convolve(x, norm, padding, size, stride, tiles, bias, out, threads):
    """Write the convolution of the map `x`, read as `norm` says, to the map `out`.

    `tiles` are of the weights ``(rows * cols * kernels in, bands, kernels out)``.
    """
    rows, cols, kernels, _, lanes = out.shape
    groups, per_number = lanes // LANES, _per_number(tiles)
    places = rows * cols * groups
    length, depth = _row_length(x, padding) // per_number, tiles.shape[2]
    offsets = _window_offsets(x.shape[2], length, size[0], size[1], depth, 1)
    starts = first_kernels(kernels, KERNELS)
    windows = rooms(threads, _window_size(x, padding, size), bias)
    windows_in_pairs = rooms(threads, len(windows[0]) // 2, tiles)
    for thread in numba.prange(threads):
        window = windows[thread]
        for place in range(thread * places // threads, (thread + 1) * places // threads):
            row, col, group = place // groups // cols, place // groups % cols, place % groups
            _read_window(x, norm, row, col, group, padding, size, window)
            inputs = _pairs(window, 2, 1, windows_in_pairs[thread])
            _convolve_window(
                inputs, stride // per_number, offsets, tiles, starts, bias, out, row, col, group
            )


def _per_number(tiles):
    """How many numbers there are in each of an array's, 1 or 2."""


@overload(_per_number)
def _per_number_of(tiles):
    per_number = 2 if tiles.dtype == types.int32 else 1
    return lambda tiles: per_number


def _pairs(row, step, distance, pairs):
    """Every `step`-th vector of a row in pairs with the one at a distance, if pairs are wanted."""


@overload(_pairs)
def _pairs_like(row, step, distance, pairs):
    def paired(row, step, distance, pairs):
        count = -((distance - len(row) // LANES) // step)
        pair_up(count, row, 0, step * LANES, row, distance * LANES, step * LANES, pairs, 0, LANES)
        return pairs

    return paired if pairs.dtype == types.int32 else lambda row, step, distance, pairs: row


@compiled
def weight_gradient(x, norm, used, padding, size, stride, gradient, shape, tiles, of_x, threads):
    """Return the gradients of a convolution's weights and bias, given that of its output.

    `shape` is the output's; the first `used` lanes hold patches.  Where the kernels are of one row
    and col, `tiles` may be of the weights with bands in reverse, ``(kernels out, bands, kernels
    in)``: then the gradient of the input, which is the convolution of the output's with these, is
    written to `of_x` in passing.  Otherwise there are none; of int32 they ask for products in
    bfloat16.

    Returns
    -------
    array (kernels out, rows * cols * kernels in * bands)
    array (kernels out,)
    array (2, threads, kernels in, lanes)
        Where there are `tiles` and `norm` is used: `passes.gradient_sums` of what `of_x` holds.
    """
    kernels, lanes = shape[2], shape[4]
    length = _row_length(x, padding)
    offsets = _window_offsets(x.shape[2], length, size[0], size[1], size[2], OFFSETS)
    starts = first_kernels(kernels, GRADIENT_KERNELS)
    number = norm[1].dtype
    sums = np.empty((threads, len(starts), len(offsets), GRADIENT_KERNELS), number)
    bias_sums = np.zeros((threads, kernels, lanes), number)
    valid = (np.arange(lanes) < used).astype(number)
    back_sums = np.zeros((2, threads, x.shape[2], lanes), number)
    _sum_gradients(
        x, norm, padding, size, stride, offsets, starts, gradient, shape, valid, sums, bias_sums,
        tiles, of_x, back_sums,
    )  # fmt: skip
    of_weights = np.empty((kernels, len(offsets)), number)
    for block, start in enumerate(starts):
        for k in range(GRADIENT_KERNELS):
            of_weights[start + k] = 0
            for thread in range(threads):
                of_weights[start + k] += sums[thread, block, :, k]
    count = size[0] * size[1] * x.shape[2] * size[2]
    return of_weights[:, :count].copy(), (bias_sums * valid).sum(axis=2).sum(axis=0), back_sums


@on_all_threads
def _sum_gradients(
    x, norm, padding, size, stride, offsets, starts, gradient, shape, valid, sums, bias_sums,
    tiles, of_x, back_sums,
):  # fmt: skip
    """Write each thread's sums for `weight_gradient`."""
    rows, cols, kernels, bands, lanes = shape
    groups, threads, with_back = lanes // LANES, len(sums), tiles.size > 0
    pad = size[2] - 1 - padding[2] if with_back else 0
    places, row_length = rows * cols * groups, _even(bands + 2 * pad)
    per_number, length = _per_number(tiles), row_length * LANES
    back_offsets = _window_offsets(kernels, row_length, 1, 1, size[2], 1)
    back_starts, no_bias = first_kernels(x.shape[2], KERNELS), np.zeros(x.shape[2], sums.dtype)
    windows = rooms(threads, _window_size(x, padding, size) + 2 * LANES, sums)
    gradients = rooms(threads, kernels * length, sums)
    windows_in_pairs = rooms(threads, len(windows[0]), tiles)
    gradients_in_pairs = rooms(threads, kernels * length // 2, tiles)
    sums_of_lanes = rooms(threads, sums[0].size * LANES, sums)
    for thread in numba.prange(threads):
        window, row_of_out, vectors = windows[thread], gradients[thread], sums_of_lanes[thread]
        flat_bias = bias_sums[thread].reshape(-1)
        for place in range(thread * places // threads, (thread + 1) * places // threads):
            row, col, group = place // groups // cols, place // groups % cols, place % groups
            first = group * LANES
            _read_window(x, norm, row, col, group, padding, size, window)
            if not valid[first + LANES - 1]:
                count = len(window) // LANES
                clear_lanes(count, window, 0, LANES, valid, first, window, 0, LANES)
            for k in range(kernels):
                here = ((row * cols + col) * kernels + k) * bands * lanes + first
                at = k * length + pad * LANES
                read_gradient(gradient, here, lanes, bands, k, first, row_of_out, at, LANES)
                sum_row(bands, row_of_out, at, LANES, flat_bias, k * lanes + first)
            inputs = _pairs(window, 1, stride, windows_in_pairs[thread])
            of_out = _pairs(row_of_out, 2, 1, gradients_in_pairs[thread])
            _add_window(
                inputs, stride * per_number, offsets, starts, of_out, length // per_number, pad,
                -(-bands // per_number), vectors,
            )  # fmt: skip
            if with_back:
                _convolve_window(
                    of_out, 1, back_offsets, tiles, back_starts, no_bias, of_x, row, col, group
                )
                if norm[0]:
                    _sum_back(
                        x, norm, of_x, row, col, group, back_sums[0, thread], back_sums[1, thread]
                    )
        add_up_lanes(sums[thread].size, vectors, sums.reshape(-1), thread * sums[thread].size)


@compiled
def _sum_back(x, norm, of_x, row, col, group, sums, dots):
    """Add to `passes.gradient_sums` what is at one place, while it is in the processor's cache."""
    _, cols, kernels, bands, lanes = x.shape
    _, scale, offset, floor, floor_out = norm
    flat, flat_of_x, flat_sums = x.reshape(-1), of_x.reshape(-1), sums.reshape(-1)
    flat_dots = dots.reshape(-1)
    for k in range(kernels):
        here = ((row * cols + col) * kernels + k) * bands * lanes + group * LANES
        at = k * lanes + group * LANES
        add_gradient_sums(
            bands, flat_of_x, here, lanes, flat, here, lanes, scale[k], offset[k], floor, floor_out,
            flat_sums, at, flat_dots, at,
        )  # fmt: skip


@compiled
def _add_window(window, stride, offsets, starts, of_out, length, pad, bands, sums):
    """Add what one window gives to the sums of the weights' gradient."""
    at = 0
    for start in starts:
        for first in range(0, len(offsets), OFFSETS):
            gradient_tile(
                window, offsets, first, stride * LANES,
                of_out, start * length + pad * LANES, length, bands, sums, at,
            )  # fmt: skip
            at += OFFSETS * GRADIENT_KERNELS * LANES


@compiled
def _convolve_window(window, stride, offsets, tiles, starts, bias, out, row, col, group):
    """Write what one window gives to a group of the output's lanes."""
    _, cols, kernels, bands, lanes = out.shape
    flat_out, flat_tiles, count = out.reshape(-1), tiles.reshape(-1), len(offsets)
    kernel_step, band_step = bands * lanes, stride * LANES
    for tile, kernel in enumerate(starts):
        first = tile * count * KERNELS
        here = ((row * cols + col) * kernels + kernel) * kernel_step + group * LANES
        for band in range(0, bands - BANDS + 1, BANDS):
            _wide_tile(
                window, band * band_step, band_step, offsets, count, flat_tiles, first,
                bias, kernel, flat_out, here + band * lanes, kernel_step, lanes,
            )  # fmt: skip
        for band in range(bands // BANDS * BANDS, bands):
            _narrow_tile(
                window, band * band_step, band_step, offsets, count, flat_tiles, first,
                bias, kernel, flat_out, here + band * lanes, kernel_step, lanes,
            )  # fmt: skip


@compiled
def _window_size(x, padding, size):
    """How many numbers one output place sees: ``(rows, cols, kernels, bands, LANES)``."""
    return size[0] * size[1] * x.shape[2] * _row_length(x, padding) * LANES


@compiled
def _row_length(x, padding):
    """Bands of a window's row, padding included, and one of zeros where they are odd."""
    return _even(x.shape[3] + 2 * padding[2])


@compiled
def _even(bands):
    return bands + bands % 2


@compiled
def _read_window(x, norm, row, col, group, padding, size, window):
    """Read 16 lanes about (row, col); what is outside the map is zero."""
    rows, cols, kernels, bands, lanes = x.shape
    flat, length = x.reshape(-1), _row_length(x, padding) * LANES
    for tap in range(size[0] * size[1]):
        r, c = row + tap // size[1] - padding[0], col + tap % size[1] - padding[1]
        first = tap * kernels * length
        if 0 <= r < rows and 0 <= c < cols and not norm[0] and length == bands * LANES:
            here = (r * cols + c) * kernels * bands * lanes + group * LANES
            copy(kernels * bands, flat, here, lanes, window, first, LANES)
        elif 0 <= r < rows and 0 <= c < cols:
            for k in range(kernels):
                here = ((r * cols + c) * kernels + k) * bands * lanes + group * LANES
                at = first + k * length + padding[2] * LANES
                read_row(flat, here, lanes, bands, norm, k, window, at, LANES)
        else:
            window[first : first + kernels * length] = 0


@compiled
def _window_offsets(kernels, bands, rows, cols, depth, multiple):
    """Where in a window lies what each weight is multiplied with, for the output's first band.

    The window has so many kernels and bands; places are filled up to a multiple with zeros.
    """
    count = rows * cols * kernels * depth
    offsets = np.zeros(-(-count // multiple) * multiple, np.int64)
    for index in range(count):
        offsets[index] = (index // depth * bands + index % depth) * LANES
    return offsets
