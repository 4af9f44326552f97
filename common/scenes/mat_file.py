"""Reading one variable of a MATLAB file, version 5 or 7.3 (HDF5), in a struct or not."""

from pathlib import Path

import h5py
import numpy as np

from common.scenes import hdf5_objects
from common.scenes.mat_v5 import list_variables, read_variable
from common.scenes.stored_array import StoredArray
from common.scenes.variables import arrays, choose
from common.system.errors import InputError
from common.system.memory import check_fits


def open_mat(
    path: Path, variable: str | None = None, wavelengths: str | None = None
) -> StoredArray:
    """Open `variable`, with its axes in the order of the program that wrote it.

    A field of a struct is named like ``hsi.Data``.  Without a name, the file must hold exactly one
    array of numbers besides scalars and vectors.  Version 7.3 reads only the rows asked for;
    version 5 can only be read whole, here and now.  `wavelengths` names a vector.

    Raises
    ------
    InputError
        The file does not hold a numeric array of that name, or leaves open which is meant.
    """
    if h5py.is_hdf5(path):
        return _open_v73(path, variable, wavelengths)
    with open(path, "rb") as file:
        array = _read_v5(path, file, variable)
        centres = None if wavelengths is None else _read_v5(path, file, wavelengths).ravel()
    return StoredArray(array.shape, array.dtype, lambda slices: array[slices], centres)


def _read_v5(path: Path, file, variable: str | None) -> np.ndarray:
    variable = variable and variable.strip("/").replace("/", ".")  # as in version 7.3
    for with_fields in (False, True):  # of structs, which take time
        variables = {found.name: found for found in list_variables(file, with_fields)}
        shapes = {name: found.shape for name, found in variables.items()}
        if shapes.get(variable) or (variable is None and len(arrays(shapes)) == 1):
            break
    name = choose(path, variable, shapes, ".")
    cure = "; write it as .npy, ENVI or .mat of version 7.3, which are read by rows"
    check_fits(path, variables[name].shape, np.dtype(np.float64), cure)
    return read_variable(file, variables[name])


def _open_v73(path: Path, variable: str | None, wavelengths: str | None) -> StoredArray:
    with hdf5_objects.open_file(path) as file:
        name = _find_v73(path, file, variable)
        item = hdf5_objects.find_array(path, file, name)
        by_matlab = _by_matlab(item)
        centres = None
        if wavelengths is not None:
            vector = hdf5_objects.find_array(path, file, _find_v73(path, file, wavelengths))
            if vector.size > hdf5_objects.LONGEST_LIST:
                raise InputError(f"{path}: '{wavelengths}' is too long for a list of wavelengths")
            centres = vector[()].ravel()

        def read(slices: tuple[slice, ...]) -> np.ndarray:
            with hdf5_objects.open_file(path) as file:
                item = hdf5_objects.find_array(path, file, name)
                return item[slices[::-1]].transpose() if by_matlab else item[slices]

        shape = item.shape[::-1] if by_matlab else item.shape
        return StoredArray(shape, item.dtype, read, centres)


def _find_v73(path: Path, file: h5py.File, variable: str | None) -> str:
    shapes = hdf5_objects.array_shapes(file, _shape_v73)
    shapes = {name.replace("/", "."): shape for name, shape in shapes.items()}
    name = variable and variable.strip("/").replace("/", ".")
    return choose(path, name, shapes, ".").replace(".", "/")


def _by_matlab(item: h5py.Dataset) -> bool:
    """Whether the axes are reversed, for MATLAB stores columns first.

    It marks what it writes, be it the array or the struct around it, and begins a file with a block
    of its own.  Other programs that write HDF5 into a .mat file, such as h5py, store rows first.
    """
    marked = "MATLAB_class" in item.attrs or "MATLAB_class" in item.parent.attrs
    return marked or item.file.userblock_size > 0


def _shape_v73(item: object) -> tuple[int, ...] | None:
    """Return the shape as in the program that wrote it, or None of what is no array of numbers."""
    # MATLAB stores text as its character codes, an empty array as its sizes.
    if not hdf5_objects.is_numeric(item) or "MATLAB_empty" in item.attrs:
        return None
    if item.attrs.get("MATLAB_class") == b"char":
        return None
    return item.shape[::-1] if _by_matlab(item) else item.shape
