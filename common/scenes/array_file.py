"""Reading a cube or a label map from a file: .mat, .npy, ENVI or GeoTIFF, whole or by rows."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.scenes.georeference import EnviPosition, Georeference, GeotiffPosition, import_rasterio
from common.system.errors import InputError, damage_in_one_line
from common.system.files import check_is_file
from common.system.memory import check_fits

SUPPORTED = (
    ".mat, .npy, .tif and .tiff (GeoTIFF), .hdr (ENVI) or an ENVI data file with its .hdr beside it"
)
LARGEST_HEADER = 1 << 20  # bytes of an ENVI header
NANOMETRES = {
    "nanometers": 1.0,
    "nanometres": 1.0,
    "nm": 1.0,
    "micrometers": 1000.0,
    "micrometres": 1000.0,
    "microns": 1000.0,
    "um": 1000.0,
    "µm": 1000.0,
    "angstroms": 0.1,
}


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
        As stored, in this machine's byte order; values are not scaled.
    wavelengths : tuple of float or None
        Band centres in nm, where the file states them.
    nodata : float or None
        The value of pixels without data, where the file states it; may be NaN.
    georeference : Georeference or None
        Where the scene lies, if the file states it.
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
    nodata: float | None = None
    georeference: Georeference | None = None

    def read(self) -> np.ndarray:
        """Return the whole array, of `shape` and `dtype`."""
        return self.read_rows(0, self.shape[0])


def open_array(path: Path, variable: str | None = None) -> ArrayFile:
    """Open a cube or a label map; `variable` is for .mat files with several arrays.

    Raises
    ------
    InputError
        In one line: no such file, an unknown or damaged one, not an array of real numbers of
        two or three dimensions, or a `variable` that does not fit.
    """
    suffix = path.suffix.lower()
    check_is_file(path)
    if variable is not None and suffix != ".mat":
        raise InputError(f"{path}: only a .mat file has variables; leave out '{variable}'")
    if suffix == ".mat":
        kind, file = ".mat file", _mat(path, variable)
    elif suffix == ".npy":
        kind, file = ".npy file", _npy(path)
    elif suffix in (".tif", ".tiff"):
        kind, file = "GeoTIFF", _geotiff(path)
    elif header := _envi_header(path):
        kind, file = "ENVI file", _envi(path, header)
    else:
        raise InputError(f"{path}: unknown format; supported are {SUPPORTED}")
    return _checked(file, kind)


def _checked(file: ArrayFile, kind: str) -> ArrayFile:
    """Return the file with one meaning of shape, dtype and rows, whatever the format."""
    path, shape, dtype = file.path, file.shape, file.dtype.newbyteorder("=")
    size = "×".join(map(str, shape))
    if dtype.kind not in "buif":
        raise InputError(f"{path}: holds {dtype} values, not real numbers")
    if len(shape) not in (2, 3):
        raise InputError(f"{path}: the array is {size}, neither rows × cols × bands nor a map")
    if 0 in shape:
        raise InputError(f"{path}: the array is empty ({size})")
    if shape[2:] == (1,):
        shape = shape[:2]

    def read_rows(start: int, stop: int) -> np.ndarray:
        check_fits(path, (min(stop, shape[0]) - start, *shape[1:]), dtype)
        with damage_in_one_line(path, kind):
            rows = file.read_rows(start, min(stop, shape[0]))
            return np.array(rows, dtype, order="C").reshape(-1, *shape[1:])

    fits = file.wavelengths is not None and (len(file.wavelengths),) == shape[2:]
    wavelengths = file.wavelengths if fits else None
    return dataclasses.replace(
        file, shape=shape, dtype=dtype, read_rows=read_rows, wavelengths=wavelengths
    )


def _mat(path: Path, variable: str | None) -> ArrayFile:
    from common.scenes.mat_file import (
        open_mat,  # only this format needs SciPy's and HDF5's libraries
    )

    return ArrayFile(path, *open_mat(path, variable))


def _npy(path: Path) -> ArrayFile:
    with damage_in_one_line(path, ".npy file"):
        array = np.lib.format.open_memmap(path, mode="r")  # refuses pickles

    def read_rows(start: int, stop: int) -> np.ndarray:
        # Opened anew: what was read stays in memory for as long as a map of the file is open.
        return np.lib.format.open_memmap(path, mode="r")[start:stop]

    return ArrayFile(path, array.shape, array.dtype, read_rows)


def _envi_header(path: Path) -> Path | None:
    """Return the ENVI header that `path` is or has beside it: scene.img.hdr or scene.hdr."""
    if path.suffix.lower() == ".hdr":
        return path
    names = [
        name for end in (".hdr", ".HDR") for name in (f"{path.name}{end}", f"{path.stem}{end}")
    ]
    return next((path.with_name(name) for name in names if path.with_name(name).is_file()), None)


def _envi(path: Path, header_path: Path) -> ArrayFile:
    """Open an ENVI cube of any interleave, memory-mapped, by its header or its data file."""
    from spectral.io import envi  # only this format needs it
    from spectral.io.spyfile import SpyFile

    logging.getLogger("spectral").setLevel(logging.CRITICAL)  # else it talks on stderr
    with damage_in_one_line(path, "ENVI file"):
        header = _read_envi_header(path, header_path)
        try:
            image = envi.open(header_path, None if path == header_path else path)
        except envi.EnviDataFileNotFoundError as error:
            raise InputError(
                f"{path}: no data file found beside this header; name the data file instead"
            ) from error
        if not isinstance(image, SpyFile):
            raise InputError(f"{path}: a spectral library, not an image")
        if min(image.shape) < 0:
            raise InputError(f"{path}: its header announces a negative size")
        expected = image.offset + math.prod(image.shape) * image.sample_size
        found = os.path.getsize(image.filename)
        if found < expected:
            raise InputError(
                f"{path}: the data file has {found} bytes, its header announces {expected}"
            )
        image.fid.close()
        ignored = header.get("data ignore value")
        return ArrayFile(
            path,
            image.shape,
            np.dtype(image.dtype),
            lambda start, stop: image.open_memmap()[start:stop],  # anew, as above
            _in_nanometres(image.bands.centers, image.bands.band_unit),
            None if ignored is None else float(ignored),
            EnviPosition.from_header(header),
        )


def _read_envi_header(path: Path, header_path: Path) -> dict[str, str | list[str]]:
    """Refuse what the library would read as something else, or refuse without saying why."""
    from spectral.io import envi

    try:
        check_is_file(header_path, largest=LARGEST_HEADER)
        header_path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not a readable ENVI file ({header_path.name} is no text in UTF-8)"
        ) from error
    header = envi.read_envi_header(header_path)
    envi.check_compatibility(header)
    allowed = {
        "data type": list(envi.envi_to_dtype),
        "interleave": ["bil", "bip", "bsq"],
        "byte order": ["0", "1"],
        "file compression": ["0"],
    }
    for key, values in allowed.items():
        if key in header and str(header[key]).lower() not in values:
            raise InputError(f"{path}: '{key} = {header[key]}' in the ENVI header is not supported")
    return header


def _geotiff(path: Path) -> ArrayFile:
    rasterio = import_rasterio(path)
    with damage_in_one_line(path, "GeoTIFF"), rasterio.Env():  # else GDAL prints its warnings
        image = rasterio.open(path, driver="GTiff")

        def read_rows(start: int, stop: int) -> np.ndarray:
            with rasterio.Env():
                return np.moveaxis(image.read(window=((start, stop), (0, image.width))), 0, 2)

        return ArrayFile(
            path,
            (image.height, image.width, image.count),
            np.dtype(image.dtypes[0]),
            read_rows,
            _geotiff_wavelengths(image),
            image.nodata,
            GeotiffPosition.from_dataset(image),
        )


def _geotiff_wavelengths(image) -> tuple[float, ...] | None:
    """Read GDAL's own tag, else those of a GeoTIFF that GDAL made of an ENVI file."""
    tags = [image.tags(band, ns="IMAGERY") for band in image.indexes]
    centres, unit = [tag.get("CENTRAL_WAVELENGTH_UM") for tag in tags], "um"
    if None in centres:
        tags = [image.tags(band) for band in image.indexes]
        centres, unit = [tag.get("wavelength") for tag in tags], tags[0].get("wavelength_units")
    if None in centres:
        return None
    return _in_nanometres([float(centre) for centre in centres], unit)


def _in_nanometres(centres: list[float] | None, unit: str | None) -> tuple[float, ...] | None:
    """Convert band centres to nm; None where there are none or the unit is no length.

    Without a unit, values below 100 are µm: 0.1 to 100 µm and 100 nm to 100 µm do not overlap
    for any optical sensor.
    """
    if not centres:
        return None
    unit = (unit or "unknown").strip().lower()
    factor = NANOMETRES.get(unit)
    if unit == "unknown":
        factor = 1000.0 if max(centres) < 100 else 1.0
    return tuple(round(centre * factor, 6) for centre in centres) if factor else None
