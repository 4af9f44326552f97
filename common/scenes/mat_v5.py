"""MATLAB files of version 5: their variables listed, and one array of numbers read.

SciPy reads such files too, but a single wrong byte, where the type of an array's data is stated,
kills its process.  Terms are those of MathWorks' "MAT-File Level 5 File Format".
"""

import dataclasses
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
STRUCT_CLASS = 2
NUMBER_CLASSES = range(6, 16)  # double, single, int8, …, uint64
OPAQUE_CLASS = 17  # an object, whose name follows at once
COMPLEX = 0x08
LONGEST_NAME, MOST_DIMENSIONS = 4096, 32
DEEPEST, MOST_FIELDS = 8, 1024  # structs in structs, and fields of one
LARGEST_STRUCT = 1 << 31  # bytes, as version 5 allows for a variable


@dataclass(frozen=True)
class Variable:
    """A variable of a file, or a field of a struct, such as ``hsi.Data``.

    `start` is where the variable begins in the file, and `inside` where in it the field does, as
    the bytes between the variable's own beginning and its flags; 0 for the variable itself.
    `shape` is None where it is no array of numbers.
    """

    name: str
    start: int
    shape: tuple[int, ...] | None
    is_complex: bool
    inside: int = 0


class _Stream(Protocol):
    position: int  # bytes that have been read or skipped

    def read(self, size: int) -> bytes:
        """Return so many bytes, or fewer at the end."""

    def skip(self, size: int) -> None:
        """Go on by so many bytes."""


class _Plain:
    """The file itself, from where it is."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.position = file, 0

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        self.file.seek(size, os.SEEK_CUR)
        self.position += size


class _Inflated:
    """A compressed element of the file, decompressed no further than it is read."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left, self.zlib, self.position = file, size, zlib.decompressobj(), 0

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
        self.position += len(data)
        return data

    def skip(self, size: int) -> None:
        if self.position + size > LARGEST_STRUCT:
            raise ValueError("a struct of it is too large to look through")
        while size > 0:
            skipped = len(self.read(min(size, 16 * CHUNK)))
            if not skipped:
                raise ValueError("it ends too early")
            size -= skipped


def list_variables(file: BinaryIO, with_fields: bool = False) -> list[Variable]:
    """Return the file's variables in their order; ValueError where it is damaged.

    `with_fields` lists what is in structs instead of these, which takes as long as reading them.
    """
    order, size = _byte_order(file), os.fstat(file.fileno()).st_size
    found, start = [], HEADER
    while start < size:
        stream, end = _matrix(file, order, start)
        variable, is_struct = _variable(stream, order, start)
        if is_struct and with_fields:
            _add_fields(found, stream, order, variable)
        else:
            found.append(variable)
        start = end
    return [variable for variable in found if variable.name]  # else MATLAB's own workspace


def read_variable(file: BinaryIO, variable: Variable) -> np.ndarray:
    """Return an array of real numbers, with the axes and the type of number that are stored."""
    if variable.is_complex:
        raise ValueError(f"variable '{variable.name}' holds complex numbers")
    order = _byte_order(file)
    stream, _ = _matrix(file, order, variable.start)
    stream.skip(variable.inside)
    _variable(stream, order, variable.start)  # the data follow
    count = math.prod(variable.shape)
    kind, data = _element(stream, order, NUMBER_TYPES, 8 * count)
    dtype = np.dtype(order + NUMBER_TYPES[kind])
    if len(data) != count * dtype.itemsize:
        raise ValueError(f"the data of variable '{variable.name}' do not fill its size")
    whole = isinstance(stream, _Inflated) and not variable.inside
    if whole and (stream.read(1) or not stream.zlib.eof):
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
    stream: _Stream = _Plain(file)
    kind, size = _words(stream, order, 2)
    end = start + 8 + size
    if kind == COMPRESSED:
        stream = _Inflated(file, size)
        kind, _ = _words(stream, order, 2)
    if kind != MATRIX:
        raise ValueError(f"byte {start} begins no variable")
    stream.position = 0
    return stream, end


def _variable(stream: _Stream, order: str, start: int) -> tuple[Variable, bool]:
    """Read a variable's flags, sizes and name, and whether it is one struct.

    Its data, or the names of its fields, are next in the stream.
    """
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
    is_struct = kind == STRUCT_CLASS and math.prod(shape) == 1
    text = name.decode("utf-8", "replace")
    return Variable(text, start, shape if is_array else None, is_complex), is_struct


def _add_fields(
    found: list[Variable], stream: _Stream, order: str, struct: Variable, depth: int = 1
) -> None:
    """Append the fields of a struct, and of structs in it, from where their names begin."""
    _, length = _element(stream, order, SIZE_TYPES, 4)
    longest = int.from_bytes(length, "little" if order == "<" else "big")
    _, names = _element(stream, order, NAME_TYPES, MOST_FIELDS * LONGEST_NAME)
    if not 0 < longest <= LONGEST_NAME:
        raise ValueError("the names of a struct's fields are out of place")
    for first in range(0, len(names), longest):
        name = names[first : first + longest].split(b"\0")[0].decode("utf-8", "replace")
        kind, size = _words(stream, order, 2)
        inside = stream.position
        field, is_struct = Variable(f"{struct.name}.{name}", struct.start, None, False), False
        if kind != MATRIX or len(found) > MOST_FIELDS:
            raise ValueError(f"field '{field.name}' is out of place, or one of too many")
        if size:
            read, is_struct = _variable(stream, order, struct.start)
            field = dataclasses.replace(read, name=field.name, inside=inside)
        if is_struct and depth < DEEPEST:
            _add_fields(found, stream, order, field, depth + 1)
        else:
            found.append(field)
        if stream.position > inside + size:
            raise ValueError(f"field '{field.name}' is larger than it says")
        stream.skip(inside + size - stream.position)


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
