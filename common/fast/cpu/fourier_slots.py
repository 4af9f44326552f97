"""What short Fourier transforms make of the rows of one place, for `conv_fourier.py`: slots.

A row is a kernel's bands, as blocks of 16 that begin every 10.  In float32 and float64 slots are
``(slots, kernels, blocks, LANES)``.  In bfloat16 they are arrays of int32 that hold two numbers in
each of theirs (`per_number` is 2): for sums over kernels pairs of neighbouring kernels, ``(slots,
kernels / 2, blocks, LANES)``; for sums over lanes pairs of neighbouring lanes, ``(slots, kernels,
blocks / 2 rounded up, LANES)``, two blocks in a vector.
"""

from common.fast.codegen.jit import compiled
from common.fast.codegen.short_fourier import OUTPUTS, TAPS, transform
from common.fast.codegen.vectors import LANES

_transform = transform(OUTPUTS + TAPS - 1, pairs=True, halves=False)
_transform_apart = transform(OUTPUTS + TAPS - 1, pairs=False, halves=True)
_transform_gradient = transform(OUTPUTS, pairs=True, halves=True)


@compiled
def transform_over_kernels(rows, kernels, per_number, blocks, slots):
    """Write slots for sums over kernels, of a convolution's input."""
    length, step = row_length(blocks), slot_step(kernels // per_number, blocks)
    for k in range(0, kernels, per_number):
        for block in range(blocks):
            at = k * length + block * OUTPUTS * LANES
            here = (k // per_number * blocks + block) * LANES
            _transform(rows, at, length, slots, here, step, slots, 0, 0, 0)


@compiled
def transform_over_lanes(rows, kernels, per_number, blocks, halves):
    """Write slots for sums over lanes, of a convolution's input."""
    length, vectors = row_length(blocks), -(-blocks // per_number)
    step = slot_step(kernels, vectors)
    for k in range(0, kernels, per_number):
        for block in range(blocks):
            at, here = k * length + block * OUTPUTS * LANES, _half(k, block, vectors, per_number)
            _transform_apart(
                rows, at, length, halves, here, step, halves, here, vectors * LANES, step
            )


@compiled
def transform_gradients(rows, kernels, per_number, blocks, pairs, halves):
    """Write the slots of an output's gradient, for sums over kernels and for those over lanes.

    Where numbers are not in pairs they are the same.
    """
    length, vectors = row_length(blocks), -(-blocks // per_number)
    step, apart = slot_step(kernels // per_number, blocks), slot_step(kernels, vectors)
    for k in range(0, kernels, per_number):
        for block in range(blocks):
            at, here = k * length + block * OUTPUTS * LANES, _half(k, block, vectors, per_number)
            _transform_gradient(
                rows, at, length, pairs, (k // per_number * blocks + block) * LANES, step,
                halves, here, vectors * LANES, apart,
            )  # fmt: skip


@compiled
def _half(kernel, block, vectors, per_number):
    """Where a block of a kernel begins, two of them in a vector where numbers are in pairs."""
    return kernel * vectors * LANES + block * LANES // per_number


@compiled
def row_length(blocks):
    """Numbers of a row of so many blocks."""
    return (blocks * OUTPUTS + TAPS - 1) * LANES


@compiled
def slot_step(kernels, blocks):
    """Numbers from one slot to the next; a line more than needed spreads them over the cache."""
    return (kernels * blocks + 1) * LANES
