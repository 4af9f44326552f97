"""Reading one variable of a MATLAB file, version 5 or 7.3 (HDF5)."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from common.scenes.mat_v5 import list_variables, read_variable
from common.system.errors import InputError, damage_in_one_line
from common.system.memory import check_fits

LISTED = 20  # variables that a message names


def open_mat(
    path: Path, variable: str | None = None
) -> tuple[tuple[int, ...], np.dtype, Callable[[int, int], np.ndarray]]:
    """Return shape, dtype and ``read_rows(start, stop)`` of `variable`, axes in MATLAB's order.

    Without a name, the file must hold exactly one array of numbers besides scalars and vectors.
    Version 7.3 reads only the rows asked for; version 5 can only be read whole, here and now.

    Raises
    ------
    InputError
        The file is not a .mat file, does not hold a numeric array of that name, or leaves open
        which variable is meant.
    """
    with damage_in_one_line(path, ".mat file"):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                shapes = {name: _shape_v73(file, name) for name in file if name[:1] != "#"}
                name = _choose(path, variable, shapes)
                check_fits(path, file[name].chunks or (), file[name].dtype)
                return shapes[name], file[name].dtype, lambda *rows: _rows_v73(path, name, *rows)
        with open(path, "rb") as file:
            variables = {found.name: found for found in list_variables(file)}
            name = _choose(path, variable, {name: found.shape for name, found in variables.items()})
            check_fits(path, variables[name].shape, np.dtype(np.float64))
            array = read_variable(file, variables[name])
        return array.shape, array.dtype, lambda start, stop: array[start:stop]


def _shape_v73(file: h5py.File, name: str) -> tuple[int, ...] | None:
    """Return the shape in MATLAB, or None of what is no array of numbers in this very file."""
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        return None
    item = file[name]
    numeric = isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and item.ndim > 0
    if numeric and (item.is_virtual or item.external):
        return None
    # Text is stored as its character codes, an empty array as its sizes.
    if not numeric or item.attrs.get("MATLAB_class") == b"char" or "MATLAB_empty" in item.attrs:
        return None
    return item.shape[::-1]


def _rows_v73(path: Path, name: str, start: int, stop: int) -> np.ndarray:
    with h5py.File(path, "r") as file:
        # MATLAB stores columns first, so HDF5 shows every array with its axes reversed.
        return file[name][..., start:stop].transpose()


def _choose(path: Path, variable: str | None, shapes: dict[str, tuple[int, ...] | None]) -> str:
    """Return the variable to read; `shapes` has None for what is no array of numbers."""
    listed = ", ".join(
        f"{name[:99]} ({'×'.join(map(str, shape))})" if shape else name[:99]
        for name, shape in list(shapes.items())[:LISTED]
    )
    listed += ", …" if len(shapes) > LISTED else ""
    if variable is None:
        arrays = [name for name, shape in shapes.items() if shape and sum(n > 1 for n in shape) > 1]
        if len(arrays) != 1:
            raise InputError(f"{path}: say which variable to read; this file holds: {listed}")
        return arrays[0]
    if variable not in shapes:
        raise InputError(
            f"{path}: no variable '{variable}' in this file, which holds: {listed or 'none'}"
        )
    if shapes[variable] is None:
        raise InputError(f"{path}: variable '{variable}' is not an array of numbers")
    return variable
