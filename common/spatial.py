"""Convolutions over rows and cols whose kernels fill the band axis, on the CPU.

Such are the collapse of the band axis, a product of matrices per place, the spatial stem, and all
that follows it.  Feature maps and their gradients are those of `common/maps.py`, `norm` and
`gradient` given as plain tuples; kernels and bands of one place are its numbers here, ``(rows,
cols, numbers, lanes)``.  `size` and `padding` are those over (rows, cols), the stride is 1, and
weights are ``(kernels out, rows * cols, numbers)``.
"""

import numba
import numpy as np

from common.compiling import compiled, on_all_threads
from common.maps import clear_lanes, first_kernels, read_gradient, read_row, rooms
from common.tiles import AVX512, PRODUCTS, output_tile, product_tile
from common.vectors import LANES

KERNELS, PLACES = (8, 3) if AVX512 else (6, 1)  # of a tile of the output
_wide_tile, _narrow_tile = output_tile(KERNELS, PLACES), output_tile(KERNELS, 1)


@compiled
def convolve(x, norm, padding, size, weights, bias, out, threads):
    """Write the convolution of the map `x`, read as `norm` says, to the map `out`."""
    _convolve(_padded(x, norm, padding), size, weights, False, bias, out, threads)


@compiled
def gradients(x, norm, used, padding, size, gradient, shape, weights, of_x, threads):
    """Return the gradients of weights and bias, and write that of the input to `of_x`.

    `gradient` is that of the output, whose map has the `shape`; the first `used` lanes hold
    patches.  An empty `of_x` is not wanted.
    """
    rows, cols, kernels = shape[0], shape[1], shape[2] * shape[3]
    around = size[0] - 1 - padding[0], size[1] - 1 - padding[1]
    g = _padded_gradient(gradient, shape, around)
    if of_x.size:  # the convolution of the output's gradient with the weights turned around
        _convolve(g, size, weights, True, np.zeros(weights.shape[2], x.dtype), of_x, threads)
    valid = (np.arange(shape[4]) < used).astype(x.dtype)
    of_kernels = rooms(1, kernels * rows * cols * shape[4], x).reshape(kernels, -1)
    _gather(g, around, (rows, cols), valid, 0, kernels, of_kernels.reshape(-1))
    of_weights = np.empty(weights.shape, x.dtype)
    _sum_products(
        of_kernels, _padded(x, norm, padding), size, (rows, cols), valid, of_weights, threads
    )
    return of_weights, of_kernels.sum(axis=1)


