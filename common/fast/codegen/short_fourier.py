"""Fourier transforms of 16 real vectors, and their transpose, in compiled code.

A convolution along the bands with 7 taps gives 10 bands from 16: transform both, multiply,
transform back.  With the products of complex numbers as three of real ones these are 23
multiplications instead of 70.  In the usual terms of fast convolutions (Winograd, "Arithmetic
Complexity of Computations", 1980) ``y = B' ((W w) * (A x))``, and every gradient is a transpose of
the same.  Here A is `transform`, its transpose is `transform_back`, B' is the latter's first 10
outputs with the slots in the order `PARTNERS`, and W is `weights_transform`.
"""

import functools
import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from common.fast.codegen.processor import REGISTER
from common.fast.codegen.vectors import LANES, Code, Vector

POINTS, TAPS = 16, 7
OUTPUTS = POINTS - TAPS + 1

# One slot per product of real numbers: frequencies 0 and 8 are real; each of the others, a + bi,
# has the slots a, b and a + b.
COMPLEX = POINTS // 2 - 1
SLOTS = 2 + 3 * COMPLEX
PARTNERS = np.array([0, 1] + [2 + 3 * k + slot for k in range(COMPLEX) for slot in (1, 0, 2)])


class _Program:
    """A linear function as steps, each a sum of multiples of inputs and earlier steps."""

    def __init__(self) -> None:
        self.inputs, self.steps = range(POINTS), []
        frequencies = self._transform(list(self.inputs))
        self.outputs = [frequencies[0][0], frequencies[-1][0]]
        for real, imaginary in frequencies[1:-1]:
            self.outputs += [real, imaginary, self._sum((1, real), (1, imaginary))]

    def _sum(self, *terms: tuple[float, int]) -> int:
        self.steps.append(terms)
        return POINTS + len(self.steps) - 1

    def _transform(self, x: list[int]) -> list[tuple[int, int | None]]:
        """Real and imaginary parts of the sums of x[n] exp(2 pi i k n / len(x)), k to the half."""
        if len(x) == 1:
            return [(x[0], None)]
        even, odd, half = self._transform(x[::2]), self._transform(x[1::2]), len(x) // 2
        result = [None] * (half + 1)
        for k, ((a, b), (c, d)) in enumerate(zip(even, odd, strict=True)):
            if k == 0:
                result[0], result[half] = ((self._sum((1, a), (s, c)), None) for s in (1, -1))
            elif k == half - k:
                result[k] = (a, c)
            else:
                cos, sin = (f(math.pi * k / half) for f in (math.cos, math.sin))
                c, d = self._sum((cos, c), (-sin, d)), self._sum((sin, c), (cos, d))
                result[k] = self._sum((1, a), (1, c)), self._sum((1, b), (1, d))
                result[half - k] = self._sum((1, a), (-1, c)), self._sum((1, d), (-1, b))
        return result

    def run(self, inputs: list[Vector]) -> list[Vector]:
        """Return the outputs; inputs that are missing at the end are zero."""
        values = [*inputs, *[None] * (POINTS - len(inputs))]
        for terms in self.steps:
            values.append(_total((factor, values[index]) for factor, index in terms))
        return [values[index] for index in self.outputs]

    def run_transposed(self, outputs: list[Vector]) -> list[Vector]:
        """Return what the transpose of the function makes of its outputs: all `POINTS`."""
        terms_of = [[] for _ in range(POINTS + len(self.steps))]
        for index, value in zip(self.outputs, outputs, strict=True):
            terms_of[index].append((1, value))
        for index in reversed(range(POINTS, len(terms_of))):
            value = _total(terms_of[index])
            for factor, source in self.steps[index - POINTS]:
                terms_of[source].append((factor, value))
        return [_total(terms) for terms in terms_of[:POINTS]]


