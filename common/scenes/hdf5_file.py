"""HDF5 and NetCDF 4: arrays found by their path, read by hyperslabs, with what their file says.

Nothing but plain arrays in the file itself is read: a stranger's file may link to others, or claim
more than fits.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np

from common.scenes.stored_array import StoredArray, bands_marked_bad
from common.scenes.variables import Shapes, choose
from common.system.errors import InputError
from common.system.memory import check_fits

DEEPEST, MOST_OBJECTS = 8, 1000  # groups in groups, and objects that are looked at for a message
LONGEST_LIST = 1 << 16  # numbers of a list of wavelengths, or of an attribute
LARGEST_CHUNK = 64 << 20  # bytes, where the array itself is smaller
# Where a product's wavelengths stand, from the cube's group or the root, and beside them which
# bands are good: EMIT; NEON; CF and others; an attribute of the cube itself, as in Tanager's.
WAVELENGTHS = (
    "sensor_band_parameters/wavelengths",
    "Metadata/Spectral_Data/Wavelength",
    "wavelengths",
    "wavelength",
)
GOOD_BANDS = ("good_wavelengths", "good_bands", "bbl")
# NetCDF's own fill values, which are not stated where a program left the default.
NETCDF_FILL = {
    "i2": (-32_767.0,),
    "i4": (-2_147_483_647.0,),
    "f4": (9.969209968386869e36,),
    "f8": (9.969209968386869e36,),
}


def open_hdf5(
    path: Path, variable: str | None = None, wavelengths: str | None = None
) -> StoredArray:
    """Open an array of an HDF5 or NetCDF 4 file, with its fill values, scale and wavelengths.

    Without a name, the file must hold exactly one array of numbers of two dimensions or more.
    """
    if not h5py.is_hdf5(path):
        with open(path, "rb") as file:
            if file.read(3) == b"CDF":
                raise InputError(
                    f"{path}: NetCDF 3, of which only version 4 is read; convert it with: "
                    f"nccopy -k nc4 {path.name} {path.stem}_4.nc"
                )
    with open_file(path) as file:
        name = find_name(path, file, variable)
        item = find_array(path, file, name)
        shape, kept = item.shape, tuple(range(item.ndim))
        if item.ndim > 3:  # one time, or one tile, of several axes
            kept = tuple(axis for axis in kept if shape[axis] > 1)
        if len(kept) > 3:
            kept = tuple(range(item.ndim))
        sizes = [shape[axis] for axis in kept]
        centres, unit, good = _wavelengths(path, file, item, wavelengths, sizes)
        scale, offset = _scaling(file, item)
        return StoredArray(
            shape=tuple(sizes),
            dtype=item.dtype,
            read=lambda slices: read_slab(path, name, kept, slices),
            wavelengths=centres,
            wavelength_unit=unit,
            bad_bands=bands_marked_bad(() if good is None else good),
            nodata=_fill_values(path, file, item),
            scale=scale,
            offset=offset,
        )


def open_file(path: Path) -> h5py.File:
    """Open a file to read; file systems that know no locks are none of its concern."""
    return h5py.File(path, "r", locking=False)


def find_name(path: Path, file: h5py.File, variable: str | None) -> str:
    """Return the path of the array to read; see `common.scenes.variables.choose`."""
    name = variable and variable.strip("/")
    if name and isinstance(_item(file, name), h5py.Dataset):
        return name
    return choose(path, name, array_shapes(file), "/")


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
    item = _item(file, name)
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


def read_list(path: Path, file: h5py.File, name: str) -> tuple[np.ndarray, str]:
    """Return a list of numbers, an array or an attribute, by its path, and its unit."""
    found = _list(file, name)
    if found is None:
        raise InputError(
            f"{path}: no list of numbers '{name}' in this file; 'wavelengths: {{variable: …}}' "
            f"names an array of one dimension, or an attribute"
        )
    return found


def _hard(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return a member of a group, unless it is a link to another place."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    return group[name]


def _item(file: h5py.Group, name: str) -> h5py.Group | h5py.Dataset | None:
    """Return the object at a path, along which no link leads elsewhere."""
    item = file
    for part in filter(None, name.split("/")):
        item = _hard(item, part) if isinstance(item, h5py.Group) and part in item else None
    return item


def is_numeric(item: object) -> bool:
    """Whether an object of a file is an array of numbers."""
    return isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and item.ndim > 0


def _attribute(item: h5py.Group | h5py.Dataset, name: str) -> np.ndarray | str | None:
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


def _numbers(item: h5py.Group | h5py.Dataset, name: str) -> np.ndarray:
    """Return the numbers of an attribute, of which there may be none."""
    value = _attribute(item, name)
    return value if isinstance(value, np.ndarray) else np.empty(0)


def _list(file: h5py.Group, name: str) -> tuple[np.ndarray, str] | None:
    """Return a list of numbers and its unit; the last part of the path may be an attribute's."""
    item = _item(file, name)
    if is_numeric(item) and max(item.shape) == item.size <= LONGEST_LIST:
        if item.is_virtual or item.external or math.prod(item.chunks or ()) > LARGEST_CHUNK // 8:
            return None
        unit = next((_attribute(item, key) for key in ("units", "Units") if key in item.attrs), "")
        return item[()].ravel(), unit if isinstance(unit, str) else ""
    parent, _, last = name.strip("/").rpartition("/")
    holder = _item(file, parent)
    if holder is None or item is not None:
        return None
    values = _numbers(holder, last)
    return (values, "") if len(values) else None


