"""Reading a cube or a label map from a file: .mat, .npy, ENVI, GeoTIFF, HDF5, whole or by rows."""

import dataclasses
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.scenes.georeference import Georeference
from common.scenes.nodata import NoData, beyond, is_nodata, values_of
from common.scenes.stored_array import StoredArray
from common.scenes.wavelengths import in_nanometres
from common.system.errors import InputError, damage_in_one_line
from common.system.files import check_is_file
from common.system.memory import check_fits

SUPPORTED = (
    ".mat, .npy, .tif and .tiff (GeoTIFF), .h5, .hdf5, .he5 and .nc (HDF5, NetCDF 4), .hdr (ENVI) "
    "or an ENVI data file with its .hdr beside it"
)
HDF5 = (".h5", ".hdf5", ".he5", ".nc", ".nc4")
AXES = ("rows", "cols", "bands")
VALUES_PER_BLOCK = 1 << 20  # that are scaled at a time


@dataclass(frozen=True)
class ArrayFile:
    """An opened file of numbers, of which nothing is read yet where the format allows.

    Attributes
    ----------
    path : Path
        The file the user named.
    shape : tuple of int
        (rows, cols, bands), or (rows, cols): whatever has a single band is a map, not a cube.
    dtype : dtype
        As stored, in this machine's byte order; see `measured` for scaled values.
    wavelengths : tuple of float or None
        Band centres in nm, where the file states them.
    wavelengths_unused : str
        Why those that the file states are not used; empty if they are, or if there are none.
    nodata : float, tuple of float or None
        The value of pixels without data, or several, where the file states it; may be NaN.
    georeference : Georeference or None
        Where the scene lies, if the file states it.
    bad_bands : tuple of int
        Bands that the file marks bad, 0-based.
    scale, offset : float64 array (bands,) or (1,), or None
        What is measured is ``stored * scale + offset``; None where that is what is stored.
    valid_range : tuple of float or None
        The smallest and the largest stored value that are data, where the file states them.
    mask : callable or None
        ``mask(start, stop)`` tells which pixels of these rows hold data, bool (rows, cols).
    notes : tuple of str
        What to tell the user about the file.
    read_rows : callable
        ``read_rows(start, stop)`` returns a new C-contiguous array of the rows start..stop-1;
        only .mat files of version 5 are read whole for it, when they are opened.
        It raises InputError where the file turns out to be damaged.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    read_rows: Callable[[int, int], np.ndarray]
    wavelengths: tuple[float, ...] | None = None
    wavelengths_unused: str = ""
    nodata: NoData = None
    georeference: Georeference | None = None
    bad_bands: tuple[int, ...] = ()
    scale: np.ndarray | None = None
    offset: np.ndarray | None = None
    valid_range: tuple[float, float] | None = None
    mask: Callable[[int, int], np.ndarray] | None = None
    notes: tuple[str, ...] = ()

    def read(self) -> np.ndarray:
        """Return the whole array, of `shape` and `dtype`."""
        return self.read_rows(0, self.shape[0])


def open_array(
    path: Path,
    variable: str | None = None,
    axes: tuple[str, ...] | None = None,
    wavelengths: str | None = None,
) -> ArrayFile:
    """Open a cube or a label map.

    Parameters
    ----------
    variable : str, optional
        Which array of a .mat, HDF5 or NetCDF file with several.
    axes : tuple of str, optional
        The order of a cube's axes in the file, a permutation of `AXES`.
    wavelengths : str, optional
        The array of a .mat, HDF5 or NetCDF file that holds the band centres.

    Raises
    ------
    InputError
        In one line: no such file, an unknown or damaged one, not an array of real numbers of
        two or three dimensions, or a `variable`, `axes` or `wavelengths` that do not fit.
    """
    suffix = path.suffix.lower()
    check_is_file(path)
    named = next((name for name in (variable, wavelengths) if name is not None), None)
    if named is not None and suffix not in (".mat", *HDF5):
        raise InputError(
            f"{path}: only .mat, HDF5 and NetCDF files have variables; leave out '{named}'"
        )
    if suffix == ".mat":
        from common.scenes.mat_file import open_mat as opener

        kind, options = ".mat file", (variable, wavelengths)
    elif suffix in HDF5:
        from common.scenes.hdf5_file import open_hdf5 as opener

        kind = "NetCDF 4 file" if suffix in (".nc", ".nc4") else "HDF5 file"
        options = (variable, wavelengths)
    elif suffix == ".npy":
        kind, opener, options = ".npy file", _open_npy, ()
    elif suffix in (".tif", ".tiff"):
        from common.scenes.geotiff_file import open_geotiff as opener

        kind, options = "GeoTIFF", ()
    else:
        from common.scenes.envi_file import find_header
        from common.scenes.envi_file import open_envi as opener

        kind, options = "ENVI file", (find_header(path),)
        if options[0] is None:
            raise InputError(f"{path}: unknown format; supported are {SUPPORTED}")
    with damage_in_one_line(path, kind):
        file = _checked(path, opener(path, *options), kind, axes)
    if wavelengths is not None and file.wavelengths_unused:
        raise InputError(
            f"{path}: '{wavelengths}' cannot be the wavelengths: {file.wavelengths_unused}"
        )
    return file


def as_file(name: str, array: np.ndarray, axes: tuple[str, ...] | None = None) -> ArrayFile:
    """Return a cube or a label map in memory as a file called `name`; see `open_array`."""
    stored = StoredArray(array.shape, array.dtype, lambda slices: array[slices])
    return _checked(Path(name), stored, "array", axes)


def _open_npy(path: Path) -> StoredArray:
    array = np.lib.format.open_memmap(path, mode="r")  # refuses pickles

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        # Opened anew: what was read stays in memory for as long as a map of the file is open.
        return np.lib.format.open_memmap(path, mode="r")[slices]

    return StoredArray(array.shape, array.dtype, read)


def _checked(path: Path, stored: StoredArray, kind: str, axes: tuple[str, ...] | None) -> ArrayFile:
    """Return the file with one meaning of shape, dtype and rows, whatever the format."""
    shape, dtype = tuple(map(int, stored.shape)), stored.dtype.newbyteorder("=")
    size = "×".join(map(str, shape))
    if dtype.kind not in "buif":
        raise InputError(f"{path}: holds {dtype} values, not real numbers")
    if len(shape) not in (2, 3):
        raise InputError(f"{path}: the array is {size}, neither rows × cols × bands nor a map")
    if 0 in shape:
        raise InputError(f"{path}: the array is empty ({size})")
    order = tuple(range(len(shape)))
    if axes is not None:
        if len(shape) != 3:
            raise InputError(f"{path}: 'axes' names three, but the array is {size}")
        order = tuple(axes.index(name) for name in AXES)
        shape = tuple(shape[axis] for axis in order)
    as_stored = order == tuple(range(len(shape)))
    if shape[2:] == (1,):
        shape = shape[:2]

    def read_rows(start: int, stop: int) -> np.ndarray:
        check_fits(path, (min(stop, shape[0]) - start, *shape[1:]), dtype)
        slices = [slice(None)] * len(order)
        slices[order[0]] = slice(start, min(stop, shape[0]))
        with damage_in_one_line(path, kind):
            rows = stored.read(tuple(slices)).transpose(order)
            return np.array(rows, dtype, order="C").reshape(-1, *shape[1:])

    bands = shape[2] if len(shape) == 3 else 1
    wavelengths, unused = None, ""
    if stored.wavelengths is not None and len(shape) == 3:
        try:
            wavelengths = in_nanometres(stored.wavelengths, stored.wavelength_unit, bands)
        except ValueError as error:
            unused = str(error)
    scale, offset = _scaling(path, stored, bands)
    bad_bands, notes = _bad_bands(path, stored, bands)
    return ArrayFile(
        path=path,
        shape=shape,
        dtype=dtype,
        read_rows=read_rows,
        wavelengths=wavelengths,
        wavelengths_unused=unused,
        nodata=stored.nodata[0] if len(stored.nodata) == 1 else stored.nodata or None,
        georeference=stored.georeference if as_stored else None,
        bad_bands=bad_bands,
        scale=scale,
        offset=offset,
        valid_range=stored.valid_range,
        mask=stored.mask if as_stored else None,
        notes=(*stored.notes, *notes),
    )


def _bad_bands(path: Path, stored: StoredArray, bands: int) -> tuple[tuple[int, ...], list[str]]:
    """Return bands that the file marks bad, and why its list of them is not used, if so."""
    good = () if stored.good_bands is None else stored.good_bands
    try:
        marks = [float(mark) for mark in good]
    except (TypeError, ValueError):
        return (), [
            f"{path.name}: its list of bad bands is not used, for it holds what is no number"
        ]
    if marks and len(marks) != bands:
        why = f"for it has {len(marks)} entries for {bands} bands"
        return (), [f"{path.name}: its list of bad bands is not used, {why}"]
    return tuple(band for band, mark in enumerate(marks) if mark == 0), []


def _scaling(
    path: Path, stored: StoredArray, bands: int
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return scale and offset, checked; None for both where they change nothing."""
    scale, offset = (np.atleast_1d(np.array(a, float)) for a in (stored.scale, stored.offset))
    for name, values in (("scale", scale), ("offset", offset)):
        if len(values) not in (1, bands):
            raise InputError(f"{path}: states {len(values)} {name} factors for {bands} bands")
        if not (np.isfinite(values) & (np.abs(values) < 1e30)).all():
            raise InputError(f"{path}: states a {name} factor that is no usable number")
    if not scale.all():
        raise InputError(f"{path}: states the scale factor 0")
    if (scale == 1).all() and (offset == 0).all():
        return None, None
    return scale, offset


