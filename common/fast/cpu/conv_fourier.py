"""Convolutions along the bands with 7 taps and stride 1, by short Fourier transforms, on the CPU.

The same convolutions as in `conv_direct.py`, of kernels of one row and col, in a third of
the multiplications: see `short_fourier.py`.  A row of bands, with its padding, is taken as
blocks of 16 bands that begin every 10.  What the blocks of one place give is kept by slot, as
`fourier_slots.py` says.  Feature maps and their gradients are a `Source` and a `Gradient` of
`reading.py`.
"""

from typing import NamedTuple

import numpy as np

from common.fast.codegen.band_loops import fetch
from common.fast.codegen.jit import compiled, helper, inlined
from common.fast.codegen.processor import AVX512
from common.fast.codegen.short_fourier import OUTPUTS, PARTNERS, SLOTS, TAPS, transform_back
from common.fast.codegen.threads import on_all_threads, share
from common.fast.codegen.tiles import PRODUCTS, output_tile, product_tile
from common.fast.codegen.vectors import LANES, View
from common.fast.cpu.conv_direct import Sums, add_up_bias, valid_lanes
from common.fast.cpu.fourier_slots import (
    row_length,
    slot_step,
    transform_gradients,
    transform_over_channels,
    transform_over_lanes,
)
from common.fast.cpu.reading import (
    Gradient,
    Source,
    add_gradient_sums,
    buffer,
    cell_of,
    clear_lanes,
    copy,
    first_channels,
    lanes_of,
    read_gradient,
    read_row,
    row_of,
    sum_row,
)

CHANNELS, BLOCKS = (4, 5) if AVX512 else (6, 1)  # of a tile of products
_wide_tile, _narrow_tile = output_tile(CHANNELS, BLOCKS), output_tile(CHANNELS, 1)
_back, _back_gradient = transform_back(OUTPUTS, 0), transform_back(OUTPUTS + TAPS - 1, TAPS - 1)


class Ahead(NamedTuple):
    """Two maps of which a cell, one of so many, is fetched to the cache while products are made."""

    one: np.ndarray
    other: np.ndarray
    index: int
    cells: int


@compiled
def convolve(x, padding, tiles, bias, out, threads):
    """Write the convolution of the map `x` to the map `out`.

    `tiles` are of the weights ``(SLOTS, channels in, channels out)``, transformed by
    `weights_transform`; see `weight_tiles.tiles_of`.  In pairs the products are made in bfloat16,
    the sums in float32.

    Returns the sums over all places and bands, ``(threads, channels, lanes)``.
    """
    sums = np.zeros((threads, out.shape[2], out.shape[4]), bias.dtype)
    on_all_threads(_convolve_part, threads, x, padding, tiles, bias, out, sums)
    return sums


