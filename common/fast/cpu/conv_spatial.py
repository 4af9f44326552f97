"""Convolutions over rows and cols whose kernels fill the band axis, on the CPU.

Such are the collapse of the band axis, a product of matrices per place, the spatial stem, and all
that follows it.  Feature maps and their gradients are a `Source` and a `Gradient` of `reading.py`;
channels and bands of one place are its numbers here, ``(rows, cols, numbers, lanes)``.  Of a
`Geometry` rows and cols matter, the stride is 1, and weights come in tiles, as
`weight_tiles.tiles_of` makes them.  Where these hold pairs, maps are rounded to pairs of bfloat16
too, of neighbouring numbers, and products are made in bfloat16, sums in float32.  `per_number` says
how many numbers there are in each of an array's, 1 or 2.
"""

import numpy as np
from numba import types
from numba.extending import overload

from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled, helper
from common.fast.codegen.processor import AVX512
from common.fast.codegen.threads import on_all_threads, share
from common.fast.codegen.tiles import PRODUCTS, output_tile, product_tile
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu.conv_direct import Geometry, add_up_bias
from common.fast.cpu.reading import (
    Cell,
    Gradient,
    Source,
    buffer,
    clear_lanes,
    copy,
    first_channels,
    lanes_of,
    new_map,
    pair_up,
    read_gradient,
    read_row,
    sum_row,
)

CHANNELS, PLACES = (8, 3) if AVX512 else (6, 1)  # of a tile of the output
_wide_tile, _narrow_tile = output_tile(CHANNELS, PLACES), output_tile(CHANNELS, 1)
_firsts = along_bands(lambda x, y, v: [x.firsts(y) & v], inputs=2, lanes=1, outputs=1)
_seconds = along_bands(lambda x, y, v: [x.seconds(y) & v], inputs=2, lanes=1, outputs=1)
_first_alone = along_bands(lambda x, v: [x.firsts(x.zero()) & v], inputs=1, lanes=1, outputs=1)
_second_alone = along_bands(lambda x, v: [x.seconds(x.zero()) & v], inputs=1, lanes=1, outputs=1)


def convolve(
    x: Source, geometry: Geometry, tiles: np.ndarray, bias: np.ndarray, out: np.ndarray,
    threads: int,
) -> None:  # fmt: skip
    """Write the convolution of the map `x` to the map `out`.

    `tiles` are of the weights ``(rows * cols, numbers in, channels out)``.
    """
    per_number = x.array.shape[2] * x.array.shape[3] // tiles.shape[2]
    padded = _padded(x, geometry, tiles.dtype, per_number, threads)
    _convolve(padded, geometry, tiles, bias, out, threads)


