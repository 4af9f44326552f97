"""The loops that nearly all of the arithmetic is done in, and the sum of what the second gives.

Each keeps 24 vectors of sums in the processor's registers (6 without AVX-512, where a vector takes
two of 16 registers or more).  Where numbers lie is told by `View`s.
"""

from numba import types
from numba.extending import intrinsic

from common.fast.codegen.processor import AVX512
from common.fast.codegen.vectors import LANES, Code

PRODUCTS = 4  # rows of a product tile: its sums are the lanes of one vector
BLOCK = PRODUCTS if AVX512 else 2  # rows at a time: registers hold no more sums
OFFSETS, GRADIENT_CHANNELS = (6, 4) if AVX512 else (3, 2)


def output_tile(channels: int, bands: int):
    """Make the tile of so many channels and bands of a convolution's output."""

    @intrinsic
    def tile(_, x, offsets, weights, bias, out, band_step):
        """out[k, b] = bias[k] + the sum over i of x[offsets[i] + b] * weights[i, k].

        The step of `x` is from band to band, that of weights from one i to the next.  That of `out`
        is from channel to channel, `band_step` is from band to band there.
        """

        def generate(context, builder, signature, values):
            code, kinds = Code(context, builder, bias[0].dtype), signature.args
            (x_at, x_step), (weights_at, weights_step), (bias_at, _), (out_at, channel_step) = (
                code.view(kinds[i], values[i]) for i in (0, 2, 3, 4)
            )
            count = code.length(kinds[1], values[1])
            offsets_at = code.pointer(kinds[1], values[1], count.type(0))

            def step(index, sums):
                offset = builder.load(builder.gep(offsets_at, [index]))
                here = builder.gep(x_at, [offset])
                inputs = [code.load(code.moved(here, b, x_step)) for b in range(bands)]
                row = code.moved(weights_at, index, weights_step)
                factors = [code.repeated_at(row, k) for k in range(channels)]
                products = [(value, factor) for factor in factors for value in inputs]
                return [v.times_plus(f, s) for (v, f), s in zip(products, sums, strict=True)]

            initial = [code.repeated_at(bias_at, k) for k in range(channels) for _ in range(bands)]
            sums = code.loop(count, initial, step)
            for index, total in enumerate(sums):
                row = code.moved(out_at, index // bands, channel_step)
                code.store(total, code.moved(row, index % bands, values[5]))
            return context.get_dummy_value()

        return types.void(x, offsets, weights, bias, out, types.intp), generate

    return tile


@intrinsic
def gradient_tile(_, bands, x, offsets, gradient, sums):
    """sums[i, k] += the sum over b of x[offsets[i] + b] * gradient[k, b], of so many bands.

    The step of `x` is from band to band, that of `gradient`, whose bands follow one another, from
    channel to channel.
    """

    def generate(context, builder, signature, values):
        code, kinds, bands = Code(context, builder, sums[0].dtype), signature.args, values[0]
        (x_at, x_step), (offsets_at, _), (gradient_at, channel_step), (sums_at, _) = (
            code.view(kinds[i], values[i]) for i in range(1, 5)
        )
        one = bands.type(1)
        offsets_ = [builder.load(code.moved(offsets_at, i, one)) for i in range(OFFSETS)]
        inputs_at = [builder.gep(x_at, [offset]) for offset in offsets_]
        rows_at = [code.moved(gradient_at, k, channel_step) for k in range(GRADIENT_CHANNELS)]
        places = [
            code.moved(sums_at, i, one.type(LANES)) for i in range(OFFSETS * GRADIENT_CHANNELS)
        ]

        def step(band, sums):
            inputs = [code.load(code.moved(p, band, x_step)) for p in inputs_at]
            gradients = [code.load(code.moved(p, band, one.type(LANES))) for p in rows_at]
            products = [(value, g) for value in inputs for g in gradients]
            return [v.times_plus(g, s) for (v, g), s in zip(products, sums, strict=True)]

        totals = code.loop(bands, [code.load(p) for p in places], step)
        for place, total in zip(places, totals, strict=True):
            code.store(total, place)
        return context.get_dummy_value()

    return types.void(types.intp, x, offsets, gradient, sums), generate


@intrinsic
def product_tile(_, count, x, y, sums):
    """sums[4 i + j] += the sum over vectors and lanes of x[i] * y[j], for i and j below 4.

    A row of x, or y, is `count` vectors, and its next one begins a step further.
    """

    def generate(context, builder, signature, values):
        code, kinds, count = Code(context, builder, sums[0].dtype), signature.args, values[0]
        views = [code.view(kinds[i], values[i]) for i in range(1, 4)]
        one, sums_at = count.type(LANES), views[2][0]
        rows = [[code.moved(start, i, step) for i in range(PRODUCTS)] for start, step in views[:2]]

        def block(of_x, of_y):
            def step(index, sums):
                xs, ys = (
                    [code.load(code.moved(p, index, one)) for p in row] for row in (of_x, of_y)
                )
                products = [(a, b) for a in xs for b in ys]
                return [a.times_plus(b, s) for (a, b), s in zip(products, sums, strict=True)]

            return code.loop(count, [code.constant(0.0)] * len(of_x) * len(of_y), step)

        blocks = range(0, PRODUCTS, BLOCK)
        found = {
            (i + n // BLOCK, j + n % BLOCK): total
            for i in blocks
            for j in blocks
            for n, total in enumerate(block(rows[0][i : i + BLOCK], rows[1][j : j + BLOCK]))
        }
        totals = [found[i, j] for i in range(PRODUCTS) for j in range(PRODUCTS)]
        while len(totals) > 1:  # halves are added up and filled with those of another
            half = len(totals) // 2
            totals = [a.pair_sums(b) for a, b in zip(totals[:half], totals[half:], strict=True)]
        code.store(code.load(sums_at) + totals[0], sums_at)
        return context.get_dummy_value()

    return types.void(types.intp, x, y, sums), generate


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
