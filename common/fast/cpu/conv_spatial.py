"""Convolutions over rows and cols whose kernels fill the band axis, on the CPU.

Such are the collapse of the band axis, a product of matrices per place, the spatial stem, and all
that follows it.  Feature maps and their gradients are those of `reading.py`, `norm` and
`gradient` given as plain tuples; kernels and bands of one place are its numbers here, ``(rows,
cols, numbers, lanes)``.  `size` and `padding` are those over (rows, cols), the stride is 1, and
weights come in tiles, as `weight_tiles.tiles_of` makes them.  Where these hold pairs, maps are
rounded to pairs of bfloat16 too, of neighbouring numbers, and products are made in bfloat16, sums
in float32.  `per_number` says how many numbers there are in each of an array's, 1 or 2.
"""

import numba
import numpy as np
from numba import types
from numba.extending import overload

from common.fast.codegen.band_loops import along_bands
from common.fast.codegen.jit import compiled, on_all_threads
from common.fast.codegen.processor import AVX512
from common.fast.codegen.tiles import PRODUCTS, output_tile, product_tile
from common.fast.codegen.vectors import LANES
from common.fast.cpu.reading import (
    clear_lanes,
    copy,
    first_kernels,
    pair_up,
    read_gradient,
    read_row,
    rooms,
    sum_row,
)

KERNELS, PLACES = (8, 3) if AVX512 else (6, 1)  # of a tile of the output
_wide_tile, _narrow_tile = output_tile(KERNELS, PLACES), output_tile(KERNELS, 1)
_firsts = along_bands(lambda x, y, v: [x.firsts(y) & v], inputs=2, lanes=1, outputs=1)
_seconds = along_bands(lambda x, y, v: [x.seconds(y) & v], inputs=2, lanes=1, outputs=1)
_first_alone = along_bands(lambda x, v: [x.firsts(x.zero()) & v], inputs=1, lanes=1, outputs=1)
_second_alone = along_bands(lambda x, v: [x.seconds(x.zero()) & v], inputs=1, lanes=1, outputs=1)


@compiled
def convolve(x, norm, padding, size, tiles, bias, out, threads):
    """Write the convolution of the map `x`, read as `norm` says, to the map `out`.

    `tiles` are of the weights ``(rows * cols, numbers in, kernels out)``.
    """
    per_number = x.shape[2] * x.shape[3] // tiles.shape[2]
    padded = _padded(x, norm, padding, tiles, per_number, threads)
    _convolve(padded, size, tiles, bias, out, threads)


