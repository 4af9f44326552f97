"""MATLAB files of version 5: their variables listed, and one array of numbers read.

SciPy reads such files too, but a single wrong byte, where the type of an array's data is stated,
kills its process.  Terms are those of MathWorks' "MAT-File Level 5 File Format".
"""

import math
import os
import zlib
from collections.abc import Container
from dataclasses import dataclass
from typing import BinaryIO, Protocol

import numpy as np

HEADER = 128  # bytes: text, version and byte order
CHUNK = 1 << 16  # compressed bytes taken from the file at a time
FLAG_TYPES, SIZE_TYPES, NAME_TYPES = (6,), (5, 6), (1, 16)
MATRIX, COMPRESSED = 14, 15
NUMBER_TYPES = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4"},
    **{7: "f4", 9: "f8", 12: "i8", 13: "u8"},
}
NUMBER_CLASSES = range(6, 16)  # double, single, int8, …, uint64
OPAQUE_CLASS = 17  # an object, whose name follows at once
COMPLEX = 0x08
LONGEST_NAME, MOST_DIMENSIONS = 4096, 32


@dataclass(frozen=True)
class Variable:
    """A variable of a file: where it begins, and its shape if it is an array of numbers."""

    name: str
    start: int
    shape: tuple[int, ...] | None
    is_complex: bool


class _Stream(Protocol):
    def read(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""


class _Inflated:
    """A compressed element of the file, decompressed no further than it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left, self.zlib = file, size, zlib.decompressobj()

    def read(self, size: int) -> bytearray:
        data = bytearray()
        while len(data) < size and not self.zlib.eof:
            compressed = self.zlib.unconsumed_tail
            if not compressed:
                compressed = self.file.read(min(CHUNK, self.left))
                self.left -= len(compressed)
            piece = self.zlib.decompress(compressed, size - len(data))
            if not (compressed or piece):
                break
            data += piece
        return data


def list_variables(file: BinaryIO) -> list[Variable]:
    """Return the file's variables in their order; ValueError where it is damaged."""
    order, size = _byte_order(file), os.fstat(file.fileno()).st_size
    found, start = [], HEADER
    while start < size:
        stream, end = _matrix(file, order, start)
        found.append(_variable(stream, order, start))
        start = end
    return [variable for variable in found if variable.name]  # else MATLAB's own workspace


def read_variable(file: BinaryIO, variable: Variable) -> np.ndarray:
    """Return an array of real numbers, with the axes and the type of number that are stored."""
    if variable.is_complex:
        raise ValueError(f"variable '{variable.name}' holds complex numbers")
    order = _byte_order(file)
    stream, _ = _matrix(file, order, variable.start)
    _variable(stream, order, variable.start)  # the data follow
    count = math.prod(variable.shape)
    kind, data = _element(stream, order, NUMBER_TYPES, 8 * count)
    dtype = np.dtype(order + NUMBER_TYPES[kind])
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"the data of variable '{variable.name}' do not fill its size")
    if isinstance(stream, _Inflated) and (stream.read(1) or not stream.zlib.eof):
        raise ValueError(f"variable '{variable.name}' does not end where it should")
    return np.frombuffer(data, dtype).reshape(variable.shape, order="F")


def _byte_order(file: BinaryIO) -> str:
    file.seek(0)
    mark = file.read(HEADER)[126:]
    if mark not in (b"IM", b"MI"):
        raise ValueError("it is of neither version 5 nor 7.3")
    return "<" if mark == b"IM" else ">"


def _matrix(file: BinaryIO, order: str, start: int) -> tuple[_Stream, int]:
    """Return a stream that is about to give a variable's flags, and where the variable ends."""
    file.seek(start)
    stream: _Stream = file
    kind, size = _words(file, order, 2)
    end = start + 8 + size
    if kind == COMPRESSED:
        stream = _Inflated(file, size)
        kind, _ = _words(stream, order, 2)
    if kind != MATRIX:
        raise ValueError(f"byte {start} begins no variable")
    return stream, end


def _variable(stream: _Stream, order: str, start: int) -> Variable:
    """Read a variable's flags, sizes and name; its data are next in the stream."""
    _, flags = _element(stream, order, FLAG_TYPES, 8)
    word = int.from_bytes(flags[:4], "little" if order == "<" else "big")
    kind, is_complex = word & 0xFF, bool(word >> 8 & COMPLEX)
    sizes = b""
    if kind != OPAQUE_CLASS:
        _, sizes = _element(stream, order, SIZE_TYPES, 4 * MOST_DIMENSIONS)
    _, name = _element(stream, order, NAME_TYPES, LONGEST_NAME)
    shape = tuple(np.frombuffer(sizes, f"{order}i4").tolist())
    if any(n < 0 for n in shape):
        raise ValueError("a variable's size is negative")
    is_array = kind in NUMBER_CLASSES and len(shape) > 1
    text = name.decode("utf-8", "replace")
    return Variable(text, start, shape if is_array else None, is_complex)


def _element(
    stream: _Stream, order: str, types: Container[int], largest: int
) -> tuple[int, bytearray]:
    """Read an element of one of some types and of so many bytes at most: its type and data."""
    (kind,) = _words(stream, order, 1)
    room = 4
    if size := kind >> 16:  # a small element: type and size share a word, data take the next
        kind &= 0xFFFF
    else:
        (size,) = _words(stream, order, 1)
        room = -(-size // 8) * 8
    if kind not in types or size > min(largest, room):
        raise ValueError(f"an element of type {kind} and {size} bytes is out of place")
    data = _exactly(stream, size)
    stream.read(room - size)
    return kind, data


def _words(stream: _Stream, order: str, count: int) -> list[int]:
    return np.frombuffer(_exactly(stream, 4 * count), f"{order}u4").tolist()


def _exactly(stream: _Stream, size: int) -> bytearray:
    data = bytearray(stream.read(size))
    if len(data) < size:
        raise ValueError("it ends too early")
    return data
