"""The collapse of the band axis: at every place one product of matrices, on the CPU.

Kernels that fill the band axis see all numbers of a place at once.  Feature maps are those of
`common/maps.py`, looked at as ``(places, numbers, lanes)``: a place's numbers are those of all
kernels and bands.
"""

import numba
import numpy as np

from common.compiling import compiled, on_all_threads
from common.maps import clear_lanes, first_kernels, rooms
from common.tiles import AVX512, PRODUCTS, output_tile, product_tile
from common.vectors import LANES

NUMBERS, PLACES = (8, 3) if AVX512 else (6, 1)  # of a tile of the product
_wide_tile, _narrow_tile = output_tile(NUMBERS, PLACES), output_tile(NUMBERS, 1)


@on_all_threads
def multiply(x, weights, transposed, bias, out, threads):
    """Write weights @ x + bias for every place of `x`, ``(places, numbers in, lanes)``, to `out`.

    `weights` are ``(numbers out, numbers in)``, or the other way round where `transposed`.
    """
    places, count, lanes = x.shape
    numbers = out.shape[1]
    starts, offsets = first_kernels(numbers, NUMBERS), np.arange(count) * lanes
    blocks = np.empty((len(starts), count, NUMBERS), x.dtype)
    for block in numba.prange(len(starts)):
        for i in range(count):
            for k in range(NUMBERS):
                number = starts[block] + k
                blocks[block, i, k] = weights[i, number] if transposed else weights[number, i]
    for thread in numba.prange(threads):
        first, end = thread * places // threads, (thread + 1) * places // threads
        for lane in range(0, lanes, LANES):
            _multiply_places(
                x.reshape(-1), blocks.reshape(-1), starts, offsets, bias, out.reshape(-1),
                first, end, lane, count * lanes, numbers * lanes, lanes,
            )  # fmt: skip


@compiled
def _multiply_places(
    x, blocks, starts, offsets, bias, out, first, end, lane, step, step_out, lanes
):  # fmt: skip
    """Multiply 16 lanes of the places from `first` on; steps lead from one place to the next."""
    count = len(offsets)
    whole = first + (end - first) // PLACES * PLACES
    for place in range(first, whole, PLACES):
        for block, number in enumerate(starts):
            _wide_tile(
                x, place * step + lane, step, offsets, count, blocks, block * count * NUMBERS,
                bias, number, out, place * step_out + number * lanes + lane, lanes, step_out,
            )  # fmt: skip
    for place in range(whole, end):
        for block, number in enumerate(starts):
            _narrow_tile(
                x, place * step + lane, step, offsets, count, blocks, block * count * NUMBERS,
                bias, number, out, place * step_out + number * lanes + lane, lanes, step_out,
            )  # fmt: skip


@on_all_threads
def weight_gradient(gradient, x, used, threads):
    """Return the gradients of the weights and the bias, given that of the output.

    That and `x` are ``(places, numbers, lanes)``; the first `used` lanes hold patches.

    Returns
    -------
    array (numbers out, numbers in)
    array (numbers out,)
    """
    (places, kernels, lanes), numbers = gradient.shape, x.shape[1]
    length = places * lanes
    valid = (np.arange(lanes) < used).astype(x.dtype)
    starts, starts_in = first_kernels(kernels, PRODUCTS), first_kernels(numbers, PRODUCTS)
    of_weights = np.empty((kernels, numbers), x.dtype)
    gradients, rows = rooms(threads, kernels * length, x), rooms(threads, PRODUCTS * length, x)
    tiles = rooms(threads, LANES, x)
    for thread in numba.prange(threads):
        g, row, tile = gradients[thread], rows[thread], tiles[thread]
        _gather(gradient, valid, 0, kernels, g)
        first, end = thread * len(starts_in) // threads, (thread + 1) * len(starts_in) // threads
        for start_in in starts_in[first:end]:
            _gather(x, valid, start_in, PRODUCTS, row)
            for start in starts:
                tile[:] = 0
                product_tile(g, start * length, length, row, 0, length, length // LANES, tile, 0)
                for k in range(PRODUCTS):
                    for i in range(PRODUCTS):
                        of_weights[start + k, start_in + i] = tile[PRODUCTS * k + i]
    return of_weights, gradients[0].reshape(kernels, length).sum(axis=1)


@compiled
def _gather(x, valid, first, count, out):
    """Write so many of the numbers, of all places, one after another; lanes without patch are 0."""
    places, numbers, lanes = x.shape
    flat, row = x.reshape(-1), 0
    for number in range(first, first + count):
        for lane in range(0, lanes, LANES):
            at = number * lanes + lane
            clear_lanes(places, flat, at, numbers * lanes, valid, lane, out, row, LANES)
            row += places * LANES
