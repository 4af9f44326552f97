"""Compiled for a GPU: maps weighted per patch and kernel; see `norm_kernels.py`."""

import triton
import triton.language as tl

from common.fast.gpu.norm_kernels import STAGES, add_sums, kernel, no_sums, store_sums, tile


@kernel
def weigh(x, x_weight, y, y_weight, out, sums, share, sizes: tl.constexpr):
    """x * x_weight + y [* y_weight], weights (patches, kernels)."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    there = kernel < kernels
    of_x = tl.load(x_weight + patch * kernels + kernel, mask=there, other=0.0)[None, :]
    if y_weight is not None:
        of_y = tl.load(y_weight + patch * kernels + kernel, mask=there, other=0.0)[None, :]
    x += patch * share.places * kernels
    y += patch * share.places * kernels
    out += patch * share.places * kernels
    totals = no_sums(sizes)
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        other = tl.load(y + at, mask=real, other=0.0).to(tl.float32)
        if y_weight is not None:
            other *= of_y
        z = tl.load(x + at, mask=real, other=0.0).to(tl.float32) * of_x + other
        z = z.to(out.dtype.element_ty)
        tl.store(out + at, z, mask=real)
        totals = add_sums(totals, z.to(tl.float32), real)
    store_sums(sums, totals, sizes)


@kernel
def products(g, x, y, parts, share, sizes: tl.constexpr):
    """Sums (patches, parts, kernels) of the gradient times a map, or times each of two."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    g += patch * share.places * kernels
    x += patch * share.places * kernels
    if y is not None:
        y += patch * share.places * kernels
    of_x, of_y, _, _ = no_sums(sizes)
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        gradient = tl.load(g + at, mask=real, other=0.0).to(tl.float32)
        of_x += gradient * tl.load(x + at, mask=real, other=0.0).to(tl.float32)
        if y is not None:
            of_y += gradient * tl.load(y + at, mask=real, other=0.0).to(tl.float32)
    to = (patch * tl.num_programs(1) + part) * kernels + kernel
    tl.store(parts[0] + to, tl.sum(of_x, 0), mask=kernel < kernels)
    if y is not None:
        tl.store(parts[1] + to, tl.sum(of_y, 0), mask=kernel < kernels)


@kernel
def weigh_backward(g, weight, constant, x_gradient, share, sizes: tl.constexpr):
    """g * weight + constant, both (patches, kernels)."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    kernels: tl.constexpr = sizes.kernels
    kernel = tl.arange(0, sizes.width)
    there = kernel < kernels
    factor = tl.load(weight + patch * kernels + kernel, mask=there, other=0.0)[None, :]
    added = tl.load(constant + patch * kernels + kernel, mask=there, other=0.0)[None, :]
    g += patch * share.places * kernels
    x_gradient += patch * share.places * kernels
    end = min(share.places, (part + 1) * share.chunk)
    for start in tl.range(part * share.chunk, end, sizes.block, num_stages=STAGES):
        place = start + tl.arange(0, sizes.block)
        at, real = tile(place, place < end, sizes)
        gradient = tl.load(g + at, mask=real, other=0.0).to(tl.float32) * factor + added
        tl.store(x_gradient + at, gradient.to(x_gradient.dtype.element_ty), mask=real)


@triton.jit
def _of_patch(parts, number, stride: tl.constexpr, at, there):
    """Add up the partial sums of a patch, `stride` numbers from one to the next."""
    added = tl.load(parts + at, mask=there, other=0.0)
    for part in range(1, number):
        added += tl.load(parts + part * stride + at, mask=there, other=0.0)
    return added


@kernel
def averages(sums, out, share, sizes: tl.constexpr):
    """Averages (patches, kernels) of a map from its sums."""
    patch, kernel = tl.program_id(0).to(tl.int64), tl.arange(0, sizes.width)
    there = kernel < sizes.kernels
    sums += patch * share.parts * 4 * sizes.kernels
    average = _of_patch(sums, share.parts, 4 * sizes.kernels, kernel, there) / share.count
    tl.store(out + patch * sizes.kernels + kernel, average, mask=there)


@kernel
def gates(sums, weight, averages, out, share, sizes: tl.constexpr):
    """Averages of a map, and gates: sigmoid of a 1-D convolution of size 3 along the kernels."""
    kernels: tl.constexpr = sizes.kernels
    width: tl.constexpr = sizes.width
    patch, kernel = tl.program_id(0).to(tl.int64), tl.arange(0, width)
    there = kernel < kernels
    sums += patch * share.parts * 4 * kernels
    score = tl.zeros([width], tl.float32)
    for tap in tl.static_range(3):
        neighbour = kernel + (tap - 1)
        real = (neighbour >= 0) & (neighbour < kernels)
        average = _of_patch(sums, share.parts, 4 * kernels, neighbour, real) / share.count
        score += average * tl.load(weight + tap)
        if tap == 1:
            tl.store(averages + patch * kernels + kernel, average, mask=there)
    tl.store(out + patch * kernels + kernel, 1 / (1 + tl.exp(-score)), mask=there)


@kernel
def gates_backward(
    products, gate, averages, weight, constant, weight_parts, share, sizes: tl.constexpr
):  # fmt: skip
    """What the gates' gradient adds to every number of the map, and (patches, 3) parts of that of
    the weight.
    """
    kernels: tl.constexpr = sizes.kernels
    width: tl.constexpr = sizes.width
    patch, kernel = tl.program_id(0).to(tl.int64), tl.arange(0, width)
    there = kernel < kernels
    products += patch * share.parts * kernels
    gate += patch * kernels
    averages += patch * kernels
    of_average = tl.zeros([width], tl.float32)
    of_score = _score_gradient(products, gate, share.parts, kernel, kernels)
    for tap in tl.static_range(3):
        opposite = _score_gradient(products, gate, share.parts, kernel - (tap - 1), kernels)
        of_average += opposite * tl.load(weight + tap)
        neighbour = kernel + (tap - 1)
        real = (neighbour >= 0) & (neighbour < kernels)
        average = tl.load(averages + neighbour, mask=real, other=0.0)
        tl.store(weight_parts + patch * 3 + tap, tl.sum(average * of_score, 0))
    tl.store(constant + patch * kernels + kernel, of_average / share.count, mask=there)


@triton.jit
def _score_gradient(products, gate, parts, kernel, kernels: tl.constexpr):
    """Gradient of what the sigmoid is taken of; 0 beyond the kernels."""
    there = (kernel >= 0) & (kernel < kernels)
    value = tl.load(gate + kernel, mask=there, other=0.0)
    return _of_patch(products, parts, kernels, kernel, there) * value * (1 - value)
