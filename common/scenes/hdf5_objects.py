"""What an HDF5 file holds: arrays and attributes by their paths, and nothing outside the file.

Nothing but plain arrays in the file itself is read: a stranger's file may link to others, or claim
more than fits.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from common.scenes.variables import Shapes
from common.system.errors import InputError
from common.system.memory import check_fits

DEEPEST, MOST_OBJECTS = 8, 1000  # groups in groups, and objects that are looked at for a message
LONGEST_LIST = 1 << 16  # numbers of a list of wavelengths, or of an attribute
LARGEST_CHUNK = 64 << 20  # bytes, where the array itself is smaller


def open_file(path: Path) -> h5py.File:
    """Open a file to read; file systems that know no locks are none of its concern."""
    return h5py.File(path, "r", locking=False)


def shape_of(item: object) -> tuple[int, ...] | None:
    """Return the shape of an object of a file, None if it is no array of numbers."""
    return item.shape if is_numeric(item) else None


def array_shapes(
    file: h5py.File, shape_of: Callable[[object], tuple[int, ...] | None] = shape_of
) -> Shapes:
    """Return paths of what the file holds, with what `shape_of` says of each.

    Of very many objects the first `MOST_OBJECTS` are listed.
    """

    def walk(group: h5py.Group, prefix: str, depth: int) -> Iterator[tuple[str, object]]:
        for name in group:
            if name[:1] == "#":  # where MATLAB keeps what cells refer to
                continue
            item = _hard(group, name)
            if isinstance(item, h5py.Group) and len(item) and depth < DEEPEST:
                yield from walk(item, f"{prefix}{name}/", depth + 1)
            else:
                yield f"{prefix}{name}", item

    return {n: shape_of(item) for n, item in itertools.islice(walk(file, "", 1), MOST_OBJECTS)}


def find_array(path: Path, file: h5py.File, name: str) -> h5py.Dataset:
    """Return the array of numbers at a path of this very file.

    Raises
    ------
    InputError
        There is none, it lies elsewhere, or it cannot be read within reason.
    """
    item = find_item(file, name)
    if not is_numeric(item):
        raise InputError(f"{path}: variable '{name}' is not an array of numbers")
    if item.is_virtual or item.external:
        raise InputError(f"{path}: variable '{name}' lies in other files, which are not opened")
    filters = item.id.get_create_plist()
    codes = [filters.get_filter(number) for number in range(filters.get_nfilters())]
    for code, _, _, text in codes:
        if not h5py.h5z.filter_avail(code):
            called = text.decode("utf-8", "replace") or "a filter"
            raise InputError(
                f"{path}: variable '{name}' is compressed with {called} (HDF5 filter {code}), "
                f"which is not there; write it with gzip: h5repack -f GZIP=4 {path.name} new.h5"
            )
    if len({code for code, *_ in codes}) < len(codes):
        raise InputError(f"{path}: variable '{name}' is compressed twice")
    check_fits(path, item.chunks or (), item.dtype)
    chunk = math.prod(item.chunks or ()) * item.dtype.itemsize
    if chunk > max(LARGEST_CHUNK, item.size * item.dtype.itemsize):
        raise InputError(f"{path}: variable '{name}' is stored in chunks larger than itself")
    return item


def _hard(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return a member of a group, unless it is a link to another place."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    return group[name]


def find_item(file: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return the object at a path, along which no link leads elsewhere."""
    item = file
    for part in filter(None, name.split("/")):
        item = _hard(item, part) if isinstance(item, h5py.Group) and part in item else None
    return item


def is_numeric(item: object) -> bool:
    """Whether an object of a file is an array of numbers."""
    return isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and item.ndim > 0


def attribute_of(item: h5py.Group | h5py.Dataset, name: str) -> np.ndarray | str | None:
    """Return an attribute that is text or a reasonable number of numbers, else None."""
    if name not in item.attrs:
        return None
    attribute = item.attrs.get_id(name)
    if math.prod(attribute.shape or ()) > LONGEST_LIST or attribute.get_storage_size() > 1 << 20:
        return None
    value = item.attrs[name]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    array = np.atleast_1d(value) if not isinstance(value, h5py.Empty) else np.empty(0)
    if array.dtype.kind in "SO" and array.size == 1 and isinstance(array.item(), bytes | str):
        text = array.item()
        return text if isinstance(text, str) else text.decode("utf-8", "replace")
    return array.ravel() if array.dtype.kind in "buif" else None


def numbers_of(item: h5py.Group | h5py.Dataset, name: str) -> np.ndarray:
    """Return the numbers of an attribute, of which there may be none."""
    value = attribute_of(item, name)
    return value if isinstance(value, np.ndarray) else np.empty(0)


def find_list(file: h5py.Group, name: str) -> tuple[np.ndarray, str] | None:
    """Return a list of numbers and its unit; the last part of the path may be an attribute's."""
    item = find_item(file, name)
    if is_numeric(item) and max(item.shape) == item.size <= LONGEST_LIST:
        if item.is_virtual or item.external or math.prod(item.chunks or ()) > LARGEST_CHUNK // 8:
            return None
        unit = next(
            (attribute_of(item, key) for key in ("units", "Units") if key in item.attrs), ""
        )
        return item[()].ravel(), unit if isinstance(unit, str) else ""
    parent, _, last = name.strip("/").rpartition("/")
    holder = find_item(file, parent)
    if holder is None or item is not None:
        return None
    values = numbers_of(holder, last)
    return (values, "") if len(values) else None