def axes_that_fit(
    cube: tuple[int, ...], labels: tuple[int, ...], axes: tuple[str, ...] | None = None
) -> tuple[str, ...] | None:
    """Return the order of a cube's axes in its file with which it has the rows and cols of labels.

    `cube` is its shape when read with `axes`.  Where several orders fit, bands come first or rows
    before cols; None where none does, or where the labels are no map.
    """
    sizes = dict(zip(AXES, cube, strict=True))
    stored = [sizes[name] for name in axes or AXES]
    orders = (("bands", *AXES[:2]), ("rows", "bands", "cols"), *itertools.permutations(AXES))
    for order in orders:
        if tuple(stored[order.index(name)] for name in AXES[:2]) == labels:
            return order
    return None


def with_bands(file: ArrayFile, bands: tuple[int, ...]) -> ArrayFile:
    """Return a cube's file as if it held these bands only, 0-based and ascending."""
    if bands == tuple(range(file.shape[2])):
        return file
    chosen = np.array(bands)

    def some(values: np.ndarray | None) -> np.ndarray | None:
        return values if values is None or len(values) == 1 else values[chosen]

    return dataclasses.replace(
        file,
        shape=(*file.shape[:2], len(bands)),
        read_rows=lambda start, stop: file.read_rows(start, stop).take(chosen, axis=2),
        wavelengths=file.wavelengths and tuple(file.wavelengths[band] for band in bands),
        bad_bands=(),
        scale=some(file.scale),
        offset=some(file.offset),
    )


