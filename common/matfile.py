"""Reading one variable of a MATLAB file, version 5 or 7.3 (HDF5)."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import scipy.io

from common.errors import InputError, damage_in_one_line

KIND = ".mat file"
V5_NUMBERS = {"single", "double", "logical"}
V5_NUMBERS |= {"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}


def read_mat(path: Path, variable: str) -> np.ndarray:
    """Return `variable` of the .mat file `path` with MATLAB's axes order.

    Raises
    ------
    InputError
        The file is not a .mat file, or does not hold a numeric array of that name.
    """
    shape, _, read_rows = open_mat(path, variable)
    with damage_in_one_line(path, KIND):
        return read_rows(0, shape[0])


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
    with damage_in_one_line(path, KIND):
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                shapes = {name: _shape_v73(file[name]) for name in file if name[0] != "#"}
                name = _choose(path, variable, shapes)
                return shapes[name], file[name].dtype, lambda *rows: _rows_v73(path, name, *rows)
        shapes = {
            name: shape if kind in V5_NUMBERS else None
            for name, shape, kind in scipy.io.whosmat(path)
        }
        name = _choose(path, variable, shapes)
        array = scipy.io.loadmat(path, variable_names=[name])[name]
        if array.dtype.kind == "c":
            raise InputError(f"{path}: variable '{name}' is complex, not an array of real numbers")
        return array.shape, array.dtype, lambda start, stop: array[start:stop]


def _shape_v73(item: h5py.Dataset | h5py.Group) -> tuple[int, ...] | None:
    """Return the shape in MATLAB, or None of what is no array of numbers there."""
    numeric = isinstance(item, h5py.Dataset) and item.dtype.kind in "buif" and item.ndim > 0
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
        f"{name} ({'×'.join(map(str, shape))})" if shape else name for name, shape in shapes.items()
    )
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