@on_all_threads
def _convolve(x, size, weights, turned, bias, out, threads):
    """Write the convolution of the padded `x` to `out`."""
    rows, cols, lanes = out.shape[0], out.shape[1], out.shape[4]
    kernels, numbers = out.shape[2] * out.shape[3], x.shape[2] * x.shape[3]
    step, step_out, groups = numbers * lanes, kernels * lanes, lanes // LANES
    offsets, starts = _offsets(x, size), first_kernels(kernels, KERNELS)
    blocks, count = _blocks(weights, turned, starts), len(offsets)
    flat_x, flat_blocks, flat_out, cols_in = (
        x.reshape(-1),
        blocks.reshape(-1),
        out.reshape(-1),
        x.shape[1],
    )
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
                    flat_x, here, step, offsets, count, flat_blocks, block * count * KERNELS,
                    bias, starts[block], flat_out, at, lanes, step_out,
                )  # fmt: skip
            else:
                _narrow_tile(
                    flat_x, here, step, offsets, count, flat_blocks, block * count * KERNELS,
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
def _blocks(weights, turned, starts):
    """Arrange weights as ``(blocks, count, KERNELS)``.

    Where `turned`, for the convolution that leads the output's gradient back: from kernels to
    numbers, with the taps in reverse.
    """
    kernels, taps, numbers = weights.shape
    inputs = kernels if turned else numbers
    blocks = np.empty((len(starts), taps * inputs, KERNELS), weights.dtype)
    for block in numba.prange(len(starts)):
        for tap in range(taps):
            for i in range(inputs):
                for k in range(KERNELS):
                    out = starts[block] + k
                    blocks[block, tap * inputs + i, k] = (
                        weights[i, taps - 1 - tap, out] if turned else weights[out, tap, i]
                    )
    return blocks


@on_all_threads
def _sum_products(gradients, x, size, shape, valid, of_weights, threads):
    """Write the gradient of the weights: of gathered kernels with each number that they saw."""
    (kernels, taps, numbers), length = of_weights.shape, gradients.shape[1]
    starts, starts_in = first_kernels(kernels, PRODUCTS), first_kernels(numbers, PRODUCTS)
    inputs, tiles = rooms(threads, PRODUCTS * length, x), rooms(threads, LANES, x)
    flat, flat_out, jobs = gradients.reshape(-1), of_weights.reshape(-1), taps * len(starts_in)
    for thread in numba.prange(threads):
        row, tile = inputs[thread], tiles[thread]
        for job in range(thread * jobs // threads, (thread + 1) * jobs // threads):
            tap, start_in = job // len(starts_in), starts_in[job % len(starts_in)]
            first = tap // size[1], tap % size[1]
            _gather(x, first, shape, valid, start_in, PRODUCTS, row)
            for start in starts:
                tile[:] = 0
                product_tile(flat, start * length, length, row, 0, length, length // LANES, tile, 0)
                for k in range(PRODUCTS):
                    at = ((start + k) * taps + tap) * numbers + start_in
                    for i in range(PRODUCTS):
                        flat_out[at + i] = tile[PRODUCTS * k + i]


@compiled
def _gather(x, first, shape, valid, start, count, out):
    """Write each of `count` numbers of a rectangle of places as a row of vectors.

    The rectangle, `first` its first row and col and `shape` its size, is read row by row; lanes
    that hold no patch become zero.
    """
    cols, lanes, numbers = x.shape[1], x.shape[4], x.shape[2] * x.shape[3]
    rows, length = (1, shape[0] * cols) if shape[1] == cols else shape
    flat, at = x.reshape(-1), 0
    for number in range(start, start + count):
        for lane in range(0, lanes, LANES):
            for row in range(first[0], first[0] + rows):
                here = ((row * cols + first[1]) * numbers + number) * lanes + lane
                clear_lanes(length, flat, here, numbers * lanes, valid, lane, out, at, LANES)
                at += length * LANES


@on_all_threads
def _padded(x, norm, padding):
    """The map worked out, with zeros around; without either it is the map itself."""
    rows, cols, kernels, bands, lanes = x.shape
    if not norm[0] and padding[0] == padding[1] == 0:
        return x
    shape = rows + 2 * padding[0], cols + 2 * padding[1], kernels, bands, lanes
    out = np.zeros(shape, x.dtype)
    flat, flat_out = x.reshape(-1), out.reshape(-1)
    for place in numba.prange(rows * cols):
        to = (place // cols + padding[0]) * shape[1] + place % cols + padding[1]
        for k in range(kernels):
            for lane in range(0, lanes, LANES):
                here = (place * kernels + k) * bands * lanes + lane
                there = (to * kernels + k) * bands * lanes + lane
                read_row(flat, here, lanes, bands, norm, k, flat_out, there, lanes)
    return out


@on_all_threads
def _padded_gradient(gradient, shape, padding):
    """The gradient of a map of that shape worked out, with zeros around."""
    rows, cols, kernels, bands, lanes = shape
    cols_out = cols + 2 * padding[1]
    out = np.zeros((rows + 2 * padding[0], cols_out, kernels, bands, lanes), gradient[0].dtype)
    flat = out.reshape(-1)
    for place in numba.prange(rows * cols):
        to = (place // cols + padding[0]) * cols_out + place % cols + padding[1]
        for k in range(kernels):
            for lane in range(0, lanes, LANES):
                here = (place * kernels + k) * bands * lanes + lane
                there = (to * kernels + k) * bands * lanes + lane
                read_gradient(gradient, here, lanes, bands, k, lane, flat, there, lanes)
    return out
