"""Convolutions along the bands with 7 taps and stride 1, by short Fourier transforms, on the CPU.

The same convolutions as in `conv_direct.py`, of kernels of one row and col, in a third of
the multiplications: see `short_fourier.py`.  A row of bands, with its padding, is taken as
blocks of 16 bands that begin every 10.  What the blocks of one place give is kept by slot, as
`fourier_slots.py` says.  Feature maps and their gradients are those of `reading.py`, `norm` and
`gradient` given as plain tuples.
"""

import numba
import numpy as np

from common.fast.codegen.band_loops import fetch
from common.fast.codegen.jit import compiled, on_all_threads
from common.fast.codegen.processor import AVX512
from common.fast.codegen.short_fourier import OUTPUTS, PARTNERS, SLOTS, TAPS, transform_back
from common.fast.codegen.tiles import PRODUCTS, output_tile, product_tile
from common.fast.codegen.vectors import LANES
from common.fast.cpu.fourier_slots import (
    row_length,
    slot_step,
    transform_gradients,
    transform_over_kernels,
    transform_over_lanes,
)
from common.fast.cpu.reading import (
    add_gradient_sums,
    clear_lanes,
    copy,
    first_kernels,
    read_gradient,
    read_row,
    rooms,
    sum_row,
)

KERNELS, BLOCKS = (4, 5) if AVX512 else (6, 1)  # of a tile of products
_wide_tile, _narrow_tile = output_tile(KERNELS, BLOCKS), output_tile(KERNELS, 1)
_back, _back_gradient = transform_back(OUTPUTS, 0), transform_back(OUTPUTS + TAPS - 1, TAPS - 1)


