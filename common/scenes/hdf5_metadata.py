"""What an HDF5 or NetCDF 4 file says of an array: wavelengths, good bands, no data, scale.

By the CF conventions, NetCDF's own, and those of EMIT, NEON, PRISMA and Tanager.
"""

import math
from pathlib import Path

import h5py
import numpy as np

from common.scenes.hdf5_objects import attribute_of, find_list, numbers_of
from common.system.errors import InputError

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


def read_list(path: Path, file: h5py.File, name: str) -> tuple[np.ndarray, str]:
    """Return a list of numbers, an array or an attribute, by its path, and its unit."""
    found = find_list(file, name)
    if found is None:
        raise InputError(
            f"{path}: no list of numbers '{name}' in this file; 'wavelengths: {{variable: …}}' "
            f"names an array of one dimension, or an attribute"
        )
    return found


def band_centres(
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
        found = find_list(file, place)
        if found is not None and len(found[0]) in sizes and found[0].dtype.kind in "if":
            return *found, _good_bands(file, place, len(found[0]))
    return None, "", None


def _good_bands(file: h5py.File, wavelengths: str, count: int) -> np.ndarray | None:
    """Return the list of good bands that stands beside the wavelengths, if there is one."""
    parent = wavelengths.strip("/").rpartition("/")[0]
    for place in [*(f"{parent}/{name}" for name in GOOD_BANDS), f"{wavelengths}_Flags"]:
        found = find_list(file, place)
        if found is not None and len(found[0]) == count:
            return found[0]
    return None


def type_of(item: h5py.Dataset) -> np.dtype:
    """Return the type of an array's numbers: as stored, or with or without a sign by `_Unsigned`.

    That is how NetCDF has numbers without a sign in a type that has one.
    """
    kind = {"true": "u", "false": "i"}.get(str(attribute_of(item, "_Unsigned")).lower())
    if kind is None or item.dtype.kind not in "iu":
        return item.dtype
    return np.dtype(f"{item.dtype.byteorder}{kind}{item.dtype.itemsize}")


def fill_values(path: Path, file: h5py.File, item: h5py.Dataset) -> tuple[float, ...]:
    """Return the values of no data that CF's and NEON's attributes state, else NetCDF's own."""
    names = ("_FillValue", "missing_value", "Data_Ignore_Value")
    stated = [value for name in names for value in _in_its_type(item, numbers_of(item, name))]
    is_netcdf = path.suffix.lower() in (".nc", ".nc4") or "_NCProperties" in file.attrs
    if not stated and is_netcdf:
        stated = _in_its_type(item, np.array(NETCDF_FILL.get(item.dtype.str[1:], ())))
    return tuple(dict.fromkeys(stated))


def valid_range(item: h5py.Dataset, scale: float, offset: float) -> tuple[float, float] | None:
    """Return the smallest and the largest stored value that is data, by `valid_range` and its like.

    Floats that an array of whole numbers with a scale has there mean what is measured (NetCDF
    User's Guide, Attribute Conventions).  None where nothing is stated, or nonsense.
    """
    both = numbers_of(item, "valid_range")
    low, high = both[:1], both[1:]
    if len(both) != 2:
        low, high = (numbers_of(item, name) for name in ("valid_min", "valid_max"))
    ends = [-math.inf, math.inf]
    for number, stated in enumerate((low, high)):
        if len(stated) != 1:
            continue
        (ends[number],) = _in_its_type(item, stated)
        if stated.dtype.kind == "f" and item.dtype.kind in "iu":
            ends[number] = (float(stated[0]) - offset) / (scale or math.nan)
    smallest, largest = ends
    return (smallest, largest) if smallest < largest and ends != [-math.inf, math.inf] else None


def _in_its_type(item: h5py.Dataset, values: np.ndarray) -> list[float]:
    """Return numbers that an attribute states in the type that an array is stored in."""
    if type_of(item) != item.dtype:
        values = values.astype(np.int64).astype(type_of(item))
    return [float(value) for value in values]


def scaling(file: h5py.File, item: h5py.Dataset) -> tuple[float, float]:
    """Return scale and offset, by CF; by NEON, which states a divisor; or by PRISMA."""
    scale, offset = numbers_of(item, "scale_factor"), numbers_of(item, "add_offset")
    divisor = numbers_of(item, "Scale_Factor")
    detector = _prisma_detector(item)
    ends = [numbers_of(file, f"L2Scale{detector}{end}") for end in ("Min", "Max")]
    if not len(scale) and len(divisor) and divisor[0]:
        scale = 1 / divisor.astype(float)
    elif not len(scale) and len(ends[0]) and len(ends[1]) and item.dtype.str[1:] == "u2":
        scale, offset = (ends[1] - ends[0]).astype(float) / 65_535, ends[0]
    return float(scale[0]) if len(scale) else 1.0, float(offset[0]) if len(offset) else 0.0


def _prisma_detector(item: h5py.Dataset) -> str | None:
    """Return which detector's a cube of PRISMA is, as attributes of the file call it."""
    return next((name for name in ("Vnir", "Swir") if f"{name}_Cube" in item.name.title()), None)
