"""The loops that nearly all of the arithmetic is done in, and the sum of what the second gives.

Each keeps 24 vectors of sums in the processor's registers (6 without AVX-512, where a vector takes
two of 16 registers or more).  Arrays are flat, and places in them count numbers.
"""

from numba import types
from numba.extending import intrinsic

from common.fast.codegen.processor import AVX512
from common.fast.codegen.vectors import LANES, Code

PRODUCTS = 4  # rows of a product tile: its sums are the lanes of one vector
OFFSETS, GRADIENT_KERNELS = (6, 4) if AVX512 else (3, 2)


def output_tile(kernels: int, bands: int):
    """Make the tile of so many kernels and bands of a convolution's output."""

    @intrinsic
    def tile(
        _, x, start, band_step, offsets, count, weights, first, bias, kernel,
        out, at, kernel_step, out_band_step,
    ):  # fmt: skip
        """out[k, b] = bias[k] + the sum over i of x[start + offsets[i] + b] * weights[i, k]."""

        def generate(context, builder, signature, values):
            code, kinds = Code(context, builder, bias.dtype), signature.args
            band_step, count, kernel_step, out_band_step = (values[i] for i in (2, 4, 11, 12))
            x_at, weights_at, bias_at, out_at = (
                code.pointer(kinds[i], values[i], values[i + 1]) for i in (0, 5, 7, 9)
            )
            offsets_at = code.pointer(kinds[3], values[3], count.type(0))

            def step(index, sums):
                offset = builder.load(builder.gep(offsets_at, [index]))
                here = builder.gep(x_at, [offset])
                inputs = [code.load(code.moved(here, b, band_step)) for b in range(bands)]
                row = code.moved(weights_at, index, count.type(kernels))
                factors = [code.repeated_at(row, k) for k in range(kernels)]
                products = [(value, factor) for factor in factors for value in inputs]
                return [v.times_plus(f, s) for (v, f), s in zip(products, sums, strict=True)]

            initial = [code.repeated_at(bias_at, k) for k in range(kernels) for _ in range(bands)]
            sums = code.loop(count, initial, step)
            for index, total in enumerate(sums):
                row = code.moved(out_at, index // bands, kernel_step)
                code.store(total, code.moved(row, index % bands, out_band_step))
            return context.get_dummy_value()

        i = types.intp
        return types.void(x, i, i, offsets, i, weights, i, bias, i, out, i, i, i), generate

    return tile


@intrinsic
def gradient_tile(_, x, offsets, first, band_step, gradient, start, kernel_step, bands, sums, at):
    """sums[i, k] += the sum over b of x[offsets[first + i] + b] * gradient[start + k, b]."""

    def generate(context, builder, signature, values):
        code, kinds = Code(context, builder, sums.dtype), signature.args
        band_step, kernel_step, bands = (values[i] for i in (3, 6, 7))
        offsets_at, gradient_at, sums_at = (
            code.pointer(kinds[i], values[i], values[i + 1]) for i in (1, 4, 8)
        )
        one = bands.type(1)
        offsets_ = [builder.load(code.moved(offsets_at, i, one)) for i in range(OFFSETS)]
        inputs_at = [code.pointer(kinds[0], values[0], offset) for offset in offsets_]
        rows_at = [code.moved(gradient_at, k, kernel_step) for k in range(GRADIENT_KERNELS)]
        places = [
            code.moved(sums_at, i, one.type(LANES)) for i in range(OFFSETS * GRADIENT_KERNELS)
        ]

        def step(band, sums):
            inputs = [code.load(code.moved(p, band, band_step)) for p in inputs_at]
            gradients = [code.load(code.moved(p, band, one.type(LANES))) for p in rows_at]
            products = [(value, g) for value in inputs for g in gradients]
            return [v.times_plus(g, s) for (v, g), s in zip(products, sums, strict=True)]

        totals = code.loop(bands, [code.load(p) for p in places], step)
        for place, total in zip(places, totals, strict=True):
            code.store(total, place)
        return context.get_dummy_value()

    i = types.intp
    return types.void(x, offsets, i, i, gradient, i, i, i, sums, i), generate


@intrinsic
def product_tile(_, x, x_at, x_step, y, y_at, y_step, count, sums, at):
    """sums[at + 4 i + j] += the sum over vectors and lanes of x[i] * y[j], for i and j below 4.

    A row of x, or y, is `count` vectors, and its next one begins a step further.
    """

    def generate(context, builder, signature, values):
        code, kinds = Code(context, builder, sums.dtype), signature.args
        x_at, y_at, sums_at = (code.pointer(kinds[i], values[i], values[i + 1]) for i in (0, 3, 7))
        x_step, y_step, count = values[2], values[5], values[6]
        one = count.type(LANES)
        rows = [
            [code.moved(start, i, step) for i in range(PRODUCTS)]
            for start, step in ((x_at, x_step), (y_at, y_step))
        ]

        def step(index, sums):
            xs, ys = ([code.load(code.moved(p, index, one)) for p in row] for row in rows)
            products = [(a, b) for a in xs for b in ys]
            return [a.times_plus(b, s) for (a, b), s in zip(products, sums, strict=True)]

        totals = code.loop(count, [code.constant(0.0)] * PRODUCTS**2, step)
        while len(totals) > 1:  # halves are added up and filled with those of another
            half = len(totals) // 2
            totals = [a.pair_sums(b) for a, b in zip(totals[:half], totals[half:], strict=True)]
        code.store(code.load(sums_at) + totals[0], sums_at)
        return context.get_dummy_value()

    i = types.intp
    return types.void(x, i, i, y, i, i, i, sums, i), generate


@intrinsic
def add_up_lanes(_, count, vectors, out, at):
    """out[at + i] = the sum of the i-th vector's lanes, of `count`."""

    def generate(context, builder, signature, values):
        code, count = Code(context, builder, vectors.dtype), values[0]
        first = code.pointer(vectors, values[1], count.type(0))
        out_at = code.pointer(out, values[2], values[3])

        def step(index, sums):
            vector = code.load(code.moved(first, index, count.type(LANES)))
            builder.store(vector.total(), builder.gep(out_at, [index]))
            return sums

        code.loop(count, [], step)
        return context.get_dummy_value()

    return types.void(count, vectors, out, types.intp), generate
