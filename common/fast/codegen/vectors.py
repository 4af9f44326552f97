"""Vectors of 16 numbers, for code that Numba compiles.

Left to itself LLVM turns few of the loops over feature maps into good vector code.  So the
innermost ones are made of its vector operations, and compiled for the processor at hand.  Nothing
is reordered when they are compiled or read from a cache.

Arrays of uint16 hold bfloat16 numbers, given as their bits; they are widened to float32 when read
and rounded to the nearest when written.  Where the processor multiplies bfloat16 numbers, it does
so in pairs: arrays of int32 hold two of them in each of their numbers.  Elsewhere the same is
made of other operations, far too slow for training, so that it can be tested everywhere.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from common.fast.codegen.processor import BFLOAT16

LANES = 16


class View(NamedTuple):
    """Where compiled code finds vectors, or numbers, in an array of any shape, seen as flat.

    The first begins at the element `at`, each other one a `step` further.  Step 0 stands where
    there is one only.
    """

    array: np.ndarray
    at: int
    step: int


class _BFloat16(ir.Type):
    """LLVM's type, which llvmlite does not know."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


def _vector(number, count: int = LANES) -> ir.VectorType:
    return ir.VectorType(number, count)


_WORD, _HALF = ir.IntType(32), ir.IntType(16)
_BITS = _vector(_HALF)


