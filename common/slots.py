"""What short Fourier transforms make of the rows of one place, for `common/fourier.py`: slots.

A row is a kernel's bands, as blocks of 16 that begin every 10.  Slots are ``(slots, rows, blocks,
LANES)``, in float32 or float64; or of bfloat16 numbers in pairs, arrays of int32 then: of two rows'
numbers in each lane, ``(slots, rows / 2, blocks, LANES)``, as sums over kernels take them, or of
neighbouring lanes in halves of a vector, ``(slots, rows, blocks / 2, LANES)``, as sums over lanes.
"""

from common.compiling import compiled
from common.transforms import OUTPUTS, TAPS, transform
from common.vectors import LANES

_transform = transform(OUTPUTS + TAPS - 1, pairs=True, halves=False)
_transform_apart = transform(OUTPUTS + TAPS - 1, pairs=False, halves=True)
_transform_gradient = transform(OUTPUTS, pairs=True, halves=True)


@compiled
def transform_in_pairs(rows, kernels, per_row, blocks, slots):
    """Write the slots of a convolution's input, those of `per_row` kernels in pairs if it is 2."""
    length, step = row_length(blocks), slot_step(kernels // per_row, blocks)
    for k in range(0, kernels, per_row):
        for block in range(blocks):
            at = k * length + block * OUTPUTS * LANES
            here = (k // per_row * blocks + block) * LANES
            _transform(rows, at, length, slots, here, step, slots, 0, 0, 0)


@compiled
def transform_inputs(rows, kernels, per_row, blocks, halves):
    """Write the slots of the convolution's input; pairs are of blocks, or two bands each."""
    length, vectors = row_length(blocks), -(-blocks // per_row)
    step = slot_step(kernels, vectors)
    for k in range(0, kernels, per_row):
        for block in range(blocks):
            at, here = k * length + block * OUTPUTS * LANES, _half(k, block, vectors, per_row)
            _transform_apart(
                rows, at, length, halves, here, step, halves, here, vectors * LANES, step
            )


@compiled
def transform_gradients(rows, kernels, per_row, blocks, pairs, halves):
    """Write the slots of its output's gradient: in pairs of kernels, and like those of the input.

    Without pairs of numbers these are the same.
    """
    length, vectors = row_length(blocks), -(-blocks // per_row)
    step, apart = slot_step(kernels // per_row, blocks), slot_step(kernels, vectors)
    for k in range(0, kernels, per_row):
        for block in range(blocks):
            at, here = k * length + block * OUTPUTS * LANES, _half(k, block, vectors, per_row)
            _transform_gradient(
                rows, at, length, pairs, (k // per_row * blocks + block) * LANES, step,
                halves, here, vectors * LANES, apart,
            )  # fmt: skip


@compiled
def _half(kernel, block, vectors, per_row):
    """Where a block of a kernel begins, two to a vector where numbers are pairs."""
    return kernel * vectors * LANES + block * LANES // per_row


@compiled
def row_length(blocks):
    """Numbers of a row of so many blocks."""
    return (blocks * OUTPUTS + TAPS - 1) * LANES


@compiled
def slot_step(kernels, blocks):
    """Numbers from one slot to the next; a line more than needed spreads them over the cache."""
    return (kernels * blocks + 1) * LANES