def gradients(
    x: Source, geometry: Geometry, gradient: Gradient, tiles: np.ndarray, of_x: np.ndarray,
    threads: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the gradients of weights and bias, and write that of the input to `of_x`.

    `gradient` is that of the output.  An empty `of_x` is not wanted.  `tiles` are of the weights
    turned around here, with rows and cols in reverse: ``(rows * cols, channels out, numbers in)``.

    Returns
    -------
    array (channels out, rows * cols, numbers in)
    array (channels out,)
    """
    rows, cols, channels, _, lanes = gradient.array.shape
    number, numbers = x.scale.dtype, x.array.shape[2] * x.array.shape[3]
    per_number = channels // tiles.shape[2]
    around = (geometry.rows - 1 - geometry.pad_rows, geometry.cols - 1 - geometry.pad_cols)
    g = _empty_padded((rows, cols, tiles.shape[2], lanes), around, tiles.dtype)
    bias_sums = np.zeros((threads, channels, lanes), number)
    _write_gradient(gradient, around, g, bias_sums)
    if of_x.size:  # the convolution of the output's gradient with the weights turned around
        _convolve(g, geometry, tiles, np.zeros(numbers, number), of_x, threads)
    valid = np.arange(lanes) < x.patches  # of int32, all bits
    mask = -valid.astype(np.int32) if tiles.dtype == np.int32 else valid.astype(tiles.dtype)
    rectangle = (1, rows * cols) if geometry.cols == 1 else (rows, cols)
    length = rectangle[0] * -(-rectangle[1] // per_number) * lanes
    of_channels = new_map((channels, length), tiles.dtype)
    _gather(g, around, rectangle, mask, 0, per_number, of_channels)
    padded = _padded(x, geometry, tiles.dtype, per_number, threads)
    of_weights = np.empty((channels, geometry.rows * geometry.cols, numbers), number)
    _sum_products(of_channels, padded, geometry, rectangle, mask, of_weights, threads)
    return of_weights, add_up_bias(bias_sums, x.patches)


def _padded(
    x: Source, geometry: Geometry, dtype: np.dtype, per_number: int, threads: int
) -> np.ndarray:
    """Return the map materialised, with zeros around, in numbers or pairs; itself if it is that."""
    rows, cols, channels, bands, lanes = x.array.shape
    padding = geometry.pad_rows, geometry.pad_cols
    if padding == (0, 0) and not x.normalised and dtype == x.array.dtype:
        return x.array
    out = _empty_padded((rows, cols, channels * bands // per_number, lanes), padding, dtype)
    _write_padded(x, padding, out, threads)
    return out


def _empty_padded(
    shape: tuple[int, int, int, int], padding: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    """Return an array for a map of (rows, cols, numbers, lanes) within zeros."""
    rows, cols, numbers, lanes = shape
    out = new_map((rows + 2 * padding[0], cols + 2 * padding[1], 1, numbers, lanes), dtype)
    if padding != (0, 0):
        out.fill(0)
    return out


@compiled
def _convolve(x, geometry, tiles, bias, out, threads):
    """Write the convolution of the padded `x` to `out`."""
    on_all_threads(_convolve_part, threads, x, geometry, tiles, bias, out)


@helper
def _convolve_part(thread, threads, x, geometry, tiles, bias, out):
    rows, cols, lanes = out.shape[0], out.shape[1], out.shape[4]
    channels, numbers = out.shape[2] * out.shape[3], x.shape[2] * x.shape[3]
    step, step_out, groups = numbers * lanes, channels * lanes, lanes // LANES
    offsets, starts = _offsets(x, geometry), first_channels(channels, CHANNELS)
    weights, cols_in = len(offsets) * CHANNELS, x.shape[1]
    if geometry.rows == geometry.cols == 1:
        rows, cols = 1, rows * cols
    wide = cols // PLACES
    in_row = wide + cols % PLACES  # tiles
    jobs = rows * in_row * groups * len(starts)
    for job in share(jobs, thread, threads):
        block, rest = job % len(starts), job // len(starts)
        group, rest = rest % groups, rest // groups
        row, tile = rest // in_row, rest % in_row
        col = tile * PLACES if tile < wide else wide * PLACES + tile - wide
        inputs = View(x, (row * cols_in + col) * step + group * LANES, step)
        of_block = View(tiles, block * weights, CHANNELS)
        at = (row * cols + col) * step_out + starts[block] * lanes + group * LANES
        here, bias_here = View(out, at, lanes), View(bias, starts[block], 1)
        if tile < wide:
            _wide_tile(inputs, offsets, of_block, bias_here, here, step_out)
        else:
            _narrow_tile(inputs, offsets, of_block, bias_here, here, step_out)


@helper
def _offsets(x, geometry):
    """Where in `x` lies what each weight is multiplied with, from the output's place on."""
    cols, lanes = x.shape[1], x.shape[4]
    taps, numbers = geometry.rows * geometry.cols, x.shape[2] * x.shape[3]
    offsets = np.empty(taps * numbers, np.int64)
    for tap in range(taps):
        place = tap // geometry.cols * cols + tap % geometry.cols
        for number in range(numbers):
            offsets[tap * numbers + number] = (place * numbers + number) * lanes
    return offsets


@compiled
def _sum_products(gradients, x, geometry, rectangle, mask, of_weights, threads):
    """Write the gradient of the weights: of gathered channels with each number that they saw."""
    on_all_threads(_sum_products_part, threads, gradients, x, geometry, rectangle, mask, of_weights)


@helper
def _sum_products_part(thread, threads, gradients, x, geometry, rectangle, mask, of_weights):
    (channels, taps, numbers), length = of_weights.shape, gradients.shape[1]
    per_number = numbers // (x.shape[2] * x.shape[3])
    starts, starts_in = first_channels(channels, PRODUCTS), first_channels(numbers, PRODUCTS)
    rows = buffer(PRODUCTS * length, gradients).reshape(PRODUCTS, length)
    tile, jobs = buffer(LANES, of_weights), taps * len(starts_in)
    for job in share(jobs, thread, threads):
        tap, start_in = job // len(starts_in), starts_in[job % len(starts_in)]
        first = tap // geometry.cols, tap % geometry.cols
        _gather(x, first, rectangle, mask, start_in, per_number, rows)
        for start in starts:
            tile[:] = 0
            product_tile(
                length // LANES, View(gradients, start * length, length),
                View(rows, 0, length), View(tile, 0, 0),
            )  # fmt: skip
            for k in range(PRODUCTS):
                for i in range(PRODUCTS):
                    of_weights[start + k, tap, start_in + i] = tile[PRODUCTS * k + i]


@compiled
def _gather(x, first, rectangle, mask, start, per_number, out):
    """Write the numbers from `start` on of a rectangle of places to the rows of `out`.

    The rectangle, `first` its first row and col and `rectangle` its size, is read row by row; lanes
    that hold no patch become zero.  Where `x` holds pairs, two numbers in each of its own, a row
    holds pairs of neighbouring places.
    """
    cols, lanes, numbers = x.shape[1], x.shape[4], x.shape[2] * x.shape[3]
    (count, length), vectors = out.shape, -(-rectangle[1] // per_number)
    for number in range(start // per_number, (start + count) // per_number):
        at = (number * per_number - start) * length
        for lane in range(0, lanes, LANES):
            for row in range(first[0], first[0] + rectangle[0]):
                here = ((row * cols + first[1]) * numbers + number) * lanes + lane
                _gather_row(
                    rectangle[1], View(x, here, numbers * lanes), View(mask, lane, 0),
                    View(out, at, length),
                )  # fmt: skip
                at += vectors * LANES


def _gather_row(count, x, mask, out):
    """Write a number of `count` places to a row of `out`, or of pairs two to this and the next."""


@overload(_gather_row, inline="always")
def _gather_row_of(count, x, mask, out):
    def of_numbers(count, x, mask, out):
        clear_lanes(count, x, mask, View(out.array, out.at, LANES))

    def of_pairs(count, x, mask, out):
        first, second = View(out.array, out.at, LANES), View(out.array, out.at + out.step, LANES)
        if count > 1:
            one, other = View(x.array, x.at, 2 * x.step), View(x.array, x.at + x.step, 2 * x.step)
            _firsts(count // 2, one, other, mask, first)
            _seconds(count // 2, one, other, mask, second)
        if count % 2:
            alone, beside = View(x.array, x.at + (count - 1) * x.step, 0), count // 2 * LANES
            _first_alone(1, alone, mask, View(out.array, first.at + beside, 0))
            _second_alone(1, alone, mask, View(out.array, second.at + beside, 0))

    return of_pairs if x[0].dtype == types.int32 else of_numbers


@compiled
def _write_padded(x, padding, out, threads):
    """Write the map to an array with so many zeros around."""
    on_all_threads(_write_padded_part, threads, x, padding, out)


@helper
def _write_padded_part(thread, threads, x, padding, out):
    rows, cols, channels, bands, lanes = x.array.shape
    numbers, cols_out = out.shape[3], out.shape[1]
    numbers_of_place = buffer(channels * bands * LANES, x.scale)
    for place in share(rows * cols, thread, threads):
        to = (place // cols + padding[0]) * cols_out + place % cols + padding[1]
        for lane in range(0, lanes, LANES):
            for k in range(channels):
                row = View(numbers_of_place, k * bands * LANES, LANES)
                read_row(x, Cell(place, lane), k, row)
            _write(numbers, numbers_of_place, View(out, to * numbers * lanes + lane, lanes))


@compiled
def _write_gradient(gradient, padding, out, sums):
    """Write the gradient to an array with so many zeros around, and add to sums per channel."""
    on_all_threads(_write_gradient_part, len(sums), gradient, padding, out, sums)


@helper
def _write_gradient_part(thread, threads, gradient, padding, out, sums):
    rows, cols, channels, bands, lanes = gradient.array.shape
    numbers, cols_out = out.shape[3], out.shape[1]
    numbers_of_place = buffer(channels * bands * LANES, sums)
    for place in share(rows * cols, thread, threads):
        to = (place // cols + padding[0]) * cols_out + place % cols + padding[1]
        for lane in range(0, lanes, LANES):
            cell = Cell(place, lane)
            for k in range(channels):
                row = View(numbers_of_place, k * bands * LANES, LANES)
                read_gradient(gradient, cell, k, row)
                sum_row(bands, row, lanes_of(sums[thread], cell, k))
            _write(numbers, numbers_of_place, View(out, to * numbers * lanes + lane, lanes))


def _write(count, numbers, out):
    """Write so many numbers, or pairs, of one place and 16 batch lanes to a `View` of a map."""


@overload(_write, inline="always")
def _write_to(count, numbers, out):
    def alone(count, numbers, out):
        copy(count, View(numbers, 0, LANES), out)

    def pairs(count, numbers, out):
        pair_up(count, View(numbers, 0, 2 * LANES), View(numbers, LANES, 2 * LANES), out)

    return pairs if out[0].dtype == types.int32 else alone
