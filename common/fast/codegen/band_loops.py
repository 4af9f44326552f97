"""Loops over the bands of feature maps, each made from a line of arithmetic on vectors."""

from collections.abc import Callable, Iterable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from common.fast.codegen.vectors import Code, Vector


def along_bands(
    body: Callable[..., Iterable[Vector]],
    inputs: int,
    lanes: int = 0,
    numbers: int = 0,
    outputs: int = 0,
    sums: int = 0,
):
    """Make a function for compiled code that applies `body` band by band.

    It is called as ``f(count, *inputs, *lanes, *numbers, *outputs, *sums)``: `count` bands; inputs
    and outputs are `View`s whose step is from one band to the next; of lanes, the same 16 numbers
    in every band, and of sums, to which is added, they name the vector.  `body` gets vectors of
    inputs, lanes and numbers, and returns those of outputs and sums.
    """

    @intrinsic
    def function(_, count, *arguments):
        def generate(context, builder, signature, values):
            code, packed = Code(context, builder, arguments[0][0].dtype), values[1]
            left = [(kind, builder.extract_value(packed, i)) for i, kind in enumerate(arguments)]

            def views(count):
                return [code.view(*left.pop(0)) for _ in range(count)]

            in_rows = views(inputs)
            constant = [code.load(pointer) for pointer, _ in views(lanes)]
            constant += [code.repeated(left.pop(0)[1]) for _ in range(numbers)]
            out_rows, places = views(outputs), [pointer for pointer, _ in views(sums)]

            def step(band, totals):
                vectors = [code.load(code.moved(p, band, by)) for p, by in in_rows]
                results = list(body(*vectors, *constant))
                for (place, by), result in zip(out_rows, results, strict=False):
                    code.store(result, code.moved(place, band, by))
                return [t + r for t, r in zip(totals, results[outputs:], strict=True)]

            totals = code.loop(values[0], [code.load(p) for p in places], step)
            for place, total in zip(places, totals, strict=True):
                code.store(total, place)
            return context.get_dummy_value()

        return types.void(count, types.BaseTuple.from_types(arguments)), generate

    return function


@intrinsic
def fetch(_, array, at, count):
    """Ask for `count` times 64 bytes, from the element `at` on, to be brought to the cache."""

    def generate(context, builder, signature, values):
        code, kinds = Code(context, builder, array.dtype), signature.args
        start, count = code.pointer(kinds[0], values[0], values[1]), values[2]
        step = count.type(64 // (array.dtype.bitwidth // 8))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, number, number, number]),
            "llvm.prefetch.p0i8",
        )

        def ask(index, sums):
            place = builder.bitcast(code.moved(start, index, step), byte)
            builder.call(prefetch, [place, number(0), number(2), number(1)])
            return sums

        code.loop(count, [], ask)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp), generate
