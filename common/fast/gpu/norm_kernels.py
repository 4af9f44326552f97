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

import triton
import triton.language as tl

SIZES = ["places", "chunk", "programs", "parts", "count"]
AT_A_TIME = tl.constexpr(128)  # partial sums that are added up
STAGES = tl.constexpr(3)  # blocks that are on their way from memory


def kernel(function):
    """Compile a function, once for all values of `SIZES`."""
    names = [name for name in SIZES if name in function.__code__.co_varnames]
    return triton.jit(function, do_not_specialize=names)


@triton.jit
def tile(place, inside, kernels: tl.constexpr, width: tl.constexpr):
    """Where the kernels of some places lie, and which of them there are: (block, width)."""
    kernel = tl.arange(0, width)
    at = place[:, None] * kernels + kernel[None, :]
    return at, inside[:, None] & (kernel < kernels)[None, :]


@triton.jit
def relu(y):
    """Zero what is negative; NaN stays, so that a training that diverges is noticed."""
    return tl.where(y < 0, 0.0, y)


@triton.jit
def no_sums(block: tl.constexpr, width: tl.constexpr):
    """Return the four sums before the first block.

    They are added up place by place, and over the places only at the end: the threads of a program
    would otherwise have to wait for one another after every block.
    """
    nothing = tl.zeros([block, width], tl.float32)
    return nothing, nothing, nothing, nothing


@triton.jit
def add_sums(totals, y, real):
    """Add a block's numbers, squares, and both after a ReLU."""
    y = tl.where(real, y, 0.0)
    positive = relu(y)
    return totals[0] + y, totals[1] + y * y, totals[2] + positive, totals[3] + positive * positive


@triton.jit
def store_sums(sums, totals, kernels: tl.constexpr, width: tl.constexpr):
    """Write the sums of this program."""
    program = tl.program_id(0).to(tl.int64) * tl.num_programs(1) + tl.program_id(1)
    kernel = tl.arange(0, width)
    sums += program * (4 * kernels) + kernel
    for number in tl.static_range(4):
        tl.store(sums + number * kernels, tl.sum(totals[number], 0), mask=kernel < kernels)


@triton.jit
def total(parts, programs, stride: tl.constexpr, kernels: tl.constexpr, width: tl.constexpr):
    """Add up the partial sums of all programs, `stride` numbers from one to the next."""
    kernel = tl.arange(0, width)[None, :]
    added = tl.zeros([AT_A_TIME, width], tl.float32)
    for start in range(0, programs, AT_A_TIME):
        program = (start + tl.arange(0, AT_A_TIME)[:, None]).to(tl.int64)
        found = (program < programs) & (kernel < kernels)
        added += tl.load(parts + program * stride + kernel, mask=found, other=0.0)
    return tl.sum(added, 0)


