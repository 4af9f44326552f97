"""Where a scene lies on the ground, and whether two files lie at the same place."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from common.system.errors import InputError

SAME_PLACE = 0.5 + 1e-3  # pixels; some programs mean a pixel's centre, others its corner
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
    """The place of a GeoTIFF, by an affine transform, ground control points, or RPCs.

    Attributes
    ----------
    crs : str or None
        Coordinate reference system as WKT.
    transform : tuple of float, or None
        a, b, c, d, e, f: pixel (col, row) has its upper left corner at x = a·col + b·row + c,
        y = d·col + e·row + f.
    points : tuple of (row, col, x, y, z)
        Ground control points.
    rpcs : tuple of (str, str)
        Rational polynomial coefficients, as GDAL's tags.
    """

    crs: str | None
    transform: tuple[float, ...] | None = None
    points: tuple[tuple[float, ...], ...] = ()
    rpcs: tuple[tuple[str, str], ...] = ()

    @classmethod
    def from_dataset(cls, image) -> "GeotiffPosition | None":
        """Take it from an open rasterio dataset; None where that states no position."""
        if not image.transform.is_identity:
            return cls(image.crs.to_wkt() if image.crs else None, tuple(image.transform)[:6])
        points, crs = image.gcps
        if points:
            places = tuple((p.row, p.col, p.x, p.y, p.z or 0.0) for p in points)
            return cls(crs.to_wkt() if crs else None, points=places)
        if rpcs := image.tags(ns="RPC"):
            return cls(None, rpcs=tuple(rpcs.items()))
        return None


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


class Grid(NamedTuple):
    """Where each pixel lies: a reference system (WKT, "EPSG:…" or None) and a transform."""

    crs: str | None
    transform: tuple[float, ...]

    def places(self, pixels: np.ndarray) -> np.ndarray:
        """Map (col, row) (n, 2), from the upper left corner of the first pixel, to (x, y)."""
        a, b, c, d, e, f = self.transform
        return pixels @ np.array([[a, d], [b, e]]) + (c, f)

    def pixels(self, places: np.ndarray) -> np.ndarray:
        """Map (x, y) (n, 2) to (col, row)."""
        a, b, c, d, e, f = self.transform
        return (places - (c, f)) @ np.linalg.inv([[a, d], [b, e]])


class Raster(NamedTuple):
    """A file whose place is to be compared with another's: rows and columns are its shape."""

    name: str
    shape: tuple[int, int]
    georeference: Georeference | None

    @property
    def corners(self) -> np.ndarray:
        """Its corners as (col, row), float64 (4, 2): upper left, upper right, the lower ones."""
        rows, cols = self.shape
        return np.array([(0, 0), (cols, 0), (0, rows), (cols, rows)], float)


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


def grid_of(position: Georeference | None) -> Grid | None:
    """Return the grid that a position states, None where it is none or cannot be understood."""
    if isinstance(position, EnviPosition):
        with contextlib.suppress(ValueError, IndexError):  # of fields that strangers have written
            grid = _envi_grid(position.fields)
            return grid if grid and _is_regular(grid) else None
        return None
    if position is None or position.transform is None:
        return None
    grid = Grid(position.crs, position.transform)
    return grid if _is_regular(grid) else None


def _is_regular(grid: Grid) -> bool:
    a, b, _, d, e, _ = grid.transform
    return bool(np.isfinite(grid.transform).all() and a * e != b * d)


def _envi_grid(fields: dict[str, str]) -> Grid | None:
    info = [part.strip() for part in fields.get("map info", "").strip("{} ").split(",")]
    projection, more = info[0].lower(), [part.lower() for part in info[7:]]
    if projection in ("", "arbitrary"):
        return None
    col, row, x, y, width, height = map(float, info[1:7])
    rotation = next((part for part in more if part.startswith("rotation")), "=0").split("=")[1]
    cosine, sine = np.cos(np.deg2rad(float(rotation))), np.sin(np.deg2rad(float(rotation)))
    a, b, d, e = width * cosine, width * sine, height * sine, -height * cosine
    corner = x - (col - 1) * width, y + (row - 1) * height  # as GDAL has it, rotated or not
    crs = fields.get("coordinate system string", "").strip("{} ") or None
    if crs is None and "wgs-84" in more:
        if projection == "geographic lat/lon":
            crs = "EPSG:4326"
        elif projection == "utm":
            crs = f"EPSG:{327 if 'south' in more else 326}{int(more[0]):02}"
    return Grid(crs, (a, b, corner[0], d, e, corner[1]))


