"""HDF5 and NetCDF 4: arrays found by their path, read by hyperslabs, with what their file says."""

from pathlib import Path

import h5py
import numpy as np

from common.scenes.hdf5_metadata import band_centres, fill_values, scaling, type_of, valid_range
from common.scenes.hdf5_objects import array_shapes, find_array, find_item, open_file
from common.scenes.stored_array import StoredArray
from common.scenes.variables import choose
from common.system.errors import InputError


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
        centres, unit, good = band_centres(path, file, item, wavelengths, sizes)
        scale, offset = scaling(file, item)
        valid, notes = valid_range(item, scale, offset), ()
        if valid is not None:
            ends = " to ".join(f"{end * scale + offset:g}" for end in valid)
            notes = (f"{path.name}: values beyond its valid range, {ends}, are no data",)
        return StoredArray(
            shape=tuple(sizes),
            dtype=type_of(item),
            read=lambda slices: read_slab(path, name, kept, slices),
            wavelengths=centres,
            wavelength_unit=unit,
            good_bands=good,
            nodata=fill_values(path, file, item),
            scale=scale,
            offset=offset,
            valid_range=valid,
            notes=notes,
        )


def find_name(path: Path, file: h5py.File, variable: str | None) -> str:
    """Return the path of the array to read; see `common.scenes.variables.choose`."""
    name = variable and variable.strip("/")
    if name and isinstance(find_item(file, name), h5py.Dataset):
        return name
    return choose(path, name, array_shapes(file), "/")


def read_slab(
    path: Path, name: str, kept: tuple[int, ...], slices: tuple[slice, ...]
) -> np.ndarray:
    """Read a part of an array, one slice for each of the axes that are kept; others are single."""
    with open_file(path) as file:
        item = find_array(path, file, name)
        whole: list[slice | int] = [0] * item.ndim
        for axis, part in zip(kept, slices, strict=True):
            whole[axis] = part
        return item[tuple(whole)].view(type_of(item))