@compiled
def gradients(x, norm, used, padding, size, gradient, shape, tiles, of_x, threads):
    """Return the gradients of weights and bias, and write that of the input to `of_x`.

    `gradient` is that of the output, whose map has the `shape`; the first `used` lanes hold
    patches.  An empty `of_x` is not wanted.  `tiles` are of the weights turned around here, with
    rows and cols in reverse: ``(rows * cols, kernels out, numbers in)``.
    """
    rows, cols, kernels, numbers = shape[0], shape[1], shape[2] * shape[3], x.shape[2] * x.shape[3]
    around = size[0] - 1 - padding[0], size[1] - 1 - padding[1]
    valid = np.arange(shape[4]) < used
    g, of_bias = _padded_gradient(
        gradient, shape, around, valid.astype(norm[1].dtype), tiles, threads
    )
    if of_x.size:  # the convolution of the output's gradient with the weights turned around
        _convolve(g, size, tiles, np.zeros(numbers, norm[1].dtype), of_x, threads)
    mask, per_number = _mask(valid, tiles), kernels // tiles.shape[2]
    rectangle = (1, rows * cols) if size[1] == 1 else (rows, cols)
    length = rectangle[0] * -(-rectangle[1] // per_number) * shape[4]
    of_kernels = rooms(1, kernels * length, tiles).reshape(kernels, length)
    _gather(g, around, rectangle, mask, 0, kernels, per_number, of_kernels.reshape(-1))
    of_weights = np.empty((kernels, size[0] * size[1], numbers), norm[1].dtype)
    x_padded = _padded(x, norm, padding, tiles, per_number, threads)
    _sum_products(of_kernels, x_padded, size, rectangle, mask, of_weights, threads)
    return of_weights, of_bias


def _mask(valid, like):
    """What leaves a number of lanes that hold patches, and makes zero of others."""


@overload(_mask)
def _mask_like(valid, like):
    if like.dtype == types.int32:
        return lambda valid, like: -valid.astype(np.int32)
    return lambda valid, like: valid.astype(like.dtype)


@on_all_threads
def _convolve(x, size, tiles, bias, out, threads):
    """Write the convolution of the padded `x` to `out`."""
    rows, cols, lanes = out.shape[0], out.shape[1], out.shape[4]
    kernels, numbers = out.shape[2] * out.shape[3], x.shape[2] * x.shape[3]
    step, step_out, groups = numbers * lanes, kernels * lanes, lanes // LANES
    offsets, starts = _offsets(x, size), first_kernels(kernels, KERNELS)
    flat_x, flat_tiles, flat_out = x.reshape(-1), tiles.reshape(-1), out.reshape(-1)
    count = len(offsets)
    cols_in = x.shape[1]
    if size[0] == size[1] == 1:
        rows, cols = 1, rows * cols
    wide = cols // PLACES
    tiles = wide + cols % PLACES
    jobs = rows * tiles * groups * len(starts)
    for thread in numba.prange(threads):
        for job in range(thread * jobs // threads, (thread + 1) * jobs // threads):
            block, rest = job % len(starts), job // len(starts)
            group, rest = rest % groups, rest // groups
            row, tile = rest // tiles, rest % tiles
            col = tile * PLACES if tile < wide else wide * PLACES + tile - wide
            here = (row * cols_in + col) * step + group * LANES
            at = (row * cols + col) * step_out + starts[block] * lanes + group * LANES
            if tile < wide:
                _wide_tile(
                    flat_x, here, step, offsets, count, flat_tiles, block * count * KERNELS,
                    bias, starts[block], flat_out, at, lanes, step_out,
                )  # fmt: skip
            else:
                _narrow_tile(
                    flat_x, here, step, offsets, count, flat_tiles, block * count * KERNELS,
                    bias, starts[block], flat_out, at, lanes, step_out,
                )  # fmt: skip


@compiled
def _offsets(x, size):
    """Where in `x` lies what each weight is multiplied with, from the output's place on."""
    cols, lanes = x.shape[1], x.shape[4]
    numbers = x.shape[2] * x.shape[3]
    offsets = np.empty(size[0] * size[1] * numbers, np.int64)
    for tap in range(size[0] * size[1]):
        place = tap // size[1] * cols + tap % size[1]
        for number in range(numbers):
            offsets[tap * numbers + number] = (place * numbers + number) * lanes
    return offsets


@on_all_threads
def _sum_products(gradients, x, size, shape, mask, of_weights, threads):
    """Write the gradient of the weights: of gathered kernels with each number that they saw."""
    (kernels, taps, numbers), length = of_weights.shape, gradients.shape[1]
    per_number = numbers // (x.shape[2] * x.shape[3])
    starts, starts_in = first_kernels(kernels, PRODUCTS), first_kernels(numbers, PRODUCTS)
    inputs = rooms(threads, PRODUCTS * length, gradients)
    tiles = rooms(threads, LANES, of_weights)
    flat, flat_out, jobs = gradients.reshape(-1), of_weights.reshape(-1), taps * len(starts_in)
    for thread in numba.prange(threads):
        row, tile = inputs[thread], tiles[thread]
        for job in range(thread * jobs // threads, (thread + 1) * jobs // threads):
            tap, start_in = job // len(starts_in), starts_in[job % len(starts_in)]
            first = tap // size[1], tap % size[1]
            _gather(x, first, shape, mask, start_in, PRODUCTS, per_number, row)
            for start in starts:
                tile[:] = 0
                product_tile(flat, start * length, length, row, 0, length, length // LANES, tile, 0)
                for k in range(PRODUCTS):
                    at = ((start + k) * taps + tap) * numbers + start_in
                    for i in range(PRODUCTS):
                        flat_out[at + i] = tile[PRODUCTS * k + i]


@compiled
def _gather(x, first, shape, mask, start, count, per_number, out):
    """Write each of `count` numbers of a rectangle of places as a row of vectors.

    The rectangle, `first` its first row and col and `shape` its size, is read row by row; lanes
    that hold no patch become zero.  Where `x` holds pairs, two numbers in each of its own, a row
    holds pairs of neighbouring places.
    """
    cols, lanes, numbers = x.shape[1], x.shape[4], x.shape[2] * x.shape[3]
    flat, vectors, length = x.reshape(-1), -(-shape[1] // per_number), len(out) // count
    for number in range(start // per_number, (start + count) // per_number):
        at = (number * per_number - start) * length
        for lane in range(0, lanes, LANES):
            for row in range(first[0], first[0] + shape[0]):
                here = ((row * cols + first[1]) * numbers + number) * lanes + lane
                _gather_row(shape[1], flat, here, numbers * lanes, mask, lane, out, at, length)
                at += vectors * LANES


def _gather_row(count, x, at, step, mask, lane, out, out_at, length):
    """Write a number of `count` places to a row of `out`, or of pairs two to this and the next."""


@overload(_gather_row)
def _gather_row_of(count, x, at, step, mask, lane, out, out_at, length):
    def of_numbers(count, x, at, step, mask, lane, out, out_at, length):
        clear_lanes(count, x, at, step, mask, lane, out, out_at, LANES)

    def of_pairs(count, x, at, step, mask, lane, out, out_at, length):
        two, there = 2 * step, out_at + length
        if count > 1:
            _firsts(count // 2, x, at, two, x, at + step, two, mask, lane, out, out_at, LANES)
            _seconds(count // 2, x, at, two, x, at + step, two, mask, lane, out, there, LANES)
        if count % 2:
            at, beside = at + (count - 1) * step, count // 2 * LANES
            _first_alone(1, x, at, 0, mask, lane, out, out_at + beside, 0)
            _second_alone(1, x, at, 0, mask, lane, out, there + beside, 0)

    return of_pairs if x.dtype == types.int32 else of_numbers


def _padded(x, norm, padding, like, per_number, threads):
    """The map worked out, with zeros around, in pairs if `like` holds pairs; `x` if it is that."""


@overload(_padded)
def _padded_like(x, norm, padding, like, per_number, threads):
    def or_itself(x, norm, padding, like, per_number, threads):
        if not norm[0] and padding[0] == padding[1] == 0:
            return x
        return _padded_copy(x, norm, padding, like, per_number, threads)

    def copied(x, norm, padding, like, per_number, threads):
        return _padded_copy(x, norm, padding, like, per_number, threads)

    return or_itself if like.dtype == x.dtype else copied


@on_all_threads
def _padded_copy(x, norm, padding, like, per_number, threads):
    """The map worked out, with zeros around, in an array of its own."""
    rows, cols, kernels, bands, lanes = x.shape
    numbers, cols_out = kernels * bands // per_number, cols + 2 * padding[1]
    out = np.zeros((rows + 2 * padding[0], cols_out, 1, numbers, lanes), like.dtype)
    flat, flat_out, places = x.reshape(-1), out.reshape(-1), rows * cols
    room = rooms(threads, kernels * bands * LANES, norm[1])
    for thread in numba.prange(threads):
        row = room[thread]
        for place in range(thread * places // threads, (thread + 1) * places // threads):
            to = (place // cols + padding[0]) * cols_out + place % cols + padding[1]
            for lane in range(0, lanes, LANES):
                for k in range(kernels):
                    here = (place * kernels + k) * bands * lanes + lane
                    read_row(flat, here, lanes, bands, norm, k, row, k * bands * LANES, LANES)
                _write(numbers, row, flat_out, to * numbers * lanes + lane, lanes)
    return out


def _write(count, row, out, at, lanes):
    """Write so many numbers, or pairs, of one place and 16 lanes to a map."""


@overload(_write)
def _write_to(count, row, out, at, lanes):
    def numbers(count, row, out, at, lanes):
        copy(count, row, 0, LANES, out, at, lanes)

    def pairs(count, row, out, at, lanes):
        pair_up(count, row, 0, 2 * LANES, row, LANES, 2 * LANES, out, at, lanes)

    return pairs if out.dtype == types.int32 else numbers


@on_all_threads
def _padded_gradient(gradient, shape, padding, valid, tiles, threads):
    """The gradient of a map of that shape worked out, with zeros around, and its sums per kernel.

    In pairs if `tiles`, of the weights that lead it back, are.
    """
    rows, cols, kernels, bands, lanes = shape
    numbers, cols_out = tiles.shape[2] * bands, cols + 2 * padding[1]
    out = np.zeros((rows + 2 * padding[0], cols_out, 1, numbers, lanes), tiles.dtype)
    flat, places = out.reshape(-1), rows * cols
    room = rooms(threads, kernels * bands * LANES, valid)
    sums = np.zeros((threads, kernels, lanes), valid.dtype)
    for thread in numba.prange(threads):
        row, flat_sums = room[thread], sums[thread].reshape(-1)
        for place in range(thread * places // threads, (thread + 1) * places // threads):
            to = (place // cols + padding[0]) * cols_out + place % cols + padding[1]
            for lane in range(0, lanes, LANES):
                for k in range(kernels):
                    here, at = (place * kernels + k) * bands * lanes + lane, k * bands * LANES
                    read_gradient(gradient, here, lanes, bands, k, lane, row, at, LANES)
                    sum_row(bands, row, at, LANES, flat_sums, k * lanes + lane)
                _write(numbers, row, flat, to * numbers * lanes + lane, lanes)
    return out, (sums * valid).sum(axis=2).sum(axis=0)