def transformed(places: np.ndarray, source: str | None, target: str | None) -> np.ndarray:
    """Bring (x, y) (n, 2) from one reference system into another; as they are where one is unknown.

    Without rasterio, which knows the systems, they stay as they are too.
    """
    if source is None or target is None or source == target:
        return places
    try:
        from rasterio.errors import CRSError
        from rasterio.warp import transform
    except ImportError:
        return places
    try:
        return np.stack(transform(source, target, *places.T), axis=1)
    except CRSError:
        return places


def check_same_place(cube: Raster, labels: Raster) -> None:
    """Raise InputError where two files that both state their place do not cover the same pixels."""
    theirs, ours = grid_of(labels.georeference), grid_of(cube.georeference)
    if theirs is None or ours is None:
        return
    found = ours.pixels(transformed(theirs.places(labels.corners), theirs.crs, ours.crs))
    if labels.shape != cube.shape or not (np.abs(found - cube.corners) <= SAME_PLACE).all():
        cure = "put it on the same grid"
        if all(Path(name).suffix.lower() in (".tif", ".tiff") for name in (labels.name, cube.name)):
            cure += f", as with: rio warp {labels.name} aligned.tif --like {cube.name}"
        raise InputError(
            f"{labels.name}: lies at another place than {cube.name}: {_place(labels, theirs)}, "
            f"that one {_place(cube, ours)}; {_difference(found, labels, cube)}; {cure}"
        )


def _place(raster: Raster, grid: Grid) -> str:
    """Say where a raster lies, in its own reference system."""
    places = grid.places(raster.corners)
    (left, low), (right, high) = places.min(axis=0), places.max(axis=0)
    width, height = np.hypot(*grid.transform[::3]), np.hypot(*grid.transform[1::3])
    up = ", south up" if grid.transform[4] > 0 else ""
    return (
        f"{raster.shape[0]}×{raster.shape[1]} pixels of {width:.10g}×{height:.10g}, "
        f"x {left:.10g} to {right:.10g}, y {low:.10g} to {high:.10g}{up} ({_name(grid.crs)})"
    )


def _name(crs: str | None) -> str:
    """Name a reference system shortly."""
    if crs is None:
        return "no reference system"
    with contextlib.suppress(Exception):  # whatever a damaged text makes the library raise
        from rasterio.crs import CRS

        if code := CRS.from_user_input(crs).to_epsg():
            return f"EPSG:{code}"
    return crs.split('"')[1] if crs.count('"') > 1 else crs[:40]


def _difference(found: np.ndarray, label_raster: Raster, cube_raster: Raster) -> str:
    """Say how a label raster with its corners at `found`, in pixels of the cube, lies in it."""
    labels, cube = label_raster.shape, cube_raster.shape
    systems = [grid_of(raster.georeference).crs for raster in (label_raster, cube_raster)]
    if None not in systems and _name(systems[0]) != _name(systems[1]):
        return "it is in another reference system"
    if not np.isfinite(found).all():
        return "there is no way from its reference system to that one"
    upper_left, right, down = found[0], found[1] - found[0], found[2] - found[0]
    scale = right[0] / labels[1], down[1] / labels[0]
    turned = max(abs(right[1]) / labels[1], abs(down[0]) / labels[0])
    if turned > 0.01:
        return "its rows and columns run in another direction"
    if scale[0] < 0 or scale[1] < 0:
        return "it is upside down" if scale[0] > 0 else "left and right are changed round"
    if max(abs(scale[0] * cube[1] - cube[1]), abs(scale[1] * cube[0] - cube[0])) > SAME_PLACE:
        return f"its pixels are {scale[0]:.3g} by {scale[1]:.3g} of that one's"
    cols, rows = (float(np.round(shift, 1)) for shift in upper_left)
    size = "" if labels == cube else f"{labels[0]}×{labels[1]} pixels of {cube[0]}×{cube[1]}, "
    return f"{size}it starts {rows:g} rows down and {cols:g} columns to the right"