def measured(file: ArrayFile, nodata: NoData) -> tuple[ArrayFile, NoData]:
    """Return a cube's file with its values scaled as it says, and what is no data then.

    Values become float32, or float64 where those stored need it, and NaN where there are no data,
    by `nodata`, which is a value as stored, by the file's mask or its valid range.  Where the file
    has none of these and no scale, it is returned as it is.
    """
    if file.scale is None and file.mask is None and file.valid_range is None:
        return file, nodata
    scale, offset = (1.0, 0.0) if file.scale is None else (file.scale, file.offset)
    dtype = np.result_type(file.dtype, np.float32)
    others = tuple(value for value in values_of(nodata) if value != 0)
    step = max(1, VALUES_PER_BLOCK // (file.shape[1] * file.shape[2]))

    def read_rows(start: int, stop: int) -> np.ndarray:
        stored = file.read_rows(start, stop)
        values = np.empty(stored.shape, dtype)
        for first in range(0, len(stored), step):
            block, scaled = stored[first : first + step], values[first : first + step]
            with np.errstate(over="ignore", invalid="ignore"):  # of no data
                scaled[...] = block * scale + offset
            scaled[is_nodata(block, others)] = np.nan
            if 0 in values_of(nodata):
                scaled[(block == 0).all(axis=2)] = np.nan
            scaled[beyond(file.valid_range, block)] = np.nan
            if file.mask is not None:
                row = start + first
                with damage_in_one_line(file.path, "file"):
                    scaled[~file.mask(row, row + len(block))] = np.nan
        return values

    done = {"scale": None, "offset": None, "valid_range": None, "mask": None}
    scaled_file = dataclasses.replace(file, dtype=dtype, read_rows=read_rows, **done)
    states_nodata = file.mask or file.valid_range or values_of(nodata)
    return scaled_file, np.nan if states_nodata else nodata