class Vector:
    """16 numbers, as LLVM knows them while the code is made; operators add to the code."""

    def __init__(self, code: "Code", value) -> None:
        self.code, self.value = code, value

    def __add__(self, other: "Vector") -> "Vector":
        return Vector(self.code, self.code.builder.fadd(self.value, other.value))

    def __sub__(self, other: "Vector") -> "Vector":
        return Vector(self.code, self.code.builder.fsub(self.value, other.value))

    def __mul__(self, other: "Vector") -> "Vector":
        return Vector(self.code, self.code.builder.fmul(self.value, other.value))

    def scaled(self, factor: float) -> "Vector":
        """Self * factor."""
        return self * self.code.constant(factor)

    def at_least(self, floor: "Vector") -> "Vector":
        """max(self, floor), as a ReLU; not a number stays what it is."""
        builder = self.code.builder
        below = builder.fcmp_ordered("<", self.value, floor.value)
        return Vector(self.code, builder.select(below, floor.value, self.value))

    def where_above(self, value: "Vector", limit: "Vector") -> "Vector":
        """Self where value > limit, or one of them is not a number, else zero."""
        builder = self.code.builder
        above = builder.fcmp_unordered(">", value.value, limit.value)
        return Vector(self.code, builder.select(above, self.value, self.code.type(None)))

    def times_plus(self, factor: "Vector", summand: "Vector") -> "Vector":
        """Self * factor + summand, rounded once; of pairs, both products are added."""
        if self.value.type != summand.value.type:
            return self.code.pair_products(self, factor, summand)
        operands = [self.value, factor.value, summand.value]
        name = f"fma.v{self.code.lanes}f{self.code.bits}"
        return Vector(self.code, self.code.call(name, *operands))

    def in_bfloat16(self, other: "Vector") -> "Vector":
        """Self and other rounded to bfloat16, to be stored as `pairs` or `halves`."""
        return Vector(self.code, self.code.rounded(other.value, self.value))

    def pairs(self) -> "Vector":
        """Of two vectors in bfloat16, what lane i of both holds as number i of an int32 array."""
        order = [i // 2 + LANES * (i % 2) for i in range(2 * LANES)]
        shuffled = self.code.builder.shuffle_vector(self.value, self.value, _order(order))
        return self.code.seen_as(shuffled, _WORD, LANES)

    def firsts(self, other: "Vector") -> "Vector":
        """Of pairs, the first numbers of self and other in each lane as a pair."""
        low, half = self.code.constant(0xFFFF), self.code.constant(16)
        return (self & low) | Vector(self.code, self.code.builder.shl(other.value, half.value))

    def seconds(self, other: "Vector") -> "Vector":
        """Of pairs, the second numbers of self and other in each lane as a pair."""
        high, half = self.code.constant(0xFFFF0000), self.code.constant(16)
        return Vector(self.code, self.code.builder.lshr(self.value, half.value)) | (other & high)

    def zero(self) -> "Vector":
        """A vector of zeros like this one."""
        return Vector(self.code, self.value.type(None))

    def __and__(self, other: "Vector") -> "Vector":
        return Vector(self.code, self.code.builder.and_(self.value, other.value))

    def __or__(self, other: "Vector") -> "Vector":
        return Vector(self.code, self.code.builder.or_(self.value, other.value))

    def halves(self) -> tuple["Vector", "Vector"]:
        """Two vectors in bfloat16, neighbouring lanes being pairs: 8 numbers of an int32 array."""
        return tuple(
            self.code.seen_as(
                self.code.builder.shuffle_vector(self.value, self.value, _order(lanes)),
                _WORD,
                LANES // 2,
            )
            for lanes in (range(LANES), range(LANES, 2 * LANES))
        )

    def pair_sums(self, other: "Vector") -> "Vector":
        """Sums of lanes i and i + 8, of self in the even places and of other in the odd ones."""
        builder, half = self.code.builder, LANES // 2
        halves = ([i // 2 + first + LANES * (i % 2) for i in range(LANES)] for first in (0, half))
        return Vector(
            self.code,
            builder.fadd(
                *(builder.shuffle_vector(self.value, other.value, _order(h)) for h in halves)
            ),
        )

    def total(self):
        """The sum of the lanes: pairs far apart first."""
        builder, value, half = self.code.builder, self.value, LANES // 2
        while half:
            order = [(i + half) % LANES for i in range(LANES)]
            value = builder.fadd(value, builder.shuffle_vector(value, value, _order(order)))
            half //= 2
        return builder.extract_element(value, _WORD(0))


class Code:
    """LLVM code under construction for vectors of one type of number, or of fewer than 16."""

    def __init__(self, context, builder, number, lanes: int = LANES) -> None:
        self.context, self.builder, self.lanes = context, builder, lanes
        number = types.float32 if number == types.uint16 else number
        self.type = _vector(context.get_value_type(number), lanes)
        self.bits = number.bitwidth

    def pointer(self, array_type, array, at):
        """Pointer to the element `at` of an array, seen as flat."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [at])

    def view(self, kind, view):
        """Pointer to the first vector of a `View` of that type, and the step to the next."""
        array, at, step = (self.builder.extract_value(view, i) for i in range(len(View._fields)))
        return self.pointer(kind[0], array, at), step

    def length(self, array_type, array):
        """Length of an array of one dimension."""
        shape = self.context.make_array(array_type)(self.context, self.builder, array).shape
        return self.builder.extract_value(shape, 0)

    def moved(self, pointer, count, step):
        """The pointer, `count` times `step` elements further."""
        count = step.type(count) if isinstance(count, int) else count
        return self.builder.gep(pointer, [self.builder.mul(count, step)])

    def registers(self, *pointers) -> Iterator[list]:
        """The pointers to 16 lanes, again and again for each part that this code's vectors hold.

        A long calculation in parts keeps what is at work in the registers.
        """
        for first in range(0, LANES, self.lanes):
            yield [self.builder.gep(pointer, [ir.IntType(64)(first)]) for pointer in pointers]

    def load(self, pointer) -> Vector:
        kind, builder = _vector(pointer.type.pointee, self.lanes), self.builder
        value = builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)
        if kind == _BITS:
            wide = builder.shl(builder.zext(value, _vector(_WORD)), _vector(_WORD)([16] * LANES))
            return self.seen_as(wide, ir.FloatType(), LANES)
        return Vector(self, value)

    def store(self, vector: Vector, pointer) -> None:
        value, builder = vector.value, self.builder
        if pointer.type.pointee == _HALF:
            value = self.rounded_alone(value)
        pointer = builder.bitcast(pointer, value.type.as_pointer())
        builder.store(value, pointer, align=4)

    def repeated(self, number) -> Vector:
        """A vector that holds one number in all lanes."""
        undefined, first = _vector(number.type)(ir.Undefined), _WORD(0)
        one = self.builder.insert_element(undefined, number, first)
        return Vector(self, self.builder.shuffle_vector(one, undefined, _order([0] * LANES)))

    def constant(self, number: float) -> Vector:
        """A vector that holds one number, known already, in all lanes."""
        return Vector(self, self.type([number] * self.lanes))

    def repeated_at(self, pointer, index: int) -> Vector:
        """A vector of the number `index` elements further."""
        return self.repeated(self.builder.load(self.builder.gep(pointer, [ir.IntType(64)(index)])))

    def pair_products(self, x: Vector, y: Vector, summand: Vector) -> Vector:
        """Per lane, both products of the pairs in x and y, added to the summand."""
        if BFLOAT16:
            pairs = (self.builder.bitcast(v.value, _vector(_BFloat16(), 2 * LANES)) for v in (x, y))
            return Vector(self, self.call("x86.avx512bf16.dpbf16ps.512", summand.value, *pairs))
        for one, other in zip(self.widened_pairs(x), self.widened_pairs(y), strict=True):
            summand = one.times_plus(other, summand)
        return summand

    def widened_pairs(self, x: Vector) -> list[Vector]:
        """The second and the first numbers of pairs in float32."""
        builder, words = self.builder, _vector(_WORD)
        seconds = builder.and_(x.value, words([-(2**16)] * LANES))
        firsts = builder.shl(x.value, words([16] * LANES))
        return [self.seen_as(half, ir.FloatType(), LANES) for half in (seconds, firsts)]

    def rounded(self, high, low):
        """Two vectors of float32 rounded to bfloat16, `low` first."""
        if BFLOAT16:
            kind, name = _vector(_BFloat16(), 2 * LANES), "x86.avx512bf16.cvtne2ps2bf16.512"
            value = self.call(name, high, low, result=kind)
            return self.builder.bitcast(value, _vector(_HALF, 2 * LANES))
        low, high = self.rounded_alone(low), self.rounded_alone(high)
        return self.builder.shuffle_vector(low, high, _order(range(2 * LANES)))

    def rounded_alone(self, value):
        """A vector of float32 rounded to bfloat16."""
        builder, words = self.builder, _vector(_WORD)
        if BFLOAT16:
            name, kind = "x86.avx512bf16.cvtneps2bf16.512", _vector(_BFloat16())
            return builder.bitcast(self.call(name, value, result=kind), _BITS)

        def constant(number: int):
            return words([number] * LANES)

        bits = builder.bitcast(value, words)
        odd = builder.and_(builder.lshr(bits, constant(16)), constant(1))
        bits = builder.add(bits, builder.add(odd, constant(0x7FFF)))
        not_a_number = builder.fcmp_unordered("uno", value, value)
        bits = builder.select(not_a_number, constant(0x7FC00000), bits)
        return builder.trunc(builder.lshr(bits, constant(16)), _BITS)

    def seen_as(self, value, number, count: int) -> Vector:
        """The same bits as so many numbers of another type."""
        return Vector(self, self.builder.bitcast(value, _vector(number, count)))

    def call(self, name: str, *operands, result: ir.Type | None = None):
        """Call one of LLVM's functions; `result` is its type, if not that of the first operand."""
        result = result or operands[0].type
        kind = ir.FunctionType(result, [operand.type for operand in operands])
        function = cgutils.get_or_insert_function(self.builder.module, kind, f"llvm.{name}")
        return self.builder.call(function, operands)

    def loop(self, count, sums: list[Vector], step: Callable) -> list[Vector]:
        """Loop `count` times, once at least: `step(index, sums)` returns the new sums."""
        builder, before = self.builder, self.builder.block
        body, after = (builder.append_basic_block() for _ in range(2))
        builder.branch(body)
        builder.position_at_end(body)
        initial = [count.type(0), *(total.value for total in sums)]
        carried = [builder.phi(value.type) for value in initial]
        totals = step(carried[0], [Vector(self, phi) for phi in carried[1:]])
        following = [builder.add(carried[0], count.type(1)), *(total.value for total in totals)]
        for phi, first, later in zip(carried, initial, following, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(later, body)
        builder.cbranch(builder.icmp_signed("<", following[0], count), body, after)
        builder.position_at_end(after)
        return totals


def _order(lanes: Iterable[int]):
    """The mask of a shuffle."""
    lanes = list(lanes)
    return _vector(_WORD, len(lanes))(lanes)
