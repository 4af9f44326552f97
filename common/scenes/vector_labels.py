"""Labels drawn as polygons or points, in a GIS program for one, put on the grid of a scene."""

import contextlib
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from common.scenes.georeference import Grid, Raster, grid_of
from common.scenes.labels import RawLabels, listed
from common.scenes.scene_file import Description
from common.system.errors import InputError, damage_in_one_line
from common.system.files import check_is_file

SUFFIXES = (".gpkg", ".shp", ".geojson", ".json")
STARTS = {".gpkg": b"SQLite format 3\0", ".shp": b"\0\0\x27\x0a"}  # else it must be a JSON object
NOWHERE = -1  # in the raster, where nothing is drawn
FEWEST_PIXELS = 3  # of a class, so that it trains and can be tested
EDGE_POINTS = 21  # along each edge of the scene, whose straight lines bend in other systems


class Drawn(NamedTuple):
    """Polygons and points with their labels, in the scene's reference system.

    Attributes
    ----------
    shapes : object array (n,) of shapely geometries
    labels : int64 array (n,)
    names : dict of int to str, or None
        What each label is called, where the attribute holds texts.
    notes : tuple of str
    """

    shapes: np.ndarray
    labels: np.ndarray
    names: dict[int, str] | None
    notes: tuple[str, ...]


def is_vector_file(path: Path) -> bool:
    """Tell by its name whether a file holds polygons or points."""
    return path.suffix.lower() in SUFFIXES


def vector_labels(description: Description, cube: Raster) -> RawLabels:
    """Put the polygons and points of the ground truth's file on the cube's grid.

    A pixel has the label of the polygon in which its centre lies, or of a point in it.  Where
    polygons of different classes overlap, it has none.

    Raises
    ------
    InputError
        A library is missing, the file is none of polygons or points or damaged, it has no such
        attribute, file or cube states no place, or nothing lies inside the scene.
    """
    source = description.ground_truth
    path = source.path
    pyogrio, shapely, rasterio = _libraries(path)
    check_is_file(path)
    with damage_in_one_line(path, "vector file"):
        views = _views_in(path)
        layer = _layer(path, source.variable, pyogrio.list_layers(path)[:, 0].tolist())
        if layer in views:
            raise InputError(f"{path}: layer {layer!r} is a view; save it as a table")
        info = pyogrio.read_info(path, layer=layer)
        attribute = _attribute(path, source.attribute, list(map(str, info["fields"])))
        if info["crs"] is None:
            raise InputError(
                f"{path}: states no reference system; set it in a GIS program, or save the layer "
                f"with one"
            )
        grid = _grid(path, cube)
        bounds = _bounds_in(info["crs"], grid, cube)
        with rasterio.Env():
            _, _, shapes, (values,) = pyogrio.raw.read(
                path, layer=layer, columns=[attribute], bbox=bounds
            )
            drawn = _drawn(description, attribute, shapely.from_wkb(shapes), values)
            drawn = drawn._replace(shapes=_reprojected(drawn.shapes, info["crs"], grid.crs))
            burnt, overlapping = _burnt(drawn, cube.shape, grid)
    notes = list(drawn.notes)
    if not burnt.any():
        raise InputError(
            f"{path}: nothing lies inside the scene: the file covers {_extent(info)} "
            f"({_short(info['crs'])}), the scene {_extent({'total_bounds': bounds})} there"
        )
    if overlapping:
        notes.append(
            f"{path.name}: {overlapping} pixels lie in polygons of different classes and are left "
            f"unlabelled"
        )
    found = np.unique(drawn.labels)
    counts = np.bincount(burnt.ravel(), minlength=len(found) + 1)[1:]
    few = [
        f"{drawn.names[label] if drawn.names else label} ({count})"
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
        if count < FEWEST_PIXELS
    ]
    if few:
        notes.append(
            f"{path.name}: classes of fewer than {FEWEST_PIXELS} pixels, which cannot be tested: "
            f"{listed(few)}; draw more of them, or leave them out"
        )
    raster = np.array([NOWHERE, *found], np.int64)[burnt]
    return RawLabels(path, raster, (NOWHERE,), tuple(notes), drawn.names)


