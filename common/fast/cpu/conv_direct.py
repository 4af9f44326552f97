"""Convolutions of stride 1 over rows and cols, and any stride over the bands, on the CPU.

Feature maps and their gradients are a `Source` and a `Gradient` of `reading.py`.  Where the stride
is 2 and the gradient of the input is not wanted, the products can be made in bfloat16, of pairs of
numbers in int32: of neighbouring bands, over which a convolution's stride is 1; or, for the
weights' gradient, of a band and the one that the next of the output's bands sees.
"""

from typing import NamedTuple

import numpy as np
from numba import types
from numba.extending import overload

from common.fast.codegen.jit import compiled, helper
from common.fast.codegen.processor import AVX512
from common.fast.codegen.threads import on_all_threads, share
from common.fast.codegen.tiles import (
    GRADIENT_CHANNELS,
    OFFSETS,
    add_up_lanes,
    gradient_tile,
    output_tile,
)
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu.reading import (
    Cell,
    Gradient,
    Source,
    add_gradient_sums,
    buffer,
    cell_of,
    clear_lanes,
    copy,
    first_channels,
    lanes_of,
    pair_up,
    read_gradient,
    read_row,
    row_of,
    sum_row,
)

CHANNELS = 6  # of an output tile
BANDS = 4 if AVX512 else 1  # of a wide one
_wide_tile, _narrow_tile = output_tile(CHANNELS, BANDS), output_tile(CHANNELS, 1)


class Geometry(NamedTuple):
    """A convolution's kernel size, the zeros around the map, and its stride along the bands."""

    rows: int
    cols: int
    bands: int
    pad_rows: int
    pad_cols: int
    pad_bands: int
    stride: int


class Sums(NamedTuple):
    """What each thread found: of the weights' and the bias's gradient, and `gradient_sums`."""

    weights: np.ndarray
    bias: np.ndarray
    back: np.ndarray


@compiled
def convolve(x, geometry, tiles, bias, out, threads):
    """Write the convolution of the map `x` to the map `out`.

    `tiles` are of the weights ``(rows * cols * channels in, bands, channels out)``.
    """
    on_all_threads(_convolve_part, threads, x, geometry, tiles, bias, out)