@on_all_threads
def convolve(x, norm, padding, tiles, bias, out, threads):
    """Write the convolution of the map `x`, read as `norm` says, to the map `out`.

    `tiles` are of the weights ``(SLOTS, kernels in, kernels out)``, transformed by
    `weights_transform`; see `weight_tiles.tiles_of`.  In pairs the products are made in bfloat16,
    the sums in float32.

    Returns the sums over all places and bands, ``(threads, kernels, lanes)``.
    """
    rows, cols, kernels, bands, lanes = out.shape
    groups, of_x, blocks = lanes // LANES, x.shape[2], -(-bands // OUTPUTS)
    places, length = rows * cols * groups, row_length(blocks)
    starts, no_bias = first_kernels(kernels, KERNELS), np.zeros_like(bias)
    flat_x, flat_out = x.reshape(-1), out.reshape(-1)
    units_in = tiles.shape[2]  # kernels in, or pairs of them
    step, step_in = slot_step(kernels, blocks), slot_step(units_in, blocks)
    inputs = rooms(threads, of_x * length, bias)
    of_inputs = rooms(threads, SLOTS * step_in, tiles)
    products = rooms(threads, SLOTS * step, bias)
    rows_out = rooms(threads, length, bias)
    sums = np.zeros((threads, kernels, lanes), bias.dtype)
    for thread in numba.prange(threads):
        slots, product, row_out = of_inputs[thread], products[thread], rows_out[thread]
        flat_sums = sums[thread].reshape(-1)
        for index in range(thread * places // threads, (thread + 1) * places // threads):
            place, group = index // groups, index % groups
            _read(x, norm, place, group, padding, length, inputs[thread])
            transform_over_kernels(inputs[thread], of_x, of_x // units_in, blocks, slots)
            for slot in range(SLOTS):
                _multiply(
                    slots, slot * step_in, units_in, blocks, tiles, starts,
                    no_bias if slot else bias, product, PARTNERS[slot] * step,
                    flat_x, flat_out, index + 1, places, slot,
                )  # fmt: skip
            for k in range(kernels):
                for block in range(blocks):
                    here = (k * blocks + block) * LANES
                    at = block * OUTPUTS * LANES
                    _back(product, here, step, row_out, at)
                here = (place * kernels + k) * bands * lanes + group * LANES
                copy(bands, row_out, 0, LANES, flat_out, here, lanes)
                sum_row(bands, row_out, 0, LANES, flat_sums, k * lanes + group * LANES)
    return sums


@compiled
def weight_gradient(x, norm, used, padding, gradient, shape, tiles, of_x, threads):
    """Return the gradients of a convolution's weights and bias, given that of its output.

    `shape` is the output's; the first `used` lanes hold patches.  `tiles` may be those of the
    convolution's weights ``(SLOTS, kernels out, kernels in)``, transformed: then the gradient of
    the input is written to `of_x` in passing.  That may be the output's gradient's own array, for a
    place is written after it was read.  Otherwise there are none.  In pairs, here of two
    neighbouring kernels out, all products are made in bfloat16.

    Returns
    -------
    array (SLOTS, kernels out, kernels in)
        Of the transformed weights.
    array (kernels out,)
    array (2, threads, kernels in, lanes)
        Where there are `tiles` and `norm` is used: `passes.gradient_sums` of what `of_x` holds.
    """
    kernels, lanes, kernels_in = shape[2], shape[4], x.shape[2]
    starts, starts_in = first_kernels(kernels, PRODUCTS), first_kernels(kernels_in, PRODUCTS)
    number = norm[1].dtype
    sums = np.zeros((threads, SLOTS, len(starts), len(starts_in), PRODUCTS * PRODUCTS), number)
    bias_sums = np.zeros((threads, kernels, lanes), number)
    valid = (np.arange(lanes) < used).astype(number)
    back_sums = np.zeros((2, threads, kernels_in, lanes), number)
    _sum_gradients(
        x, norm, padding, starts, starts_in, gradient, shape, valid, sums, bias_sums,
        tiles, of_x, back_sums,
    )  # fmt: skip
    of_weights = np.empty((SLOTS, kernels, kernels_in), number)
    total = sums.sum(axis=0)
    for slot in range(SLOTS):
        for i, start in enumerate(starts):
            for j, start_in in enumerate(starts_in):
                tile = total[slot, i, j].reshape(PRODUCTS, PRODUCTS)
                of_weights[slot, start : start + PRODUCTS, start_in : start_in + PRODUCTS] = tile
    return of_weights, (bias_sums * valid).sum(axis=2).sum(axis=0), back_sums


@on_all_threads
def _sum_gradients(
    x, norm, padding, starts, starts_in, gradient, shape, valid, sums, bias_sums,
    tiles, of_x, back_sums,
):  # fmt: skip
    """Write each thread's sums for `weight_gradient`."""
    rows, cols, kernels, bands, lanes = shape
    groups, threads = lanes // LANES, len(sums)
    kernels_in, blocks = x.shape[2], -(-bands // OUTPUTS)
    places, length = rows * cols * groups, row_length(blocks)
    units = tiles.shape[2]  # kernels out, or pairs of them
    per_number = kernels // units
    vectors = -(-blocks // per_number)  # of a kernel, in slots for sums over lanes
    step, step_in = slot_step(units, blocks), slot_step(kernels_in, blocks)
    apart, apart_in = slot_step(kernels, vectors), slot_step(kernels_in, vectors)
    of_inputs_at = 0 if per_number == 1 else SLOTS * step_in
    tile_starts, no_bias = first_kernels(kernels_in, KERNELS), np.zeros(kernels_in, bias_sums.dtype)
    inputs = rooms(threads, kernels_in * length, sums)
    gradients = rooms(threads, kernels * length, sums)
    slots_back = rooms(threads, of_inputs_at + SLOTS * apart_in, sums)
    slots_of_gradients = rooms(threads, SLOTS * step, tiles)
    halves_of_gradients = rooms(threads, 0 if per_number == 1 else SLOTS * apart, tiles)
    flat_x = x.reshape(-1)
    rows_back = rooms(threads, length, sums)
    for thread in numba.prange(threads):
        row, g = inputs[thread], gradients[thread]
        slots, of_gradient = slots_back[thread], slots_of_gradients[thread]
        of_inputs = slots[of_inputs_at:].view(tiles.dtype)  # `slots` may overwrite them
        halves = of_gradient if per_number == 1 else halves_of_gradients[thread]
        flat_bias, flat_sums = bias_sums[thread].reshape(-1), sums[thread].reshape(-1)
        for index in range(thread * places // threads, (thread + 1) * places // threads):
            place, group = index // groups, index % groups
            first = group * LANES
            _read(x, norm, place, group, padding, length, row)
            if not valid[first + LANES - 1]:
                count = len(row) // LANES
                clear_lanes(count, row, 0, LANES, valid, first, row, 0, LANES)
            transform_over_lanes(row, kernels_in, per_number, blocks, of_inputs)
            for k in range(kernels):
                here = (place * kernels + k) * bands * lanes + first
                read_gradient(gradient, here, lanes, bands, k, first, g, k * length, LANES)
                sum_row(bands, g, k * length, LANES, flat_bias, k * lanes + first)
            transform_gradients(g, kernels, per_number, blocks, of_gradient, halves)
            _add_products(halves, apart, starts, of_inputs, apart_in, starts_in, vectors, flat_sums)
            if tiles.size:
                for slot in range(SLOTS):
                    _multiply(
                        of_gradient, PARTNERS[slot] * step, units, blocks, tiles,
                        tile_starts, no_bias, slots, slot * step_in,
                        gradient[0], flat_x, index + 1, places, slot,
                    )  # fmt: skip
                _write_back(
                    slots, blocks, padding, rows_back[thread], x, norm, of_x, place, group,
                    back_sums[0, thread], back_sums[1, thread],
                )  # fmt: skip


@compiled
def _write_back(slots, blocks, padding, row, x, norm, of_x, place, group, sums, dots):
    """Write the gradient of the input at one place, and add to its `passes.gradient_sums`."""
    kernels, bands, lanes = x.shape[2:]
    used, scale, offset, floor, floor_out = norm
    flat, flat_x, flat_sums = of_x.reshape(-1), x.reshape(-1), sums.reshape(-1)
    flat_dots = dots.reshape(-1)
    for k in range(kernels):
        row[: (TAPS - 1) * LANES] = 0
        for block in range(blocks):
            at = (k * blocks + block) * LANES
            _back_gradient(slots, at, slot_step(kernels, blocks), row, block * OUTPUTS * LANES)
        here = (place * kernels + k) * bands * lanes + group * LANES
        copy(bands, row, padding * LANES, LANES, flat, here, lanes)
        if used:
            at = k * lanes + group * LANES
            add_gradient_sums(
                bands, row, padding * LANES, LANES, flat_x, here, lanes, scale[k], offset[k],
                floor, floor_out, flat_sums, at, flat_dots, at,
            )  # fmt: skip


@compiled
def _add_products(of_gradient, step, starts, of_x, step_in, starts_in, blocks, sums):
    """Add what one place gives to the sums of the transformed weights' gradient."""
    at, row = 0, blocks * LANES
    for slot in range(SLOTS):
        first = PARTNERS[slot] * step
        for start in starts:
            for start_in in starts_in:
                product_tile(
                    of_gradient, first + start * row, row, of_x, slot * step_in + start_in * row,
                    row, blocks, sums, at,
                )  # fmt: skip
                at += PRODUCTS * PRODUCTS


@compiled
def _multiply(
    slots, first, count, blocks, tiles, starts, bias, out, at, one, other, index, places, slot
):
    """Write one slot of all kernels' products, each the sum over `count` kernels."""
    row, flat_tiles = blocks * LANES, tiles.reshape(-1)
    offsets = np.arange(count) * row
    parts = SLOTS * len(starts)
    for tile, kernel in enumerate(starts):
        part = slot * len(starts) + tile
        _fetch(one, index, places, part, parts)
        _fetch(other, index, places, part, parts)
        weights, here = (tile * SLOTS + slot) * count * KERNELS, at + kernel * row
        for block in range(0, blocks - BLOCKS + 1, BLOCKS):
            _wide_tile(
                slots, first + block * LANES, LANES, offsets, count, flat_tiles, weights,
                bias, kernel, out, here + block * LANES, row, LANES,
            )  # fmt: skip
        for block in range(blocks // BLOCKS * BLOCKS, blocks):
            _narrow_tile(
                slots, first + block * LANES, LANES, offsets, count, flat_tiles, weights,
                bias, kernel, out, here + block * LANES, row, LANES,
            )  # fmt: skip


@compiled
def _read(x, norm, place, group, padding, length, inputs):
    """Read 16 lanes of one place, each kernel's bands after `padding` zeros that are there."""
    kernels, bands, lanes = x.shape[2:]
    flat = x.reshape(-1)
    for k in range(kernels):
        here = (place * kernels + k) * bands * lanes + group * LANES
        read_row(flat, here, lanes, bands, norm, k, inputs, k * length + padding * LANES, LANES)


@compiled
def _fetch(array, index, places, part, parts):
    """Fetch one of the parts of what a map holds at a place, given its index among all."""
    line = 64 // array.itemsize
    lines = array.size // places // line // parts + 1
    fetch(array, index * (array.size // places) + part * lines * line, lines)