def _wavelengths(
    path: Path, file: h5py.File, item: h5py.Dataset, named: str | None, sizes: list[int]
) -> tuple[np.ndarray | None, str, np.ndarray | None]:
    """Return band centres, their unit, and a list of good bands: what is named, or is usual."""
    if named is not None:
        values, unit = read_list(path, file, named)
        return values, unit, _good_bands(file, named, len(values))
    group = item.parent.name.strip("/")
    places = [f"{group}/{name}" for name in WAVELENGTHS] + list(WAVELENGTHS)
    places += [f"{item.name}/{name}" for name in ("wavelengths", "wavelength", "Wavelengths")]
    places += [
        f"List_Cw_{name}" for name in ("Vnir", "Swir") if name in item.name.title()
    ]  # PRISMA
    for place in places:
        found = _list(file, place)
        if found is not None and len(found[0]) in sizes and found[0].dtype.kind in "if":
            return *found, _good_bands(file, place, len(found[0]))
    return None, "", None


def _good_bands(file: h5py.File, wavelengths: str, count: int) -> np.ndarray | None:
    """Return the list of good bands that stands beside the wavelengths, if there is one."""
    parent = wavelengths.strip("/").rpartition("/")[0]
    for place in [*(f"{parent}/{name}" for name in GOOD_BANDS), f"{wavelengths}_Flags"]:
        found = _list(file, place)
        if found is not None and len(found[0]) == count:
            return found[0]
    return None


def _fill_values(path: Path, file: h5py.File, item: h5py.Dataset) -> tuple[float, ...]:
    """Return the values of no data that CF's and NEON's attributes state, else NetCDF's own."""
    names = ("_FillValue", "missing_value", "Data_Ignore_Value")
    stated = [float(value) for name in names for value in _numbers(item, name)]
    is_netcdf = path.suffix.lower() in (".nc", ".nc4") or "_NCProperties" in file.attrs
    if not stated and is_netcdf:
        stated = list(NETCDF_FILL.get(item.dtype.str[1:], ()))
    return tuple(dict.fromkeys(stated))


def _scaling(file: h5py.File, item: h5py.Dataset) -> tuple[float, float]:
    """Return scale and offset, by CF; by NEON, which states a divisor; or by PRISMA."""
    scale, offset = _numbers(item, "scale_factor"), _numbers(item, "add_offset")
    divisor = _numbers(item, "Scale_Factor")
    detector = _prisma_detector(item)
    ends = [_numbers(file, f"L2Scale{detector}{end}") for end in ("Min", "Max")]
    if not len(scale) and len(divisor) and divisor[0]:
        scale = 1 / divisor.astype(float)
    elif not len(scale) and len(ends[0]) and len(ends[1]) and item.dtype.str[1:] == "u2":
        scale, offset = (ends[1] - ends[0]).astype(float) / 65_535, ends[0]
    return float(scale[0]) if len(scale) else 1.0, float(offset[0]) if len(offset) else 0.0


def _prisma_detector(item: h5py.Dataset) -> str | None:
    """Return which detector's a cube of PRISMA is, as attributes of the file call it."""
    return next((name for name in ("Vnir", "Swir") if f"{name}_Cube" in item.name.title()), None)


def read_slab(
    path: Path, name: str, kept: tuple[int, ...], slices: tuple[slice, ...]
) -> np.ndarray:
    """Read a part of an array, one slice for each of the axes that are kept; others are single."""
    with open_file(path) as file:
        item = find_array(path, file, name)
        whole: list[slice | int] = [0] * item.ndim
        for axis, part in zip(kept, slices, strict=True):
            whole[axis] = part
        return item[tuple(whole)]