@kernel
def sums_of(x, sums, places, chunk, kernels: tl.constexpr, width: tl.constexpr,
            block: tl.constexpr):  # fmt: skip
    """A map's sums."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    x += patch * places * kernels
    totals = no_sums(block, width)
    end = min(places, (part + 1) * chunk)
    for start in tl.range(part * chunk, end, block, num_stages=STAGES):
        place = start + tl.arange(0, block)
        at, real = tile(place, place < end, kernels, width)
        y = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        totals = add_sums(totals, y, real)
    store_sums(sums, totals, kernels, width)


@triton.jit
def _follow(running, value, momentum, there):
    """Let running statistics follow those of a batch."""
    before = tl.load(running, mask=there, other=0.0)
    tl.store(running, before + momentum * (value - before), mask=there)


@kernel
def normalise(x, shortcut, out, x_sums, weight, bias, running_mean, running_variance,
              updates, saved, momentum, eps, places, chunk, programs, count,
              kernels: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
              relu_before: tl.constexpr, relu_after: tl.constexpr,
              training: tl.constexpr):  # fmt: skip
    """relu?(BN(relu?(x)) [+ shortcut]); the first program lets the running statistics follow.

    `saved`, (2, kernels), gets the mean and 1 / std of the norm.
    """
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernel = tl.arange(0, width)
    there = kernel < kernels
    first = (patch == 0) & (part == 0)
    if training:
        sums = x_sums + (2 * kernels if relu_before else 0)
        mean = total(sums, programs, 4 * kernels, kernels, width) / count
        square = total(sums + kernels, programs, 4 * kernels, kernels, width) / count
        variance = relu(square - mean * mean)
        if first:
            unbiased = variance * count / (count - 1)
            _follow(running_mean + kernel, mean, momentum, there)
            _follow(running_variance + kernel, unbiased, momentum, there)
            tl.store(updates, tl.load(updates) + 1)
    else:
        mean = tl.load(running_mean + kernel, mask=there, other=0.0)
        variance = tl.load(running_variance + kernel, mask=there, other=0.0)
    inverse_std = 1 / tl.sqrt_rn(variance + eps)
    if first:
        tl.store(saved + kernel, mean, mask=there)
        tl.store(saved + kernels + kernel, inverse_std, mask=there)
    scale = tl.load(weight + kernel, mask=there, other=0.0) * inverse_std
    offset = tl.load(bias + kernel, mask=there, other=0.0) - mean * scale
    scale, offset = scale[None, :], offset[None, :]

    x += patch * places * kernels
    out += patch * places * kernels
    if shortcut is not None:
        shortcut += patch * places * kernels
    end = min(places, (part + 1) * chunk)
    for start in tl.range(part * chunk, end, block, num_stages=STAGES):
        place = start + tl.arange(0, block)
        at, real = tile(place, place < end, kernels, width)
        y = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        if relu_before:
            y = relu(y)
        y = y * scale + offset
        if shortcut is not None:
            y += tl.load(shortcut + at, mask=real, other=0.0).to(tl.float32)
        if relu_after:
            y = relu(y)
        tl.store(out + at, y.to(out.dtype.element_ty), mask=real)


@triton.jit
def _norm(saved, weight, bias, kernels: tl.constexpr, width: tl.constexpr):
    """Mean, 1 / std, weight and bias of a norm, each (1, width)."""
    kernel = tl.arange(0, width)[None, :]
    there = kernel < kernels
    return (
        tl.load(saved + kernel, mask=there, other=0.0),
        tl.load(saved + kernels + kernel, mask=there, other=0.0),
        tl.load(weight + kernel, mask=there, other=0.0),
        tl.load(bias + kernel, mask=there, other=0.0),
    )


@triton.jit
def _passed(g, x, out, at, real, mean, inverse_std, weight, bias, relu_before: tl.constexpr,
            relu_after: tl.constexpr):  # fmt: skip
    """The gradient that passes the last ReLU, x and the normalised x."""
    gradient = tl.load(g + at, mask=real, other=0.0).to(tl.float32)
    number = tl.load(x + at, mask=real, other=0.0).to(tl.float32)
    normalised = ((relu(number) if relu_before else number) - mean) * inverse_std
    if relu_after:
        if out is not None:
            y = tl.load(out + at, mask=real, other=0.0).to(tl.float32)
        else:
            y = normalised * weight + bias
        gradient = tl.where(y > 0, gradient, 0.0)
    return gradient, number, normalised


@kernel
def normalise_sums(g, x, out, saved, weight, bias, sums, places, chunk, kernels: tl.constexpr,
                   width: tl.constexpr, block: tl.constexpr, relu_before: tl.constexpr,
                   relu_after: tl.constexpr):  # fmt: skip
    """Sums (programs, 2, kernels) of the gradient, and of it times the normalised map."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernel = tl.arange(0, width)
    there = kernel < kernels
    mean, inverse_std, scale, offset = _norm(saved, weight, bias, kernels, width)
    g += patch * places * kernels
    x += patch * places * kernels
    if out is not None:
        out += patch * places * kernels
    of_bias, of_weight, _, _ = no_sums(block, width)
    end = min(places, (part + 1) * chunk)
    for start in tl.range(part * chunk, end, block, num_stages=STAGES):
        place = start + tl.arange(0, block)
        at, real = tile(place, place < end, kernels, width)
        gradient, _, normalised = _passed(
            g, x, out, at, real, mean, inverse_std, scale, offset, relu_before, relu_after
        )
        of_bias += gradient
        of_weight += gradient * normalised
    program = patch * tl.num_programs(1) + part
    sums += program * 2 * kernels + kernel
    tl.store(sums, tl.sum(of_bias, 0), mask=there)
    tl.store(sums + kernels, tl.sum(of_weight, 0), mask=there)


@kernel
def normalise_backward(g, x, out, saved, weight, bias, sums, x_gradient, shortcut_gradient,
                       of_weight, of_bias, places, chunk, programs, count, kernels: tl.constexpr,
                       width: tl.constexpr, block: tl.constexpr, relu_before: tl.constexpr,
                       relu_after: tl.constexpr, training: tl.constexpr):  # fmt: skip
    """Gradients of `normalise`."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernel = tl.arange(0, width)
    there = kernel < kernels
    mean, inverse_std, scale, offset = _norm(saved, weight, bias, kernels, width)
    gradient_sum = total(sums, programs, 2 * kernels, kernels, width)
    product_sum = total(sums + kernels, programs, 2 * kernels, kernels, width)
    if (patch == 0) & (part == 0):
        tl.store(of_bias + kernel, gradient_sum, mask=there)
        tl.store(of_weight + kernel, product_sum, mask=there)
    constant, slope = (gradient_sum / count)[None, :], (product_sum / count)[None, :]
    g += patch * places * kernels
    x += patch * places * kernels
    x_gradient += patch * places * kernels
    if out is not None:
        out += patch * places * kernels
        shortcut_gradient += patch * places * kernels
    end = min(places, (part + 1) * chunk)
    for start in tl.range(part * chunk, end, block, num_stages=STAGES):
        place = start + tl.arange(0, block)
        at, real = tile(place, place < end, kernels, width)
        gradient, number, normalised = _passed(
            g, x, out, at, real, mean, inverse_std, scale, offset, relu_before, relu_after
        )
        if out is not None:
            passed = gradient.to(shortcut_gradient.dtype.element_ty)
            tl.store(shortcut_gradient + at, passed, mask=real)
        if training:
            gradient = gradient - constant - normalised * slope
        gradient *= scale * inverse_std
        if relu_before:
            gradient = tl.where(number > 0, gradient, 0.0)
        tl.store(x_gradient + at, gradient.to(x_gradient.dtype.element_ty), mask=real)