def _libraries(path: Path) -> tuple[ModuleType, ModuleType, ModuleType]:
    """Return what vector labels need and is installed only on request."""
    try:
        import pyogrio
        import rasterio.features
        import shapely
    except ImportError as error:
        raise InputError(
            f"{path}: vector labels need pyogrio, shapely and rasterio (the extra 'vector'): pip "
            f"install pyogrio==0.13.0 shapely==2.2.0 rasterio==1.4.4"
        ) from error
    return pyogrio, shapely, rasterio


def _views_in(path: Path) -> set[str]:
    """Name the views of a GeoPackage, which may take for ever to read; and check a file's kind.

    GDAL would open anything, and files of some kinds name others.
    """
    with path.open("rb") as file:
        start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start.startswith(STARTS.get(path.suffix.lower(), b"{")):
        raise InputError(f"{path}: not a readable {path.suffix} file")
    if path.suffix.lower() != ".gpkg":
        return set()
    uri = f"{path.resolve().as_uri()}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(uri, uri=True)) as database:
        found = database.execute("SELECT name FROM sqlite_master WHERE type = 'view'")
        views = {name for (name,) in found}
    if computed := [name for name in views if name.lower().startswith(("gpkg_", "rtree_"))]:
        raise InputError(f"{path}: not a readable GeoPackage ({computed[0]!r} is a view)")
    return views


def _layer(path: Path, wanted: str | None, layers: list[str]) -> str:
    if wanted is None and len(layers) == 1:
        return layers[0]
    if wanted not in layers:
        said = "say which layer to read under 'variable'" if wanted is None else f"no {wanted!r}"
        raise InputError(f"{path}: {said}; this file holds: {listed(layers)}")
    return wanted


def _attribute(path: Path, wanted: str | None, attributes: list[str]) -> str:
    if wanted not in attributes:
        said = "say which attribute holds the classes, as {path: FILE, attribute: NAME}"
        said = said if wanted is None else f"no attribute {wanted!r}"
        raise InputError(f"{path}: {said}; this file has: {listed(attributes) or 'none'}")
    return wanted


def _grid(path: Path, cube: Raster) -> Grid:
    """Return the cube's grid, which must have a reference system."""
    grid = grid_of(cube.georeference)
    if grid is None or grid.crs is None:
        missing = "no place with rows and columns" if grid is None else "no reference system"
        raise InputError(
            f"{path}: cannot be put on the scene: {cube.name} states {missing}; vector labels need "
            f"a cube as GeoTIFF or ENVI file that states both"
        )
    return grid


def _bounds_in(crs: str, grid: Grid, cube: Raster) -> tuple[float, ...] | None:
    """Return west, south, east, north of the scene in another system; None where it has none."""
    from rasterio.warp import transform

    rows, cols = cube.shape
    steps = np.linspace(0, 1, EDGE_POINTS)
    edges = [(steps * cols, 0 * steps), (steps * cols, 0 * steps + rows)]
    edges += [(0 * steps, steps * rows), (0 * steps + cols, steps * rows)]
    places = grid.places(np.concatenate([np.stack(edge, axis=1) for edge in edges]))
    there = np.stack(transform(grid.crs, crs, *places.T), axis=1)
    if not np.isfinite(there).all():
        return None
    return (*there.min(axis=0).tolist(), *there.max(axis=0).tolist())


