"""Where a scene lies on the ground, and a classification map written at the same place."""

import contextlib
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import ImageColor

from common.system.errors import InputError
from common.system.files import UNFINISHED, put_in_place

WriteRows = Callable[[int, np.ndarray], None]
ENVI_KEYS = (
    "map info",
    "coordinate system string",
    "projection info",
    "geo points",
    "rpc info",
    "pixel size",
    "x start",
    "y start",
)


@dataclass(frozen=True)
class GeotiffPosition:
    """Coordinate reference system as WKT, or None, and the affine transform a, b, c, d, e, f.

    Pixel (col, row) has its upper left corner at x = a·col + b·row + c, y = d·col + e·row + f.
    """

    crs: str | None
    transform: tuple[float, ...]

    @classmethod
    def from_dataset(cls, image) -> "GeotiffPosition | None":
        """Take it from an open rasterio dataset; None where that states no position."""
        if image.transform.is_identity:
            return None
        return cls(image.crs.to_wkt() if image.crs else None, tuple(image.transform)[:6])


@dataclass(frozen=True)
class EnviPosition:
    """The fields of an ENVI header that tell the position, as text to be written again."""

    fields: dict[str, str]

    @classmethod
    def from_header(cls, header: dict[str, str | list[str]]) -> "EnviPosition | None":
        """Take it from a header as `spectral` parses it; None where that states no position."""
        if not {"map info", "geo points", "rpc info"} & header.keys():
            return None
        found = {key: header[key] for key in ENVI_KEYS if key in header}
        return cls(
            {
                key: value if isinstance(value, str) else f"{{{', '.join(value)}}}"
                for key, value in found.items()
            }
        )


Georeference = GeotiffPosition | EnviPosition


def import_rasterio(path: Path) -> ModuleType:
    """Return the library for GeoTIFF, which is installed only on request.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        import rasterio
    except ImportError as error:
        raise InputError(
            f"{path}: a GeoTIFF needs rasterio: pip install rasterio==1.4.4"
        ) from error
    return rasterio


@contextlib.contextmanager
def map_writer(
    path_stem: Path,
    shape: tuple[int, int],
    georeference: Georeference,
    class_names: tuple[str, ...],
    colours: tuple[str, ...],
) -> Iterator[WriteRows]:
    """Write a classification map at the scene's place, a block of rows at a time.

    The map of a GeoTIFF is ``<stem>.tif``; that of an ENVI file is ``<stem>.hdr`` and
    ``<stem>.img``.  They appear when the block is left, whole, or not at all after an exception.
    Rows that are never written are 0, not classified.

    Parameters
    ----------
    path_stem : Path
        The map's path without extension, such as ``run_0/map``.
    shape : (rows, cols)
    georeference : Georeference
    class_names, colours : tuple of str
        One per class, in label order; colours as "#rrggbb".

    Yields
    ------
    callable
        ``write_rows(start, labels)`` with labels (n, cols) of any integer type, 0..C, which
        become the rows start..start+n-1: uint8 in the file, or uint16 above 255 classes.
    """
    dtype = np.dtype(np.uint8 if len(class_names) < 256 else np.uint16)
    names = ("Unclassified", *class_names)
    palette = [(0, 0, 0), *map(ImageColor.getrgb, colours)]
    writer = _geotiff_map if isinstance(georeference, GeotiffPosition) else _envi_map
    folder = path_stem.parent
    with tempfile.TemporaryDirectory(
        dir=folder, prefix=f"{UNFINISHED}{path_stem.name}."
    ) as temporary:
        stem = Path(temporary, path_stem.name)
        with writer(stem, shape, dtype, georeference, names, palette) as write_rows:
            yield write_rows
        for file in sorted(Path(temporary).iterdir(), reverse=True):  # .img before its .hdr
            put_in_place(file, folder / file.name)


@contextlib.contextmanager
def _geotiff_map(
    stem: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    position: GeotiffPosition,
    names: tuple[str, ...],
    palette: list[tuple[int, ...]],
) -> Iterator[WriteRows]:
    path = Path(f"{stem}.tif")
    rasterio = import_rasterio(path)
    rows, cols = shape
    with rasterio.MemoryFile() as file:  # GDAL does not tell a disk that is full when it closes
        with warnings.catch_warnings(action="ignore"):
            image = file.open(
                driver="GTiff",
                height=rows,
                width=cols,
                count=1,
                dtype=dtype,
                nodata=0,
                crs=position.crs,
                transform=rasterio.Affine(*position.transform),
                compress="deflate",
                bigtiff="if_safer",
            )
        with image:
            if dtype == np.uint8:  # a palette of two bytes is little supported
                image.write_colormap(1, dict(enumerate(palette)))
            image.update_tags(1, **{f"class_{label}": name for label, name in enumerate(names)})

            def write_rows(start: int, labels: np.ndarray) -> None:
                window = ((start, start + len(labels)), (0, cols))
                image.write(labels.astype(dtype), 1, window=window)

            yield write_rows
        path.write_bytes(file.getbuffer())


@contextlib.contextmanager
def _envi_map(
    stem: Path,
    shape: tuple[int, int],
    dtype: np.dtype,
    position: EnviPosition,
    names: tuple[str, ...],
    palette: list[tuple[int, ...]],
) -> Iterator[WriteRows]:
    from spectral.io import envi  # only this format needs it

    rows, cols = shape
    stored = dtype.newbyteorder("<")
    header = {
        "description": "Classification map",
        "samples": cols,
        "lines": rows,
        "bands": 1,
        "header offset": 0,
        "file type": "ENVI Classification",
        "data type": envi.dtype_to_envi[dtype.char],
        "interleave": "bsq",
        "byte order": 0,
        "data ignore value": 0,
        "classes": len(names),
        # Braces and commas structure the header itself; `spectral` replaces the commas.
        "class names": [name.replace("{", "(").replace("}", ")") for name in names],
        "class lookup": [value for colour in palette for value in colour],
        **position.fields,
    }
    envi.write_envi_header(f"{stem}.hdr", header)
    with open(f"{stem}.img", "wb") as file:
        file.truncate(rows * cols * dtype.itemsize)

        def write_rows(start: int, labels: np.ndarray) -> None:
            file.seek(start * cols * dtype.itemsize)
            file.write(labels.astype(stored).tobytes())

        yield write_rows
