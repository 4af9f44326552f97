"""A map written at the scene's place on the ground, as GeoTIFF or ENVI file, for GIS programs."""

import contextlib
import errno
import functools
import math
import os
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
from PIL import ImageColor

from common.scenes.georeference import (
    EnviPosition,
    Georeference,
    GeotiffPosition,
    import_rasterio,
)
from common.system.files import UNFINISHED, put_in_place

WriteRows = Callable[[int, np.ndarray], None]
MOST_NAMES = 10_000  # in a list with a place for every label from 0 on
ENVI_TYPES = {"uint8": 1, "float32": 4, "uint16": 12, "uint32": 13}


@dataclass(frozen=True)
class Legend:
    """What a map's labels mean.

    Attributes
    ----------
    labels : tuple of int
        One per class, ascending, above 0, which is "not classified".
    names, colours : tuple of str
        One per class; colours as "#rrggbb".
    """

    labels: tuple[int, ...]
    names: tuple[str, ...]
    colours: tuple[str, ...]

    @property
    def entries(self) -> dict[int, tuple[str, tuple[int, int, int]]]:
        """Name and colour (red, green, blue) of each label, 0 too."""
        named = zip(self.names, map(ImageColor.getrgb, self.colours), strict=True)
        return {0: ("Unclassified", (0, 0, 0)), **dict(zip(self.labels, named, strict=True))}

    @property
    def without_gaps(self) -> list[tuple[str, tuple[int, int, int]]]:
        """The same for every label from 0 on; empty where these are very many."""
        entries = self.entries
        if self.labels[-1] >= MOST_NAMES:
            return []
        return [entries.get(n, ("", (0, 0, 0))) for n in range(self.labels[-1] + 1)]


@contextlib.contextmanager
def map_writer(
    path_stem: Path,
    shape: tuple[int, int],
    georeference: Georeference,
    legend: Legend | None = None,
    bands: tuple[str, ...] = (),
) -> Iterator[WriteRows]:
    """Write a map at the scene's place, a block of rows at a time.

    The map of a GeoTIFF is ``<stem>.tif``, with the classes' names in ``<stem>.tif.aux.xml``, where
    GDAL looks for them; that of an ENVI file is ``<stem>.hdr`` and ``<stem>.img``.  They appear
    when the block is left, whole, or not at all after an exception.  Labels that are never written
    are 0, not classified.

    Parameters
    ----------
    path_stem : Path
        The map's path without extension, such as ``run_0/map``.
    shape : (rows, cols)
    georeference : Georeference
    legend : Legend, optional
        Of a map of classes; one without holds float32 values, NaN where there is none.
    bands : tuple of str, optional
        Names of the bands of a map that has several, of float32 values.

    Yields
    ------
    callable
        ``write_rows(start, values)`` with values (n, cols), or (n, cols, bands), which become the
        rows start..start+n-1: labels, 0 or one of the legend's, of the smallest unsigned type that
        holds them in the file; or floats.

    Raises
    ------
    OSError
        The disk is full.
    """
    folder = path_stem.parent
    with tempfile.TemporaryDirectory(
        dir=folder, prefix=f"{UNFINISHED}{path_stem.name}."
    ) as temporary:
        stem = Path(temporary, path_stem.name)
        if isinstance(georeference, EnviPosition):
            writer = _envi_map(stem, shape, georeference, legend, bands)
        elif bands:
            writer = _geotiff_bands(stem, shape, georeference, bands)
        else:
            writer = _geotiff_map(stem, shape, georeference, legend)
        with writer as write_rows:
            yield write_rows
        for file in sorted(Path(temporary).iterdir(), reverse=True):  # .img before its .hdr
            put_in_place(file, folder / file.name)


def _dtype(legend: Legend | None) -> np.dtype:
    return np.dtype(np.float32) if legend is None else np.min_scalar_type(legend.labels[-1])


@contextlib.contextmanager
def _geotiff_map(
    stem: Path, shape: tuple[int, int], position: GeotiffPosition, legend: Legend | None
) -> Iterator[WriteRows]:
    path = Path(f"{stem}.tif")
    rasterio = import_rasterio(path)
    dtype = _dtype(legend)
    with rasterio.MemoryFile() as file:  # GDAL does not tell a disk that is full when it closes
        nodata = 0 if legend else np.nan
        with _new_geotiff(file.open, shape, position, dtype=dtype, nodata=nodata) as image:
            if legend:
                entries = legend.entries
                if dtype == np.uint8:  # a palette of two bytes is little supported
                    palette = [colour for _, colour in legend.without_gaps]
                    image.write_colormap(1, dict(enumerate(palette)))
                tags = {f"class_{label}": name for label, (name, _) in entries.items()}
                image.update_tags(1, **tags)

            def write_rows(start: int, values: np.ndarray) -> None:
                window = ((start, start + len(values)), (0, shape[1]))
                image.write(values.astype(dtype), 1, window=window)

            yield write_rows
        path.write_bytes(file.getbuffer())
    if legend:
        Path(f"{path}.aux.xml").write_text(_auxiliary_xml(legend), "utf-8")