def _drawn(
    description: Description, attribute: str, shapes: np.ndarray, values: np.ndarray
) -> Drawn:
    """Take polygons and points with a label, and say what else there is."""
    import shapely

    name = description.ground_truth.path.name
    parts, origins = shapely.get_parts(shapes, return_index=True)
    areal = np.isin(shapely.get_dimensions(parts), (0, 2)) & ~shapely.is_empty(parts)
    shapes, values, notes = parts[areal], values[origins[areal]], []
    if lines := np.count_nonzero(~areal):
        notes.append(f"{name}: {lines} lines or empty shapes are left out")
    given = np.array([value is not None and value == value for value in values], bool)
    if not given.all():
        notes.append(f"{name}: {np.count_nonzero(~given)} shapes have no {attribute}, left out")
    shapes, values = shapes[given], values[given]
    labels, names = _labels_and_names(description, values)
    known = labels != NOWHERE
    if not known.all():
        others = sorted(set(map(str, values[~known])))
        notes.append(f"{name}: left out, for 'classes' does not name them: {listed(others)}")
    return Drawn(shapes[known], labels[known], names, tuple(notes))


def _labels_and_names(
    description: Description, values: np.ndarray
) -> tuple[np.ndarray, dict[int, str] | None]:
    """Return each value's label: a number itself, a text by the order of the names.

    The names are those of the scene file, which may be fewer, or all texts in alphabetical order.
    """
    if values.dtype.kind in "biuf":
        numbers = values.astype(np.float64)
    else:
        texts = [str(value).strip() for value in values]
        if not all(text.isascii() and text.isdigit() for text in texts):
            named = description.classes
            first = 1 if 0 in description.ignored_label else 0
            if not isinstance(named, dict):
                named = dict(enumerate(named or sorted(set(texts)), first))
            label_of = {text: label for label, text in named.items()}
            labels = [label_of.get(text, NOWHERE) for text in texts]
            return np.array(labels, np.int64), named
        numbers = np.array(list(map(float, texts)))
    if not (np.isfinite(numbers) & (numbers == np.floor(numbers)) & (numbers >= 0)).all():
        wrong = numbers[(numbers != np.floor(numbers)) | (numbers < 0)][0]
        raise InputError(
            f"{description.ground_truth.path}: attribute '{description.ground_truth.attribute}' "
            f"holds {wrong:g}; labels are texts, or whole numbers from 0"
        )
    ignored = np.isin(numbers, description.ignored_label)
    return np.where(ignored, NOWHERE, numbers).astype(np.int64), None


def _reprojected(shapes: np.ndarray, source: str, target: str) -> np.ndarray:
    """Bring shapes into another reference system; those that have no place there become None."""
    import shapely
    from rasterio.warp import transform

    moved = shapely.transform(
        shapes, lambda places: np.stack(transform(source, target, *places.T), axis=1)
    )
    moved[~np.isfinite(shapely.bounds(moved)).all(axis=1)] = None
    return moved


def _burnt(drawn: Drawn, shape: tuple[int, int], grid: Grid) -> tuple[np.ndarray, int]:
    """Rasterise the shapes, and count the pixels in which different labels overlap.

    Returns int32 (rows, cols), 0 where there is none or more than one label, else which of the
    labels that occur, ascending, counted from 1.
    """
    from rasterio import Affine
    from rasterio.features import rasterize

    numbers = np.searchsorted(np.unique(drawn.labels), drawn.labels) + 1
    order = [i for i in np.argsort(numbers, kind="stable") if drawn.shapes[i] is not None]

    def burn(ordered: Iterable[int]) -> np.ndarray:
        pairs = [(drawn.shapes[i], int(numbers[i])) for i in ordered]
        if not pairs:
            return np.zeros(shape, np.int32)
        return rasterize(pairs, shape, transform=Affine(*grid.transform), dtype="int32")

    highest, lowest = burn(order), burn(order[::-1])  # of several in a pixel the last one stays
    different = highest != lowest
    return np.where(different, 0, highest), np.count_nonzero(different)


def _extent(info: dict) -> str:
    """Say from where to where something lies."""
    bounds = info.get("total_bounds")
    if bounds is None or not np.isfinite(bounds).all():
        return "no known area"
    west, south, east, north = bounds
    return f"x {west:.8g} to {east:.8g}, y {south:.8g} to {north:.8g}"


def _short(crs: str) -> str:
    return crs if len(crs) < 40 else crs.split('"')[1] if '"' in crs else crs[:40]
