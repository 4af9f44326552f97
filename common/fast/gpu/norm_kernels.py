"""Compiled for a GPU: what stands between the convolutions, over maps with kernels innermost.

A map lies in memory as (patches, places, kernels), its places being (rows, cols, bands).  Every
function here, and in `conv_kernels.py`, is one launch.  Its programs (patch, part)
each go through `chunk` places of one patch, `block` at a time, and write one partial sum of what is
summed over places; whoever needs the sum adds the partial sums in a fixed order, so that two runs
give the same bits.

A map's sums, (patches, parts, 4, kernels), are those of its numbers, of their squares, and of both
after a ReLU: all that a batch norm, or an average, needs to know of it.  They are float32, and a
variance, as the mean square less the square of the mean, is wrong by some 1e-7 (mean / std)².
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

AT_A_TIME = tl.constexpr(128)  # partial sums that are added up
STAGES = tl.constexpr(3)  # blocks that are on their way from memory


class Share(NamedTuple):
    """How a map's places are shared among programs: whole numbers, any of which a kernel takes.

    `count` numbers make a sum or an average: those of all patches, or of one.
    """

    places: int
    chunk: int
    parts: int
    programs: int
    count: int


class Sizes(NamedTuple):
    """What a kernel is compiled for: kernels, rounded up to `width`, and places at a time."""

    kernels: int
    width: int
    block: int


class BatchNorm(NamedTuple):
    """Parameters and statistics of a batch norm.

    `saved`, (2, kernels), gets the mean and 1 / std that it normalised with.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_variance: Tensor
    updates: Tensor
    saved: Tensor
    momentum: float
    eps: float


class Kind(NamedTuple):
    """Where a batch norm has its ReLUs, and whether it trains."""

    relu_before: bool
    relu_after: bool
    training: bool


class Backward(NamedTuple):
    """What leads a gradient back through a batch norm; `sums` as `normalise_sums` gives them."""

    saved: Tensor
    weight: Tensor
    bias: Tensor
    sums: Tensor


class Gradients(NamedTuple):
    """Where the gradients of a batch norm go."""

    x: Tensor
    shortcut: Tensor | None
    weight: Tensor
    bias: Tensor


def kernel(function):
    """Compile a function, once for all values of a `Share` and for any number of programs."""
    names = [n for n in ("share", "programs") if n in function.__code__.co_varnames]
    return triton.jit(function, do_not_specialize=names)


@triton.jit
def tile(place, inside, sizes: tl.constexpr):
    """Where the kernels of some places lie, and which of them there are: (block, width)."""
    kernel = tl.arange(0, sizes.width)
    at = place[:, None] * sizes.kernels + kernel[None, :]
    return at, inside[:, None] & (kernel < sizes.kernels)[None, :]


@triton.jit
def relu(y):
    """Zero what is negative; NaN stays, so that a training that diverges is noticed."""
    return tl.where(y < 0, 0.0, y)


@triton.jit
def no_sums(sizes: tl.constexpr):
    """Return the four sums before the first block.

    They are added up place by place, and over the places only at the end: the threads of a program
    would otherwise have to wait for one another after every block.
    """
    block: tl.constexpr = sizes.block
    width: tl.constexpr = sizes.width
    nothing = tl.zeros([block, width], tl.float32)
    return nothing, nothing, nothing, nothing


@triton.jit
def add_sums(totals, y, real):
    """Add a block's numbers, squares, and both after a ReLU."""
    y = tl.where(real, y, 0.0)
    positive = relu(y)
    return totals[0] + y, totals[1] + y * y, totals[2] + positive, totals[3] + positive * positive


@triton.jit
def store_sums(sums, totals, sizes: tl.constexpr):
    """Write the sums of this program."""
    program = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    kernel = tl.arange(0, sizes.width)
    sums += program * (4 * sizes.kernels) + kernel
    for number in tl.static_range(4):
        at = sums + number * sizes.kernels
        tl.store(at, tl.sum(totals[number], 0), mask=kernel < sizes.kernels)


@triton.jit
def total(parts, programs, stride: tl.constexpr, sizes: tl.constexpr):
    """Add up the partial sums of all programs, `stride` numbers from one to the next."""
    width: tl.constexpr = sizes.width
    kernel = tl.arange(0, width)[None, :]
    added = tl.zeros([AT_A_TIME, width], tl.float32)
    for start in range(0, programs, AT_A_TIME):
        program = (start + tl.arange(0, AT_A_TIME)[:, None]).to(tl.int64)
        found = (program < programs) & (kernel < sizes.kernels)
        added += tl.load(parts + program * stride + kernel, mask=found, other=0.0)
    return tl.sum(added, 0)