@contextlib.contextmanager
def _geotiff_bands(
    stem: Path, shape: tuple[int, int], position: GeotiffPosition, bands: tuple[str, ...]
) -> Iterator[WriteRows]:
    """The same of several bands of float32, written to disk, for memory may not hold them.

    What was written is read back, since GDAL does not tell all that a full disk does to it.
    """
    path, written = Path(f"{stem}.tif"), []
    rasterio = import_rasterio(path)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    if shutil.disk_usage(path.parent).free < 4 * math.prod(shape) * len(bands):
        raise full
    create = functools.partial(rasterio.open, path, "w")
    with contextlib.ExitStack() as stack:
        new = _new_geotiff(create, shape, position, dtype="float32", count=len(bands))
        image = stack.enter_context(new)
        for number, name in enumerate(bands, 1):
            image.set_band_description(number, name)

        def write_rows(start: int, values: np.ndarray) -> None:
            window = ((start, start + len(values)), (0, shape[1]))
            by_band = np.ascontiguousarray(np.moveaxis(values, 2, 0), np.float32)
            written.append((window, zlib.crc32(by_band)))
            try:
                image.write(by_band, window=window)
            except rasterio.errors.RasterioError as error:
                raise full from error

        yield write_rows
        try:
            stack.close()
            with rasterio.open(path) as image:
                for window, checksum in written:
                    if zlib.crc32(np.ascontiguousarray(image.read(window=window))) != checksum:
                        raise full
        except rasterio.errors.RasterioError as error:
            raise full from error


@contextlib.contextmanager
def _new_geotiff(
    create: Callable, shape: tuple[int, int], position: GeotiffPosition, **of_values
) -> Iterator[Any]:
    """Create a GeoTIFF at a place: by `create`, a function of rasterio's."""
    from rasterio import Affine
    from rasterio.control import GroundControlPoint

    place = {}
    if position.transform is not None:
        place["transform"] = Affine(*position.transform)
    if position.points:
        names = ("row", "col", "x", "y", "z")
        place["gcps"] = [
            GroundControlPoint(**dict(zip(names, point, strict=True))) for point in position.points
        ]
    with warnings.catch_warnings(action="ignore"):
        image = create(
            driver="GTiff",
            height=shape[0],
            width=shape[1],
            crs=position.crs,
            compress="deflate",
            bigtiff="if_safer",
            **{"count": 1} | of_values,
            **place,
        )
    with image:
        if position.rpcs:
            image.update_tags(ns="RPC", **dict(position.rpcs))
        yield image


def _auxiliary_xml(legend: Legend) -> str:
    """Category names and a raster attribute table, as GDAL keeps them beside a raster."""
    names = [f"<Category>{escape(name)}</Category>" for name, _ in legend.without_gaps]
    number = 0 if legend.labels[-1] < 2**31 else 1  # GDAL's codes: 0 integer, 1 real, 2 text
    columns = [("Value", number, 5), ("Class", 2, 2), ("Red", 0, 6), ("Green", 0, 7)]
    columns += [("Blue", 0, 8)]
    fields = [
        f'<FieldDefn index="{i}"><Name>{name}</Name><Type>{kind}</Type><Usage>{usage}</Usage>'
        f"</FieldDefn>"
        for i, (name, kind, usage) in enumerate(columns)
    ]
    rows = [
        f'<Row index="{i}"><F>{label}</F><F>{escape(name)}</F>'
        + "".join(f"<F>{part}</F>" for part in colour)
        + "</Row>"
        for i, (label, (name, colour)) in enumerate(legend.entries.items())
    ]
    lines = [
        "<PAMDataset>",
        '<PAMRasterBand band="1">',
        *(["<CategoryNames>", *names, "</CategoryNames>"] if names else []),
        '<GDALRasterAttributeTable tableType="thematic">',
        *fields,
        *rows,
        "</GDALRasterAttributeTable>",
        "</PAMRasterBand>",
        "</PAMDataset>",
    ]
    return "\n".join(lines) + "\n"


@contextlib.contextmanager
def _envi_map(
    stem: Path,
    shape: tuple[int, int],
    position: EnviPosition,
    legend: Legend | None,
    bands: tuple[str, ...],
) -> Iterator[WriteRows]:
    (rows, cols), dtype = shape, _dtype(legend)
    row = cols * max(len(bands), 1) * dtype.itemsize
    header = {
        "description": "{Classification map}" if legend else f"{{{stem.name}}}",
        "samples": cols,
        "lines": rows,
        "bands": max(len(bands), 1),
        "header offset": 0,
        "file type": "ENVI Standard",
        "data type": ENVI_TYPES[dtype.name],
        "interleave": "bip" if bands else "bsq",
        "byte order": 0,
        **position.fields,
    }
    if bands:
        header["band names"] = f"{{{', '.join(map(_in_header, bands))}}}"
    else:
        header["data ignore value"] = 0 if legend else "nan"
    if legend and legend.without_gaps:
        names, colours = zip(*legend.without_gaps, strict=True)
        header |= {
            "file type": "ENVI Classification",
            "classes": len(names),
            "class names": f"{{{', '.join(map(_in_header, names))}}}",
            "class lookup": f"{{{', '.join(str(part) for colour in colours for part in colour)}}}",
        }
    lines = [f"{key} = {value}" for key, value in header.items()]
    Path(f"{stem}.hdr").write_text("\n".join(["ENVI", *lines, ""]), "utf-8")
    with open(f"{stem}.img", "wb") as file:
        file.truncate(rows * row)

        def write_rows(start: int, values: np.ndarray) -> None:
            file.seek(start * row)
            file.write(values.astype(dtype.newbyteorder("<")).tobytes())

        yield write_rows


def _in_header(name: str) -> str:
    """Return a name without what structures the header itself: braces and commas."""
    return name.translate(str.maketrans("{},", "()-")) or "-"
