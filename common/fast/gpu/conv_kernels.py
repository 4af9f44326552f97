"""Compiled for a GPU: convolutions over maps with kernels innermost; see `norm_kernels.py`."""

from typing import NamedTuple

import triton
import triton.language as tl

from common.fast.gpu.norm_kernels import AT_A_TIME, add_sums, kernel, no_sums, store_sums, tile


class Geometry(NamedTuple):
    """What a convolution is compiled for; rows and columns are padded to stay as many.

    Attributes
    ----------
    size, taps : tuple of int
        Rows, cols and bands of the output, and of the weights.
    x_bands, x_kernels : int
        Of the input.
    stride, pad : int
        Along the bands.
    columns : int
        Taps times kernels of the input, rounded up.
    kind : triton.language.dtype
        What is multiplied.
    """

    size: tuple[int, int, int]
    taps: tuple[int, int, int]
    x_bands: int
    x_kernels: int
    stride: int
    pad: int
    columns: int
    kind: tl.dtype


@triton.jit
def _window(x, place, inside, column, kernels: tl.constexpr, geometry: tl.constexpr,
            sign: tl.constexpr):  # fmt: skip
    """What the taps of a convolution see from some places: (places, columns).

    A column is a tap and a kernel.  With sign -1 it is where the taps see those places from.
    """
    taps: tl.constexpr = geometry.taps
    tap, kernel = column // kernels, column % kernels
    rows: tl.constexpr = geometry.size[0]
    cols: tl.constexpr = geometry.size[1]
    bands: tl.constexpr = geometry.size[2]
    first = place % bands * geometry.stride
    band = first[:, None] + sign * (tap % taps[2] - geometry.pad)[None, :]
    seen = inside[:, None] & (tap < taps[0] * taps[1] * taps[2])[None, :]
    seen &= (band >= 0) & (band < geometry.x_bands)
    col = (place // bands % cols)[:, None]
    row = (place // (bands * cols))[:, None]
    if taps[0] > 1 or taps[1] > 1:
        col += sign * (tap // taps[2] % taps[1] - taps[1] // 2)[None, :]
        row += sign * (tap // (taps[2] * taps[1]) - taps[0] // 2)[None, :]
        seen &= (col >= 0) & (col < cols) & (row >= 0) & (row < rows)
    at = (row * cols + col) * geometry.x_bands + band
    return tl.load(x + at * kernels + kernel[None, :], mask=seen, other=0.0)


@kernel
def conv(x, weight, bias, out, sums, share, sizes: tl.constexpr, geometry: tl.constexpr):
    """Convolve: rows and columns as if padded to the same size, bands with `pad` and `stride`."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    size: tl.constexpr = geometry.size
    taps: tl.constexpr = geometry.taps
    x_kernels: tl.constexpr = geometry.x_kernels
    kernels: tl.constexpr = sizes.kernels
    places: tl.constexpr = size[0] * size[1] * size[2]
    x += patch * (places // size[2] * geometry.x_bands * x_kernels)
    out += patch * (places * kernels)
    column, kernel = tl.arange(0, geometry.columns), tl.arange(0, sizes.width)
    tap, x_kernel = column // x_kernels, column % x_kernels
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    used = (kernel < kernels)[:, None] & (tap < number_of_taps)[None, :]
    weight_at = (kernel[:, None] * x_kernels + x_kernel[None, :]) * number_of_taps + tap[None, :]
    weights = tl.trans(tl.load(weight + weight_at, mask=used, other=0.0).to(geometry.kind))
    offset = tl.load(bias + kernel, mask=kernel < kernels, other=0.0).to(tl.float32)
    totals = no_sums(sizes)
    end = min(places, (part + 1) * share.chunk)
    for start in range(part * share.chunk, end, sizes.block):
        place = start + tl.arange(0, sizes.block)
        inside = place < end
        seen = _window(x, place, inside, column, x_kernels, geometry, 1).to(geometry.kind)
        y = tl.dot(seen, weights, input_precision="tf32x3") + offset[None, :]
        y = y.to(out.dtype.element_ty)
        at, real = tile(place, inside, sizes)
        tl.store(out + at, y, mask=real)
        totals = add_sums(totals, y.to(tl.float32), real)
    store_sums(sums, totals, sizes)


@kernel
def conv_backward(g, x, weight, x_gradient, parts, share, sizes: tl.constexpr,
                  geometry: tl.constexpr):  # fmt: skip
    """Gradients of a convolution that has as many kernels before as after it, stride 1.

    What the taps see a place from serves both: times the weights it is the gradient of the
    place, and with what the place holds it adds to that of the weights, (programs, columns,
    kernels).  `parts` are those of the weights' gradient and of the bias's.
    """
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    size: tl.constexpr = geometry.size
    taps: tl.constexpr = geometry.taps
    kernels: tl.constexpr = sizes.kernels
    places: tl.constexpr = size[0] * size[1] * size[2]
    g += patch * (places * kernels)
    x += patch * (places * kernels)
    x_gradient += patch * (places * kernels)
    columns: tl.constexpr = geometry.columns
    width: tl.constexpr = sizes.width
    block: tl.constexpr = sizes.block
    column, kernel = tl.arange(0, columns), tl.arange(0, width)
    tap, g_kernel = column // kernels, column % kernels
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    used = (tap < number_of_taps)[:, None] & (kernel < kernels)[None, :]
    weight_at = (g_kernel[:, None] * kernels + kernel[None, :]) * number_of_taps + tap[:, None]
    weights = tl.load(weight + weight_at, mask=used, other=0.0).to(geometry.kind)
    of_weight = tl.zeros([columns, width], tl.float32)
    of_bias = tl.zeros([block, width], tl.float32)
    end = min(places, (part + 1) * share.chunk)
    for start in range(part * share.chunk, end, sizes.block):
        place = start + tl.arange(0, sizes.block)
        inside = place < end
        from_taps = _window(g, place, inside, column, kernels, geometry, -1).to(geometry.kind)
        at, real = tile(place, inside, sizes)
        gradient = tl.dot(from_taps, weights, input_precision="tf32x3")
        tl.store(x_gradient + at, gradient.to(x_gradient.dtype.element_ty), mask=real)
        of_bias += tl.load(g + at, mask=real, other=0.0).to(tl.float32)
        held = tl.load(x + at, mask=real, other=0.0).to(geometry.kind)
        of_weight = tl.dot(tl.trans(from_taps), held, of_weight, input_precision="tf32x3")
    program = patch * tl.num_programs(1) + part
    bias_at = program * kernels + kernel
    tl.store(parts[1] + bias_at, tl.sum(of_bias, 0), mask=kernel < kernels)
    at = (program * (number_of_taps * kernels) + column[:, None]) * kernels + kernel[None, :]
    tl.store(parts[0] + at, of_weight, mask=used)


@kernel
def stem_backward(g, x, parts, share, sizes: tl.constexpr, geometry: tl.constexpr):
    """Gradient of the weights of a convolution of the input: (programs, columns, kernels)."""
    patch, part = tl.program_id(0).to(tl.int64), tl.program_id(1)
    size: tl.constexpr = geometry.size
    taps: tl.constexpr = geometry.taps
    kernels: tl.constexpr = sizes.kernels
    places: tl.constexpr = size[0] * size[1] * size[2]
    g += patch * (places * kernels)
    x += patch * (places // size[2] * geometry.x_bands)
    columns: tl.constexpr = geometry.columns
    width: tl.constexpr = sizes.width
    block: tl.constexpr = sizes.block
    column, kernel = tl.arange(0, columns), tl.arange(0, width)
    number_of_taps: tl.constexpr = taps[0] * taps[1] * taps[2]
    of_weight = tl.zeros([columns, width], tl.float32)
    of_bias = tl.zeros([block, width], tl.float32)
    end = min(places, (part + 1) * share.chunk)
    for start in range(part * share.chunk, end, sizes.block):
        place = start + tl.arange(0, sizes.block)
        inside = place < end
        at, real = tile(place, inside, sizes)
        gradient = tl.load(g + at, mask=real, other=0.0)
        of_bias += gradient.to(tl.float32)
        seen = _window(x, place, inside, column, 1, geometry, 1).to(geometry.kind)
        of_weight = tl.dot(
            tl.trans(seen), gradient.to(geometry.kind), of_weight, input_precision="tf32x3"
        )
    program = patch * tl.num_programs(1) + part
    bias_at = program * kernels + kernel
    tl.store(parts[1] + bias_at, tl.sum(of_bias, 0), mask=kernel < kernels)
    at = (program * number_of_taps + column[:, None]) * kernels + kernel[None, :]
    used = (column < number_of_taps)[:, None] & (kernel < kernels)[None, :]
    tl.store(parts[0] + at, of_weight, mask=used)


@kernel
def add_parts(parts, gradients, programs, x_kernels: tl.constexpr, kernels: tl.constexpr,
              taps: tl.constexpr, numbers: tl.constexpr):  # fmt: skip
    """Add up the gradients (taps, kernels, x_kernels) of all programs into that of a weight.

    `parts` and `gradients` are those of the weight and of the bias.
    """
    number = tl.program_id(0) * numbers + tl.arange(0, numbers)
    row = tl.arange(0, AT_A_TIME)[:, None]
    size: tl.constexpr = x_kernels * taps * kernels
    total = tl.zeros([AT_A_TIME, numbers], tl.float32)
    for start in range(0, programs, AT_A_TIME):
        program = (start + row).to(tl.int64)
        found = (program < programs) & (number < size)[None, :]
        total += tl.load(parts[0] + program * size + number[None, :], mask=found, other=0.0)
    x_kernel = number % x_kernels
    kernel, tap = number // x_kernels % kernels, number // (kernels * x_kernels)
    at = (kernel * x_kernels + x_kernel) * taps + tap
    tl.store(gradients[0] + at, tl.sum(total, 0), mask=number < size)
    if tl.program_id(0) == 0:
        of_bias = tl.zeros([AT_A_TIME, numbers], tl.float32)
        for start in range(0, programs, AT_A_TIME):
            program = (start + row).to(tl.int64)
            found = (program < programs) & (number < kernels)[None, :]
            part = parts[1] + program * kernels + number[None, :]
            of_bias += tl.load(part, mask=found, other=0.0)
        tl.store(gradients[1] + number, tl.sum(of_bias, 0), mask=number < kernels)
