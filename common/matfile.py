"""Reading one variable of a MATLAB file, version 5 or 7.3 (HDF5)."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from common.errors import InputError


def read_mat(path: Path, variable: str) -> np.ndarray:
    """Return `variable` of the .mat file `path` with MATLAB's axes order.

    Raises
    ------
    InputError
        The file is not a .mat file, or does not hold a numeric array of that name.
    """
    try:
        array = _read_v73(path, variable) if h5py.is_hdf5(path) else _read_v5(path, variable)
    except InputError:
        raise
    except Exception as error:  # the parsers raise anything at all on a damaged file
        raise InputError(f"{path}: not a readable .mat file ({error})") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "buif":
        raise InputError(f"{path}: variable '{variable}' is not an array of numbers")
    return array


def _read_v5(path: Path, variable: str) -> np.ndarray:
    names = [name for name, _, _ in scipy.io.whosmat(path)]
    _check_name(path, variable, names)
    return scipy.io.loadmat(path, variable_names=[variable])[variable]


def _read_v73(path: Path, variable: str) -> np.ndarray | None:
    with h5py.File(path, "r") as file:
        _check_name(path, variable, [name for name in file if not name.startswith("#")])
        dataset = file[variable]
        # MATLAB stores columns first, so HDF5 shows every array with its axes reversed.
        return dataset[()].transpose() if isinstance(dataset, h5py.Dataset) else None


def _check_name(path: Path, variable: str, names: list[str]) -> None:
    if variable not in names:
        raise InputError(
            f"{path}: no variable '{variable}' in this file, which holds: {', '.join(names)}"
        )