def _total(terms) -> Vector | None:
    """The sum of factor * vector; None stands for zero."""
    total = None
    for factor, value in terms:
        if value is None:
            continue
        if total is None:
            total = value if factor == 1 else value.scaled(factor)
        elif abs(factor) == 1:
            total = total + value if factor == 1 else total - value
        else:
            total = value.times_plus(value.code.constant(factor), total)
    return total


_PROGRAM = _Program()
_NEXT = ir.IntType(64)(LANES)  # from one vector to the next


@functools.cache
def weights_transform(like: np.dtype) -> np.ndarray:
    """The matrix W (`SLOTS`, `TAPS`): what the slots are multiplied with, given the taps."""
    frequencies = np.fft.rfft(np.eye(TAPS), POINTS).T / POINTS
    rows = [frequencies[0].real, frequencies[-1].real]
    for f in 2 * frequencies[1:-1]:
        rows += [f.imag - f.real, -f.imag - f.real, f.real]
    return np.array(rows, like)


def _slots(code: Code, row, inputs: int) -> list[Vector]:
    """The slots of vectors that follow one another from a pointer on."""
    return _PROGRAM.run([code.load(code.moved(row, i, _NEXT)) for i in range(inputs)])


def transform(inputs: int, pairs: bool, halves: bool):
    """Make the transform of so many vectors; the rest of 16 are zero.

    Where the outputs are arrays of int32, two rows are transformed at once and rounded to bfloat16:
    to `pairs` of what both rows have in a lane, to `halves` which keep them apart, or to both.
    """

    @intrinsic
    def function(_, x, out, apart, apart_step):
        """Write the slots of 16 vectors, which follow one another from the `View` x on, to `out`.

        The step of `out` is from slot to slot.  In bfloat16 a slot holds the pairs of this row and
        the one a step of `x` further.  Halves go to `apart`, whose step is from slot to slot too,
        those of the second row an `apart_step` further.
        """

        def generate(context, builder, signature, values):
            in_pairs = out[0].dtype != x[0].dtype
            code = Code(context, builder, x[0].dtype, LANES if in_pairs else REGISTER)
            (x_at, step), (out_at, slot_step), (apart_at, apart_slot) = (
                code.view(signature.args[i], values[i]) for i in range(3)
            )
            if not in_pairs:
                for here, to in code.registers(x_at, out_at):
                    for i, slot in enumerate(_slots(code, here, inputs)):
                        code.store(slot, code.moved(to, i, slot_step))
                return context.get_dummy_value()
            rows = x_at, code.moved(x_at, 1, step)
            both = zip(*(_slots(code, row, inputs) for row in rows), strict=True)
            for i, (first, second) in enumerate(both):
                rounded = first.in_bfloat16(second)
                if pairs:
                    code.store(rounded.pairs(), code.moved(out_at, i, slot_step))
                if halves:
                    place = code.moved(apart_at, i, apart_slot)
                    for row, half in enumerate(rounded.halves()):
                        code.store(half, code.moved(place, row, values[3]))
            return context.get_dummy_value()

        return types.void(x, out, apart, types.intp), generate

    return function


def transform_back(outputs: int, added: int):
    """Make the transpose's first `outputs`, of which so many are added to what is there."""

    @intrinsic
    def function(_, slots, out):
        """Write the vectors that the slots of one `View` give to the other, one after another."""

        def generate(context, builder, signature, values):
            code = Code(context, builder, slots[0].dtype, REGISTER)
            (slots_at, slot_step), (out_at, step) = map(code.view, signature.args, values)
            for here, to in code.registers(slots_at, out_at):
                loaded = [code.load(code.moved(here, i, slot_step)) for i in range(SLOTS)]
                for i, vector in enumerate(_PROGRAM.run_transposed(loaded)[:outputs]):
                    place = code.moved(to, i, step)
                    code.store(code.load(place) + vector if i < added else vector, place)
            return context.get_dummy_value()

        return types.void(slots, out), generate

    return function