@helper
def _convolve_part(thread, threads, x, padding, tiles, bias, out, sums):
    rows, cols, channels, bands, lanes = out.shape
    array, channels_in, blocks = x.array, x.array.shape[2], -(-bands // OUTPUTS)
    cells, length = rows * cols * (lanes // LANES), row_length(blocks)
    starts, no_bias = first_channels(channels, CHANNELS), np.zeros_like(bias)
    units_in = tiles.shape[2]  # channels in, or pairs of them
    per_number = channels_in // units_in
    step, step_in = slot_step(channels, blocks), slot_step(units_in, blocks)
    inputs, row_out = buffer(channels_in * length, bias), buffer(length, bias)
    slots, products = buffer(SLOTS * step_in, tiles), buffer(SLOTS * step, bias)
    whole_row = View(row_out, 0, LANES)
    for index in share(cells, thread, threads):
        cell, ahead = cell_of(index, lanes), Ahead(array, out, index + 1, cells)
        _read(x, cell, padding, length, inputs)
        transform_over_channels(inputs, channels_in, per_number, blocks, slots)
        for slot in range(SLOTS):
            _multiply(
                slot, blocks, View(slots, slot * step_in, 0), tiles, starts,
                no_bias if slot else bias, View(products, PARTNERS[slot] * step, 0), ahead,
            )  # fmt: skip
        for k in range(channels):
            for block in range(blocks):
                slots_of = View(products, (k * blocks + block) * LANES, step)
                _back(slots_of, View(row_out, block * OUTPUTS * LANES, LANES))
            copy(bands, whole_row, row_of(out, cell, k))
            sum_row(bands, whole_row, lanes_of(sums[thread], cell, k))


def weight_gradient(
    x: Source, padding: int, gradient: Gradient, tiles: np.ndarray, of_x: np.ndarray, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gradients of a convolution's weights and bias, given that of its output.

    `tiles` may be those of the convolution's weights ``(SLOTS, channels out, channels in)``,
    transformed: then the gradient of the input is written to `of_x` in passing.  That may be the
    output's gradient's own array, for a place is written after it was read.  Otherwise there are
    none.  In pairs, here of two neighbouring channels out, all products are made in bfloat16.

    Returns
    -------
    array (SLOTS, channels out, channels in)
        Of the transformed weights.
    array (channels out,)
    array (threads, 2, channels in, lanes)
        Where there are `tiles` and `x` is normalised: `passes.gradient_sums` of what `of_x` holds.
    """
    _, _, channels, _, lanes = gradient.array.shape
    number, channels_in = x.scale.dtype, x.array.shape[2]
    blocks, blocks_in = -(-channels // PRODUCTS), -(-channels_in // PRODUCTS)
    sums = Sums(
        np.zeros((threads, SLOTS, blocks, blocks_in, PRODUCTS * PRODUCTS), number),
        np.zeros((threads, channels, lanes), number),
        np.zeros((threads, 2, channels_in, lanes), number),
    )
    _sum_gradients(x, padding, gradient, tiles, of_x, sums)
    return *_add_up(sums, x.patches), sums.back


@compiled
def _add_up(sums, patches):
    """The gradients of the transformed weights and of the bias."""
    _, channels, _ = sums.bias.shape
    channels_in = sums.back.shape[2]
    starts, starts_in = first_channels(channels, PRODUCTS), first_channels(channels_in, PRODUCTS)
    of_weights = np.empty((SLOTS, channels, channels_in), sums.bias.dtype)
    for slot in range(SLOTS):
        for i in range(len(starts)):
            for j in range(len(starts_in)):
                for lane in range(PRODUCTS * PRODUCTS):
                    total = sums.bias.dtype.type(0)
                    for thread in range(len(sums.bias)):
                        total += sums.weights[thread, slot, i, j, lane]
                    channel, channel_in = lane // PRODUCTS, lane % PRODUCTS
                    of_weights[slot, starts[i] + channel, starts_in[j] + channel_in] = total
    return of_weights, add_up_bias(sums.bias, patches)


@compiled
def _sum_gradients(x, padding, gradient, tiles, of_x, sums):
    """Write each thread's sums for `weight_gradient`."""
    on_all_threads(_sum_gradients_part, len(sums.bias), x, padding, gradient, tiles, of_x, sums)


@helper
def _sum_gradients_part(thread, threads, x, padding, gradient, tiles, of_x, sums):
    rows, cols, channels, bands, lanes = gradient.array.shape
    cells, array, channels_in = rows * cols * (lanes // LANES), x.array, x.array.shape[2]
    blocks, units = -(-bands // OUTPUTS), tiles.shape[2]  # channels out, or pairs of them
    length, per_number, number = row_length(blocks), channels // units, sums.bias
    vectors = -(-blocks // per_number)  # of a channel, in slots for sums over lanes
    step, step_in = slot_step(units, blocks), slot_step(channels_in, blocks)
    apart, apart_in = slot_step(channels, vectors), slot_step(channels_in, vectors)
    of_inputs_at = 0 if per_number == 1 else SLOTS * step_in
    starts, starts_in = first_channels(channels, PRODUCTS), first_channels(channels_in, PRODUCTS)
    tile_starts = first_channels(channels_in, CHANNELS)
    no_bias = np.zeros(channels_in, number.dtype)
    valid = valid_lanes(x.patches, lanes, number)
    inputs, gradients = buffer(channels_in * length, number), buffer(channels * length, number)
    slots_back = buffer(of_inputs_at + SLOTS * apart_in, number)
    of_inputs = slots_back[of_inputs_at:].view(tiles.dtype)  # which `slots_back` may overwrite
    of_gradients = buffer(SLOTS * step, tiles)
    halves = of_gradients if per_number == 1 else buffer(SLOTS * apart, tiles)
    row_back = buffer(length, number)
    for index in share(cells, thread, threads):
        cell = cell_of(index, lanes)
        ahead = Ahead(gradient.array, array, index + 1, cells)
        _read(x, cell, padding, length, inputs)
        if not valid[cell.lane + LANES - 1]:
            view = View(inputs, 0, LANES)
            clear_lanes(len(inputs) // LANES, view, View(valid, cell.lane, 0), view)
        transform_over_lanes(inputs, channels_in, per_number, blocks, of_inputs)
        for k in range(channels):
            view = View(gradients, k * length, LANES)
            read_gradient(gradient, cell, k, view)
            sum_row(bands, view, lanes_of(sums.bias[thread], cell, k))
        transform_gradients(gradients, channels, per_number, blocks, of_gradients, halves)
        _add_products(
            View(halves, 0, apart), starts, View(of_inputs, 0, apart_in), starts_in, vectors,
            sums.weights[thread],
        )  # fmt: skip
        if tiles.size:
            for slot in range(SLOTS):
                _multiply(
                    slot, blocks, View(of_gradients, PARTNERS[slot] * step, 0), tiles,
                    tile_starts, no_bias, View(slots_back, slot * step_in, 0), ahead,
                )  # fmt: skip
            _write_back(slots_back, blocks, padding, row_back, x, cell, of_x, sums.back[thread])


@helper
def _write_back(slots, blocks, padding, row, x, cell, of_x, sums):
    """Write the gradient of the input at one cell, and add to its `passes.gradient_sums`."""
    _, _, channels, bands, _ = of_x.shape
    within = View(row, padding * LANES, LANES)
    for k in range(channels):
        row[: (TAPS - 1) * LANES] = 0
        for block in range(blocks):
            slots_of = View(slots, (k * blocks + block) * LANES, slot_step(channels, blocks))
            _back_gradient(slots_of, View(row, block * OUTPUTS * LANES, LANES))
        copy(bands, within, row_of(of_x, cell, k))
        if x.normalised:
            add_gradient_sums(x, cell, k, within, sums)


@helper
def _add_products(of_gradient, starts, of_x, starts_in, blocks, sums):
    """Add what one cell gives to the sums of the transformed weights' gradient.

    Both are `View`s of slots, a step from one to the next.
    """
    at, row = 0, blocks * LANES
    for slot in range(SLOTS):
        first, first_in = PARTNERS[slot] * of_gradient.step, slot * of_x.step
        for start in starts:
            for start_in in starts_in:
                product_tile(
                    blocks, View(of_gradient.array, first + start * row, row),
                    View(of_x.array, first_in + start_in * row, row), View(sums, at, 0),
                )  # fmt: skip
                at += PRODUCTS * PRODUCTS


@helper
def _multiply(slot, blocks, inputs, tiles, starts, bias, out, ahead):
    """Write one slot of all channels' products, each the sum over `tiles`' inputs.

    `inputs` and `out` are `View`s of the slot.
    """
    row, count = blocks * LANES, tiles.shape[2]
    offsets = np.arange(count) * row
    parts = SLOTS * len(starts)
    for tile, channel in enumerate(starts):
        part = slot * len(starts) + tile
        _fetch(ahead.one, ahead, part, parts)
        _fetch(ahead.other, ahead, part, parts)
        weights, here = (tile * SLOTS + slot) * count * CHANNELS, out.at + channel * row
        for block in range(0, blocks - BLOCKS + 1, BLOCKS):
            _wide_tile(
                View(inputs.array, inputs.at + block * LANES, LANES), offsets,
                View(tiles, weights, CHANNELS), View(bias, channel, 1),
                View(out.array, here + block * LANES, row), LANES,
            )  # fmt: skip
        for block in range(blocks // BLOCKS * BLOCKS, blocks):
            _narrow_tile(
                View(inputs.array, inputs.at + block * LANES, LANES), offsets,
                View(tiles, weights, CHANNELS), View(bias, channel, 1),
                View(out.array, here + block * LANES, row), LANES,
            )  # fmt: skip


@inlined
def _fetch(array, ahead, part, parts):
    """Fetch one of the parts of what a map holds at the cell ahead."""
    size, line = array.size // ahead.cells, 64 // array.itemsize
    lines = size // line // parts + 1
    fetch(array, ahead.index * size + part * lines * line, lines)


@helper
def _read(x, cell, padding, length, inputs):
    """Read one cell, each channel's bands after `padding` zeros that are there."""
    for k in range(x.array.shape[2]):
        read_row(x, cell, k, View(inputs, k * length + padding * LANES, LANES))
