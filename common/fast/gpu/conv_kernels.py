"""Compiled for a GPU: convolutions over maps with kernels innermost; see `norm_kernels.py`."""

import triton
import triton.language as tl

from common.fast.gpu.norm_kernels import AT_A_TIME, add_sums, kernel, no_sums, store_sums, tile


@triton.jit
def _window(x, place, inside, column, size: tl.constexpr, x_bands: tl.constexpr,
            kernels: tl.constexpr, taps: tl.constexpr, stride: tl.constexpr, pad: tl.constexpr,
            sign: tl.constexpr):  # fmt: skip
    """What the taps of a convolution see from some places: (places, columns).

    A column is a tap and a kernel.  With sign -1 it is where the taps see those places from.
    """
    tap, kernel = column // kernels, column % kernels
    rows: tl.constexpr = size[0]
    cols: tl.constexpr = size[1]
    bands: tl.constexpr = size[2]
    band = (place % bands * stride)[:, None] + sign * (tap % taps[2] - pad)[None, :]
    seen = inside[:, None] & (tap < taps[0] * taps[1] * taps[2])[None, :]
    seen &= (band >= 0) & (band < x_bands)
    col = (place // bands % cols)[:, None]
    row = (place // (bands * cols))[:, None]
    if taps[0] > 1 or taps[1] > 1:
        col += sign * (tap // taps[2] % taps[1] - taps[1] // 2)[None, :]
        row += sign * (tap // (taps[2] * taps[1]) - taps[0] // 2)[None, :]
        seen &= (col >= 0) & (col < cols) & (row >= 0) & (row < rows)
    at = (row * cols + col) * x_bands + band
    return tl.load(x + at * kernels + kernel[None, :], mask=seen, other=0.0)


@kernel
def conv(x, weight, bias, out, sums, chunk, size: tl.constexpr, x_bands: tl.constexpr,
         x_kernels: tl.constexpr, kernels: tl.constexpr, taps: tl.constexpr, stride: tl.constexpr,
         pad: tl.constexpr, columns: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
         kind: tl.constexpr):  # fmt: skip
    """Convolve: rows and columns as if padded to the same size, bands with `pad` and `stride`."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places: tl.constexpr = size[0] * size[1] * size[2]
    x += patch * (places // size[2] * x_bands * x_kernels)
    out += patch * (places * kernels)
    column, kernel = tl.arange(0, columns), tl.arange(0, width)
    tap, x_kernel = column // x_kernels, column % x_kernels
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    used = (kernel < kernels)[:, None] & (tap < number_of_taps)[None, :]
    weight_at = (kernel[:, None] * x_kernels + x_kernel[None, :]) * number_of_taps + tap[None, :]
    weights = tl.trans(tl.load(weight + weight_at, mask=used, other=0.0).to(kind))
    offset = tl.load(bias + kernel, mask=kernel < kernels, other=0.0).to(tl.float32)
    totals = no_sums(block, width)
    end = min(places, (part + 1) * chunk)
    for start in range(part * chunk, end, block):
        place = start + tl.arange(0, block)
        inside = place < end
        seen = _window(x, place, inside, column, size, x_bands, x_kernels, taps, stride, pad, 1)
        y = tl.dot(seen.to(kind), weights, input_precision="tf32x3") + offset[None, :]
        y = y.to(out.dtype.element_ty)
        at, real = tile(place, inside, kernels, width)
        tl.store(out + at, y, mask=real)
        totals = add_sums(totals, y.to(tl.float32), real)
    store_sums(sums, totals, kernels, width)


@kernel
def conv_backward(g, x, weight, x_gradient, weight_parts, bias_parts, chunk,
                  size: tl.constexpr, kernels: tl.constexpr, taps: tl.constexpr, pad: tl.constexpr,
                  columns: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
                  kind: tl.constexpr):  # fmt: skip
    """Gradients of a convolution that has as many kernels before as after it, stride 1.

    What the taps see a place from serves both: times the weights it is the gradient of the
    place, and with what the place holds it adds to that of the weights, (programs, columns,
    kernels).
    """
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places: tl.constexpr = size[0] * size[1] * size[2]
    g += patch * (places * kernels)
    x += patch * (places * kernels)
    x_gradient += patch * (places * kernels)
    column, kernel = tl.arange(0, columns), tl.arange(0, width)
    tap, g_kernel = column // kernels, column % kernels
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    used = (tap < number_of_taps)[:, None] & (kernel < kernels)[None, :]
    weight_at = (g_kernel[:, None] * kernels + kernel[None, :]) * number_of_taps + tap[:, None]
    weights = tl.load(weight + weight_at, mask=used, other=0.0).to(kind)
    of_weight = tl.zeros([columns, width], tl.float32)
    of_bias = tl.zeros([block, width], tl.float32)
    end = min(places, (part + 1) * chunk)
    for start in range(part * chunk, end, block):
        place = start + tl.arange(0, block)
        inside = place < end
        from_taps = _window(g, place, inside, column, size, size[2], kernels, taps, 1, pad, -1).to(
            kind
        )
        at, real = tile(place, inside, kernels, width)
        gradient = tl.dot(from_taps, weights, input_precision="tf32x3")
        tl.store(x_gradient + at, gradient.to(x_gradient.dtype.element_ty), mask=real)
        of_bias += tl.load(g + at, mask=real, other=0.0).to(tl.float32)
        held = tl.load(x + at, mask=real, other=0.0).to(kind)
        of_weight = tl.dot(tl.trans(from_taps), held, of_weight, input_precision="tf32x3")
    program = patch * tl.num_programs(1) + part
    bias_at = program * kernels + kernel
    tl.store(bias_parts + bias_at, tl.sum(of_bias, 0), mask=kernel < kernels)
    at = (program * (number_of_taps * kernels) + column[:, None]) * kernels + kernel[None, :]
    tl.store(weight_parts + at, of_weight, mask=used)


@kernel
def stem_backward(g, x, weight_parts, bias_parts, chunk, size: tl.constexpr, x_bands: tl.constexpr,
                  kernels: tl.constexpr, taps: tl.constexpr, stride: tl.constexpr,
                  columns: tl.constexpr, width: tl.constexpr, block: tl.constexpr,
                  kind: tl.constexpr):  # fmt: skip
    """Gradient of the weights of a convolution of the input: (programs, columns, kernels)."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    places: tl.constexpr = size[0] * size[1] * size[2]
    g += patch * (places * kernels)
    x += patch * (places // size[2] * x_bands)
    column, kernel = tl.arange(0, columns), tl.arange(0, width)
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    of_weight = tl.zeros([columns, width], tl.float32)
    of_bias = tl.zeros([block, width], tl.float32)
    end = min(places, (part + 1) * chunk)
    for start in range(part * chunk, end, block):
        place = start + tl.arange(0, block)
        inside = place < end
        at, real = tile(place, inside, kernels, width)
        gradient = tl.load(g + at, mask=real, other=0.0)
        of_bias += gradient.to(tl.float32)
        seen = _window(x, place, inside, column, size, x_bands, 1, taps, stride, 0, 1).to(kind)
        of_weight = tl.dot(tl.trans(seen), gradient.to(kind), of_weight, input_precision="tf32x3")
    program = patch * tl.num_programs(1) + part
    bias_at = program * kernels + kernel
    tl.store(bias_parts + bias_at, tl.sum(of_bias, 0), mask=kernel < kernels)
    at = (program * number_of_taps + column[:, None]) * kernels + kernel[None, :]
    used = (column < number_of_taps)[:, None] & (kernel < kernels)[None, :]
    tl.store(weight_parts + at, of_weight, mask=used)


@kernel
def add_parts(parts, bias_parts, weight_gradient, bias_gradient, programs,
              x_kernels: tl.constexpr, kernels: tl.constexpr, taps: tl.constexpr,
              numbers: tl.constexpr):  # fmt: skip
    """Add up the gradients (taps, kernels, x_kernels) of all programs into that of a weight."""
    number = tl.program_id(0) * numbers + tl.arange(0, numbers)
    row = tl.arange(0, AT_A_TIME)[:, None]
    size: tl.constexpr = x_kernels * taps * kernels
    total = tl.zeros([AT_A_TIME, numbers], tl.float32)
    for start in range(0, programs, AT_A_TIME):
        program = (start + row).to(tl.int64)
        found = (program < programs) & (number < size)[None, :]
        total += tl.load(parts + program * size + number[None, :], mask=found, other=0.0)
    x_kernel = number % x_kernels
    kernel, tap = number // x_kernels % kernels, number // (kernels * x_kernels)
    at = (kernel * x_kernels + x_kernel) * taps + tap
    tl.store(weight_gradient + at, tl.sum(total, 0), mask=number < size)
    if tl.program_id(0) == 0:
        of_bias = tl.zeros([AT_A_TIME, numbers], tl.float32)
        for start in range(0, programs, AT_A_TIME):
            program = (start + row).to(tl.int64)
            found = (program < programs) & (number < kernels)[None, :]
            part = bias_parts + program * kernels + number[None, :]
            of_bias += tl.load(part, mask=found, other=0.0)
        tl.store(bias_gradient + number, tl.sum(of_bias, 0), mask=number < kernels)