@helper
def _convolve_part(thread, threads, x, geometry, tiles, bias, out):
    rows, cols, channels, _, lanes = out.shape
    cells, per_number = rows * cols * (lanes // LANES), _per_number(tiles)
    length, depth = _row_length(x, geometry) // per_number, tiles.shape[2]
    offsets = _window_offsets(geometry.rows * geometry.cols * x.array.shape[2], depth, length, 1)
    starts = first_channels(channels, CHANNELS)
    window = buffer(_window_size(x, geometry), bias)
    in_pairs = buffer(len(window) // 2, tiles)
    for index in share(cells, thread, threads):
        cell = cell_of(index, lanes)
        _read_window(x, geometry, cell.place // cols, cell.place % cols, cell.lane, window)
        inputs, stride = _pairs(window, 2, 1, in_pairs), geometry.stride // per_number
        _convolve_window(inputs, stride, offsets, tiles, starts, bias, out, cell)


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
        one, other = View(row, 0, step * LANES), View(row, distance * LANES, step * LANES)
        pair_up(count, one, other, View(pairs, 0, LANES))
        return pairs

    return paired if pairs.dtype == types.int32 else lambda row, step, distance, pairs: row


def weight_gradient(
    x: Source, geometry: Geometry, gradient: Gradient, tiles: np.ndarray, of_x: np.ndarray,
    threads: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Return the gradients of a convolution's weights and bias, given that of its output.

    Where the kernel is of one row and col, `tiles` may be of the weights with bands in reverse,
    ``(channels out, bands, channels in)``: then the gradient of the input, which is the convolution
    of the output's with these, is written to `of_x` in passing.  Otherwise there are none; of int32
    they ask for products in bfloat16.

    Returns
    -------
    array (channels out, rows * cols * channels in * bands)
    array (channels out,)
    array (threads, 2, channels in, lanes)
        Where there are `tiles` and `x` is normalised: `passes.gradient_sums` of what `of_x` holds.
    """
    _, _, channels, _, lanes = gradient.array.shape
    number, channels_in = x.scale.dtype, x.array.shape[2]
    count = geometry.rows * geometry.cols * channels_in * geometry.bands
    blocks, in_tiles = -(-channels // GRADIENT_CHANNELS), -(-count // OFFSETS) * OFFSETS
    sums = Sums(
        np.empty((threads, blocks, in_tiles, GRADIENT_CHANNELS), number),
        np.zeros((threads, channels, lanes), number),
        np.zeros((threads, 2, channels_in, lanes), number),
    )
    _sum_gradients(x, geometry, gradient, tiles, of_x, sums)
    return *_add_up(sums, x.patches, count), sums.back


@compiled
def _add_up(sums, patches, count):
    """The gradients of weights, of so many numbers for each channel, and of the bias."""
    threads, channels, _ = sums.bias.shape
    starts = first_channels(channels, GRADIENT_CHANNELS)
    of_weights = np.empty((channels, count), sums.weights.dtype)
    for block in range(len(starts)):
        for k in range(GRADIENT_CHANNELS):
            for i in range(count):
                of_weights[starts[block] + k, i] = 0
                for thread in range(threads):
                    of_weights[starts[block] + k, i] += sums.weights[thread, block, i, k]
    return of_weights, add_up_bias(sums.bias, patches)


@compiled
def add_up_bias(sums, patches):
    """Add up sums ``(threads, channels, lanes)`` of the lanes that hold patches."""
    threads, channels, _ = sums.shape
    of_bias = np.zeros(channels, sums.dtype)
    for thread in range(threads):
        for k in range(channels):
            total = sums.dtype.type(0)
            for lane in range(patches):
                total += sums[thread, k, lane]
            of_bias[k] += total
    return of_bias


@helper
def valid_lanes(patches, lanes, like):
    """One for each batch lane that holds a patch, zero for the others."""
    valid = np.zeros(lanes, like.dtype)
    valid[:patches] = 1
    return valid


@compiled
def _sum_gradients(x, geometry, gradient, tiles, of_x, sums):
    """Write each thread's sums for `weight_gradient`."""
    on_all_threads(_sum_gradients_part, len(sums.weights), x, geometry, gradient, tiles, of_x, sums)


@helper
def _sum_gradients_part(thread, threads, x, geometry, gradient, tiles, of_x, sums):
    rows, cols, channels, bands, lanes = gradient.array.shape
    channels_in, with_back, number = x.array.shape[2], tiles.size > 0, sums.bias
    cells, row_length = rows * cols * (lanes // LANES), _row_length(x, geometry)
    pad = geometry.bands - 1 - geometry.pad_bands if with_back else 0
    back_length, per_number = _even(bands + 2 * pad), _per_number(tiles)
    length, stride = back_length * LANES, geometry.stride * per_number
    taps = geometry.rows * geometry.cols * channels_in
    offsets = _window_offsets(taps, geometry.bands, row_length, OFFSETS)
    back_offsets = _window_offsets(channels, geometry.bands, back_length, 1)
    starts = first_channels(channels, GRADIENT_CHANNELS)
    back_starts = first_channels(channels_in, CHANNELS)
    no_bias = np.zeros(channels_in, number.dtype)
    valid = valid_lanes(x.patches, lanes, number)
    window = buffer(_window_size(x, geometry) + 2 * LANES, number)
    gradients, in_pairs = buffer(channels * length, number), buffer(len(window), tiles)
    gradients_in_pairs = buffer(channels * length // 2, tiles)
    vectors = buffer(sums.weights[thread].size * LANES, number)
    for index in share(cells, thread, threads):
        cell = cell_of(index, lanes)
        _read_window(x, geometry, cell.place // cols, cell.place % cols, cell.lane, window)
        if not valid[cell.lane + LANES - 1]:
            view = View(window, 0, LANES)
            clear_lanes(len(window) // LANES, view, View(valid, cell.lane, 0), view)
        for k in range(channels):
            g = View(gradients, k * length + pad * LANES, LANES)
            read_gradient(gradient, cell, k, g)
            sum_row(bands, g, lanes_of(sums.bias[thread], cell, k))
        inputs = _pairs(window, 1, geometry.stride, in_pairs)
        of_out = _pairs(gradients, 2, 1, gradients_in_pairs)
        _add_window(
            inputs, stride, offsets, starts,
            View(of_out, pad * LANES, length // per_number), -(-bands // per_number), vectors,
        )  # fmt: skip
        if with_back:
            _convolve_window(of_out, 1, back_offsets, tiles, back_starts, no_bias, of_x, cell)
            if x.normalised:  # while what was written is in the processor's cache
                for k in range(channels_in):
                    add_gradient_sums(x, cell, k, row_of(of_x, cell, k), sums.back[thread])
    add_up_lanes(sums.weights[thread].size, vectors, sums.weights[thread], 0)


@helper
def _add_window(window, stride, offsets, starts, of_out, bands, sums):
    """Add what one window gives to the sums of the weights' gradient.

    `of_out` is a `View` of the output's gradient there, its step from channel to channel.
    """
    at = 0
    for start in starts:
        for first in range(0, len(offsets), OFFSETS):
            gradient_tile(
                bands, View(window, 0, stride * LANES), View(offsets, first, 1),
                View(of_out.array, of_out.at + start * of_out.step, of_out.step),
                View(sums, at, LANES),
            )  # fmt: skip
            at += OFFSETS * GRADIENT_CHANNELS * LANES


@helper
def _convolve_window(window, stride, offsets, tiles, starts, bias, out, cell):
    """Write what one window gives to a cell of the output."""
    _, _, _, bands, lanes = out.shape
    band_step, weights = stride * LANES, len(offsets) * CHANNELS
    for tile, channel in enumerate(starts):
        here, channel_step = row_of(out, cell, channel).at, bands * lanes
        for band in range(0, bands - BANDS + 1, BANDS):
            _wide_tile(
                View(window, band * band_step, band_step), offsets,
                View(tiles, tile * weights, CHANNELS), View(bias, channel, 1),
                View(out, here + band * lanes, channel_step), lanes,
            )  # fmt: skip
        for band in range(bands // BANDS * BANDS, bands):
            _narrow_tile(
                View(window, band * band_step, band_step), offsets,
                View(tiles, tile * weights, CHANNELS), View(bias, channel, 1),
                View(out, here + band * lanes, channel_step), lanes,
            )  # fmt: skip


@helper
def _window_size(x, geometry):
    """How many numbers one output place sees: ``(rows, cols, channels, bands, LANES)``."""
    taps = geometry.rows * geometry.cols * x.array.shape[2]
    return taps * _row_length(x, geometry) * LANES


@helper
def _row_length(x, geometry):
    """Bands of a window's row, padding included, and one of zeros where they are odd."""
    return _even(x.array.shape[3] + 2 * geometry.pad_bands)


@helper
def _even(bands):
    return bands + bands % 2


@helper
def _read_window(x, geometry, row, col, lane, window):
    """Read 16 batch lanes of what the output's (row, col) sees; outside the map is zero."""
    rows, cols, channels, bands, _ = x.array.shape
    length = _row_length(x, geometry) * LANES
    as_it_is = not x.normalised and length == bands * LANES
    for tap in range(geometry.rows * geometry.cols):
        r, c = row + tap // geometry.cols, col + tap % geometry.cols
        r, c = r - geometry.pad_rows, c - geometry.pad_cols
        first, cell = tap * channels * length, Cell(r * cols + c, lane)
        if not (0 <= r < rows and 0 <= c < cols):
            window[first : first + channels * length] = 0
        elif as_it_is:
            copy(channels * bands, row_of(x.array, cell, 0), View(window, first, LANES))
        else:
            for k in range(channels):
                at = first + k * length + geometry.pad_bands * LANES
                read_row(x, cell, k, View(window, at, LANES))


@helper
def _window_offsets(rows, bands, length, multiple):
    """Where in a window lies what each weight is multiplied with, for the output's first band.

    Of each of the window's rows, which are so many bands long, a weight sees the first `bands`.
    Offsets are filled up to a multiple with zeros.
    """
    count = rows * bands
    offsets = np.zeros(-(-count // multiple) * multiple, np.int64)
    for index in range(count):
        offsets[index] = (index // bands * length + index % bands) * LANES
    return offsets