@kernel
def sums_of(x, sums, share, sizes: tl.constexpr):
    """A map's sums."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += patch * share.places * sizes.kernels
    totals = no_sums(sizes)
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        y = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        totals = add_sums(totals, y, real)
    store_sums(sums, totals, sizes)


@triton.jit
def _follow(running, value, momentum, there):
    """Let running statistics follow those of a batch."""
    before = tl.load(running, mask=there, other=0.0)
    tl.store(running, before + momentum * (value - before), mask=there)


@kernel
def normalise(x, shortcut, out, x_sums, norm, share, sizes: tl.constexpr, kind: tl.constexpr):
    """relu?(BN(relu?(x)) [+ shortcut]); the first program lets the running statistics follow.

    `norm` is a `BatchNorm`; `share.programs` those that made the partial sums `x_sums`.
    """
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    there = kernel < kernels
    first = (patch == 0) & (part == 0)
    if kind.training:
        sums = x_sums + (2 * kernels if kind.relu_before else 0)
        mean = total(sums, share.programs, 4 * kernels, sizes) / share.count
        square = total(sums + kernels, share.programs, 4 * kernels, sizes) / share.count
        variance = relu(square - mean * mean)
        if first:
            unbiased = variance * share.count / (share.count - 1)
            _follow(norm.running_mean + kernel, mean, norm.momentum, there)
            _follow(norm.running_variance + kernel, unbiased, norm.momentum, there)
            tl.store(norm.updates, tl.load(norm.updates) + 1)
    else:
        mean = tl.load(norm.running_mean + kernel, mask=there, other=0.0)
        variance = tl.load(norm.running_variance + kernel, mask=there, other=0.0)
    inverse_std = 1 / tl.sqrt_rn(variance + norm.eps)
    if first:
        tl.store(norm.saved + kernel, mean, mask=there)
        tl.store(norm.saved + kernels + kernel, inverse_std, mask=there)
    scale = tl.load(norm.weight + kernel, mask=there, other=0.0) * inverse_std
    offset = tl.load(norm.bias + kernel, mask=there, other=0.0) - mean * scale
    scale, offset = scale[None, :], offset[None, :]

    x += patch * share.places * kernels
    out += patch * share.places * kernels
    if shortcut is not None:
        shortcut += patch * share.places * kernels
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        y = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        if kind.relu_before:
            y = relu(y)
        y = y * scale + offset
        if shortcut is not None:
            y += tl.load(shortcut + at, mask=real, other=0.0).to(tl.float32)
        if kind.relu_after:
            y = relu(y)
        tl.store(out + at, y.to(out.dtype.element_ty), mask=real)


@triton.jit
def _factors(norm, sizes: tl.constexpr):
    """Mean, 1 / std, weight and bias of a norm, each (1, width)."""
    kernel = tl.arange(0, sizes.width)[None, :]
    there = kernel < sizes.kernels
    return (
        tl.load(norm.saved + kernel, mask=there, other=0.0),
        tl.load(norm.saved + sizes.kernels + kernel, mask=there, other=0.0),
        tl.load(norm.weight + kernel, mask=there, other=0.0),
        tl.load(norm.bias + kernel, mask=there, other=0.0),
    )


@triton.jit
def _passed(g, x, out, at, real, factors, kind: tl.constexpr):
    """The gradient that passes the last ReLU, x and the normalised x."""
    mean, inverse_std, weight, bias = factors
    gradient = tl.load(g + at, mask=real, other=0.0).to(tl.float32)
    number = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
    normalised = ((relu(number) if kind.relu_before else number) - mean) * inverse_std
    if kind.relu_after:
        if out is not None:
            y = tl.load(out + at, mask=real, other=0.0).to(tl.float32)
        else:
            y = normalised * weight + bias
        gradient = tl.where(y > 0, gradient, 0.0)
    return gradient, number, normalised


@kernel
def normalise_sums(g, x, out, norm, share, sizes: tl.constexpr, kind: tl.constexpr):
    """Sums (programs, 2, kernels) of the gradient, and of it times the normalised map.

    `norm` is a `Backward`, whose `sums` they become.
    """
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    there = kernel < kernels
    factors = _factors(norm, sizes)
    g += patch * share.places * kernels
    x += patch * share.places * kernels
    if out is not None:
        out += patch * share.places * kernels
    of_bias, of_weight, _, _ = no_sums(sizes)
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        gradient, _, normalised = _passed(g, x, out, at, real, factors, kind)
        of_bias += gradient
        of_weight += gradient * normalised
    program = patch * tl.num_programs(1) + part
    sums = norm.sums + program * 2 * kernels + kernel
    tl.store(sums, tl.sum(of_bias, 0), mask=there)
    tl.store(sums + kernels, tl.sum(of_weight, 0), mask=there)


@kernel
def normalise_backward(
    g, x, out, norm, gradients, share, sizes: tl.constexpr, kind: tl.constexpr
):  # fmt: skip
    """Gradients of `normalise`: `norm` is a `Backward`, to be written are `Gradients`."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    there = kernel < kernels
    factors = _factors(norm, sizes)
    gradient_sum = total(norm.sums, share.programs, 2 * kernels, sizes)
    product_sum = total(norm.sums + kernels, share.programs, 2 * kernels, sizes)
    if (patch == 0) & (part == 0):
        tl.store(gradients.bias + kernel, gradient_sum, mask=there)
        tl.store(gradients.weight + kernel, product_sum, mask=there)
    constant, slope = (gradient_sum / share.count)[None, :], (product_sum / share.count)[None, :]
    _, inverse_std, scale, _ = factors
    g += patch * share.places * kernels
    x += patch * share.places * kernels
    x_gradient = gradients.x + patch * share.places * kernels
    if out is not None:
        out += patch * share.places * kernels
        shortcut_gradient = gradients.shortcut + patch * share.places * kernels
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        gradient, number, normalised = _passed(g, x, out, at, real, factors, kind)
        if out is not None:
            passed = gradient.to(shortcut_gradient.dtype.element_ty)
            tl.store(shortcut_gradient + at, passed, mask=real)
        if kind.training:
            gradient = gradient - constant - normalised * slope
        gradient *= scale * inverse_std
        if kind.relu_before:
            gradient = tl.where(number > 0, gradient, 0.0)
        tl.store(x_gradient + at, gradient.to(x_gradient.dtype.element_ty), mask=real)
