"""What short Fourier transforms make of the rows of one place, for `conv_fourier.py`: slots.

A row is a channel's bands, as blocks of 16 that begin every 10.  In float32 and float64 slots are
``(slots, channels, blocks, LANES)``.  In bfloat16 they are arrays of int32 that hold two numbers in
each of theirs (`per_number` is 2): for sums over channels pairs of neighbouring channels, ``(slots,
channels / 2, blocks, LANES)``; for sums over lanes pairs of neighbouring lanes, ``(slots, channels,
blocks / 2 rounded up, LANES)``, two blocks in a vector.
"""

from common.fast.codegen.jit import helper, inlined
from common.fast.codegen.short_fourier import OUTPUTS, TAPS, transform
from common.fast.codegen.vectors import LANES, View

_transform = transform(OUTPUTS + TAPS - 1, pairs=True, halves=False)
_transform_apart = transform(OUTPUTS + TAPS - 1, pairs=False, halves=True)
_transform_gradient = transform(OUTPUTS, pairs=True, halves=True)


@helper
def transform_over_channels(rows, channels, per_number, blocks, slots):
    """Write slots for sums over channels, of a convolution's input."""
    length, step = row_length(blocks), slot_step(channels // per_number, blocks)
    for k in range(0, channels, per_number):
        for block in range(blocks):
            row = View(rows, k * length + block * OUTPUTS * LANES, length)
            here = (k // per_number * blocks + block) * LANES
            _transform(row, View(slots, here, step), View(slots, 0, 0), 0)


@helper
def transform_over_lanes(rows, channels, per_number, blocks, halves):
    """Write slots for sums over lanes, of a convolution's input."""
    length, vectors = row_length(blocks), -(-blocks // per_number)
    step = slot_step(channels, vectors)
    for k in range(0, channels, per_number):
        for block in range(blocks):
            row = View(rows, k * length + block * OUTPUTS * LANES, length)
            slots = View(halves, _half(k, block, vectors, per_number), step)
            _transform_apart(row, slots, slots, vectors * LANES)


@helper
def transform_gradients(rows, channels, per_number, blocks, pairs, halves):
    """Write the slots of an output's gradient, for sums over channels and for those over lanes.

    Where numbers are not in pairs they are the same.
    """
    length, vectors = row_length(blocks), -(-blocks // per_number)
    step, apart = slot_step(channels // per_number, blocks), slot_step(channels, vectors)
    for k in range(0, channels, per_number):
        for block in range(blocks):
            row = View(rows, k * length + block * OUTPUTS * LANES, length)
            in_pairs = View(pairs, (k // per_number * blocks + block) * LANES, step)
            in_halves = View(halves, _half(k, block, vectors, per_number), apart)
            _transform_gradient(row, in_pairs, in_halves, vectors * LANES)


@inlined
def _half(channel, block, vectors, per_number):
    """Where a block of a channel begins, two of them in a vector where numbers are in pairs."""
    return channel * vectors * LANES + block * LANES // per_number


@inlined
def row_length(blocks):
    """Numbers of a row of so many blocks."""
    return (blocks * OUTPUTS + TAPS - 1) * LANES


@inlined
def slot_step(channels, blocks):
    """Numbers from one slot to the next; a line more than needed spreads them over the cache."""
    return (channels * blocks + 1) * LANES
