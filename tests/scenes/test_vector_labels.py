"""Polygons and points in vector files, put on the grid of a scene."""

import json
import sqlite3
import sys

import numpy as np
import pyogrio
import pytest
import rasterio
import shapely
from pyogrio.raw import write as write_layer
from rasterio.transform import Affine
from rasterio.warp import transform

from common.scenes.scene import load_scene
from common.system.errors import InputError
from tests.scenes.test_array_file import save_envi
from tests.scenes.test_read_labels import save_labels

SHAPE = (40, 36)
EAST, NORTH, SIZE = 400_000.0, 5_800_000.0, 30.0
HERE = Affine(SIZE, 0, EAST, 0, -SIZE, NORTH)
CUBE = np.random.default_rng(0).normal(100, 9, (*SHAPE, 9)).astype(np.float32)
FIELDS = {"Wheat": (2, 2, 12, 12), "Corn": (14, 2, 30, 12), "Oats": (2, 20, 12, 34)}


def box(top, left, bottom, right) -> shapely.Geometry:
    """Rows and columns of the scene as a polygon, edges on those of pixels."""
    return shapely.box(
        EAST + SIZE * left, NORTH - SIZE * bottom, EAST + SIZE * right, NORTH - SIZE * top
    )


def pixel(row, col) -> shapely.Geometry:
    return shapely.Point(EAST + SIZE * (col + 0.5), NORTH - SIZE * (row + 0.5))


def save_fields(path, shapes=None, values=None, crs=32633, kind="Unknown", **options):
    """Write shapes with an attribute crop, given in the scene's system, in another one."""
    shapes = [box(*field) for field in FIELDS.values()] if shapes is None else shapes
    values = list(FIELDS) if values is None else values
    if crs not in (None, 32633):
        shapes = shapely.transform(
            shapes, lambda p: np.stack(transform("EPSG:32633", f"EPSG:{crs}", *p.T), axis=1)
        )
    values = np.array(values, object if isinstance(values[0], str | None) else None)
    write_layer(
        path,
        shapely.to_wkb(np.array(shapes, object)),
        [values, np.arange(len(values))],
        ["crop", "number"],
        geometry_type=kind,
        crs=crs and f"EPSG:{crs}",
        **options,
    )


def scene_file(folder, truth="{path: fields.gpkg, attribute: crop}", more=""):
    if not (folder / "cube.tif").exists():
        save_labels(folder / "cube.tif", CUBE, crs="EPSG:32633", transform=HERE)
    text = f"name: Field\ncube: cube.tif\nground_truth: {truth}\n{more}"
    (folder / "field.yaml").write_text(text, "utf-8")
    return str(folder / "field.yaml")


def expected(order=("Corn", "Oats", "Wheat")) -> np.ndarray:
    labels = np.zeros(SHAPE, int)
    for label, name in enumerate(order, 1):
        top, left, bottom, right = FIELDS[name]
        labels[top:bottom, left:right] = label
    return labels


@pytest.mark.parametrize("crs", [32633, 4326, 3857, 25832])
@pytest.mark.parametrize("name", ["fields.gpkg", "fields.shp", "fields.geojson"])
def test_polygons_in_any_format_and_system(tmp_path, name, crs):
    save_fields(tmp_path / name, crs=crs)
    scene = load_scene(scene_file(tmp_path, f"{{path: {name}, attribute: crop}}"))
    np.testing.assert_array_equal(scene.labels, expected())
    assert scene.class_names == ("Corn", "Oats", "Wheat")
    assert scene.file_labels == (1, 2, 3)
    assert scene.source == f"cube.tif, {name}"
    assert scene.notes == ()


def test_points_label_the_pixel_they_lie_in(tmp_path):
    places = {"Rye": [(3, 4), (3, 5), (9, 9)], "Oats": [(20, 20), (21, 20), (0, 35)]}
    shapes = [pixel(*place) for where in places.values() for place in where]
    shapes[-1] = shapely.MultiPoint([shapes[-1], pixel(39, 0)])
    save_fields(tmp_path / "fields.gpkg", shapes, ["Rye"] * 3 + ["Oats"] * 3, 4326)
    scene = load_scene(scene_file(tmp_path))
    for label, name in enumerate(("Oats", "Rye"), 1):
        found = set(map(tuple, np.argwhere(scene.labels == label).tolist()))
        assert found == set(places[name]) | ({(39, 0)} if name == "Oats" else set())


def test_polygons_with_holes_and_points_together(tmp_path):
    ring = box(0, 0, 9, 9) - box(3, 3, 6, 6)
    shapes = [ring, shapely.MultiPolygon([box(20, 0, 22, 5), box(30, 0, 32, 5)]), pixel(4, 4)]
    save_fields(tmp_path / "fields.gpkg", shapes, ["a", "b", "b"])
    labels = load_scene(scene_file(tmp_path)).labels
    assert (labels == 1).sum() == 81 - 9
    assert (labels == 2).sum() == 21
    assert labels[4, 4] == 2


@pytest.mark.parametrize("values", [[3, 10, 7], [3.0, 10.0, 7.0], ["3", "10", "7"]])
def test_numbers_are_labels(tmp_path, values):
    save_fields(tmp_path / "fields.gpkg", values=values)
    scene = load_scene(scene_file(tmp_path))
    assert scene.file_labels == (3, 7, 10)
    assert scene.class_names == ("class 3", "class 7", "class 10")
    np.testing.assert_array_equal(scene.values_in_maps[scene.labels][20, 4], 10)
    named = load_scene(scene_file(tmp_path, more="classes: {3: a, 7: b, 10: c, 11: d}"))
    assert named.class_names == ("a", "b", "c", "d")


def test_0_may_be_a_class_too(tmp_path):
    save_fields(tmp_path / "fields.gpkg", values=[0, 1, 2])
    assert load_scene(scene_file(tmp_path)).file_labels == (1, 2)
    scene = load_scene(scene_file(tmp_path, more="ignored_label: []"))
    assert scene.file_labels == (0, 1, 2)
    assert (scene.labels > 0).sum() == (expected() > 0).sum()


def test_the_scene_files_names_say_order_and_which(tmp_path):
    save_fields(tmp_path / "fields.gpkg")
    scene = load_scene(scene_file(tmp_path, more="classes: [Wheat, Corn, Hops]"))
    assert scene.class_names == ("Wheat", "Corn", "Hops")
    np.testing.assert_array_equal(scene.labels, expected(("Wheat", "Corn")))
    assert scene.notes == ("fields.gpkg: left out, for 'classes' does not name them: Oats",)
    mapped = load_scene(scene_file(tmp_path, more="classes: {5: Oats, 9: Wheat}"))
    assert mapped.file_labels == (5, 9)
    np.testing.assert_array_equal(mapped.labels, expected(("Oats", "Wheat")))


def test_overlapping_polygons_of_different_classes_are_told(tmp_path):
    shapes = [box(0, 0, 10, 10), box(5, 5, 15, 15), box(8, 0, 12, 10), box(30, 30, 33, 33)]
    save_fields(tmp_path / "fields.gpkg", shapes, ["a", "b", "a", "c"])
    scene = load_scene(scene_file(tmp_path))
    assert scene.notes == (
        "fields.gpkg: 35 pixels lie in polygons of different classes and are left unlabelled",
    )
    a, b = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    a[:10, :10] = a[8:12, :10] = b[5:15, 5:15] = True
    np.testing.assert_array_equal(scene.labels == 1, a & ~b)
    np.testing.assert_array_equal(scene.labels == 2, b & ~a)


def test_classes_of_fewer_than_three_pixels_are_told(tmp_path):
    shapes = [box(0, 0, 9, 9), box(20, 0, 29, 9), box(35, 0, 36, 2), box(38, 8.2, 38.4, 8.4)]
    save_fields(tmp_path / "fields.gpkg", shapes, ["Rye", "Oats", "Hops", "Dill"])
    scene = load_scene(scene_file(tmp_path))
    assert (
        "classes of fewer than 3 pixels, which cannot be tested: Dill (0), Hops (2)"
        in (scene.notes[0])
    )


def test_what_labels_nothing_is_told(tmp_path):
    line = shapely.LineString([(EAST, NORTH), (EAST + 300, NORTH - 300)])
    shapes = [box(0, 0, 9, 9), box(20, 0, 29, 9), line, box(30, 30, 39, 35)]
    save_fields(tmp_path / "fields.gpkg", shapes, ["Rye", "Oats", "Rye", None])
    scene = load_scene(scene_file(tmp_path))
    assert scene.notes == (
        "fields.gpkg: 1 lines or empty shapes are left out",
        "fields.gpkg: 1 shapes have no crop, left out",
    )
    assert (scene.labels > 0).sum() == 162


def test_a_layer_of_several_is_named(tmp_path):
    save_fields(tmp_path / "fields.gpkg", layer="old")
    save_fields(tmp_path / "fields.gpkg", values=["a", "b", "c"], layer="new", append=True)
    with pytest.raises(InputError, match=r"say which layer to read under 'variable'.*: old, new"):
        load_scene(scene_file(tmp_path))
    truth = "{path: fields.gpkg, variable: new, attribute: crop}"
    assert load_scene(scene_file(tmp_path, truth)).class_names == ("a", "b", "c")


def test_on_an_envi_cube_and_one_that_is_mapped_by_rows(tmp_path):
    info = f"UTM, 1, 1, {EAST}, {NORTH}, {SIZE}, {SIZE}, 33, North, WGS-84"
    save_envi(tmp_path / "cube.img", CUBE, metadata={"map info": f"{{{info}}}"})
    save_fields(tmp_path / "fields.gpkg", crs=4326)
    file = scene_file(tmp_path, more="cube: cube.img\n")
    text = (tmp_path / "field.yaml").read_text("utf-8").replace("cube: cube.tif\n", "")
    (tmp_path / "field.yaml").write_text(text, "utf-8")
    np.testing.assert_array_equal(load_scene(file, to_train=False).labels, expected())


def save_without_place(folder):
    save_labels(folder / "cube.tif", CUBE)
    save_fields(folder / "fields.gpkg")


def save_without_system(folder):
    save_labels(folder / "cube.tif", CUBE, transform=HERE)
    save_fields(folder / "fields.gpkg")


def save_by_points(folder):
    points = [
        rasterio.control.GroundControlPoint(r, c, EAST + c, NORTH - r) for r, c in np.eye(3, 2)
    ]
    save_labels(folder / "cube.tif", CUBE, gcps=points, crs="EPSG:32633")
    save_fields(folder / "fields.gpkg")


def as_view(folder):
    save_fields(folder / "fields.gpkg")
    with sqlite3.connect(folder / "fields.gpkg") as database:
        database.execute("CREATE VIEW crops AS SELECT * FROM fields")
        for table in ("gpkg_contents", "gpkg_geometry_columns"):
            database.execute(f"UPDATE {table} SET table_name = 'crops'")
    database.close()


def far_away(folder):
    save_fields(folder / "fields.gpkg", [box(1000, 0, 1009, 9), box(2000, 0, 2009, 9)], ["a", "b"])


CROP = "{path: fields.gpkg, attribute: crop}"
WRONG = {
    "states no reference system; set it in a GIS program": (
        lambda folder: save_fields(folder / "fields.gpkg", crs=None),
        CROP,
    ),
    "nothing lies inside the scene: the file covers x 400000 to 400270, y 5739730 to 5770000 "
    "(EPSG:32633), the scene x 400000 to 401080, y 5798800 to 5800000 there": (far_away, CROP),
    "no attribute 'corp'; this file has: crop, number": (
        lambda folder: save_fields(folder / "fields.gpkg"),
        "{path: fields.gpkg, attribute: corp}",
    ),
    "say which attribute holds the classes, as {path: FILE, attribute: NAME}; this file has": (
        lambda folder: save_fields(folder / "fields.gpkg"),
        "fields.gpkg",
    ),
    "cannot be put on the scene: cube.tif states no place": (save_without_place, CROP),
    "cannot be put on the scene: cube.tif states no place ": (save_by_points, CROP),
    "cannot be put on the scene: cube.tif states no reference system": (save_without_system, CROP),
    "attribute 'crop' holds 1.5; labels are texts, or whole numbers from 0": (
        lambda folder: save_fields(folder / "fields.gpkg", values=[1.5, 2, 3]),
        CROP,
    ),
    "attribute 'crop' holds -3; labels": (
        lambda folder: save_fields(folder / "fields.gpkg", values=[1, 2, -3]),
        CROP,
    ),
    "ground truth labels fewer than two classes": (
        lambda folder: save_fields(folder / "fields.gpkg", values=["a", "a", "a"]),
        CROP,
    ),
    "no 'crops'; this file holds: fields": (
        lambda folder: save_fields(folder / "fields.gpkg"),
        "{path: fields.gpkg, variable: crops, attribute: crop}",
    ),
    "layer 'crops' is a view; save it as a table": (
        as_view,
        "{path: fields.gpkg, variable: crops, attribute: crop}",
    ),
    "fields.gpkg: no such file": (lambda folder: None, CROP),
    "not a readable .gpkg file": (
        lambda folder: (folder / "fields.gpkg").write_text("<OGRVRTDataSource/>", "utf-8"),
        CROP,
    ),
    "only vector files (.gpkg, .shp, .geojson, .json) have attributes; leave out 'crop'": (
        lambda folder: np.save(folder / "fields.npy", expected()),
        "{path: fields.npy, attribute: crop}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("message", WRONG)
def test_what_is_wrong_is_told_in_one_line(tmp_path, message):
    make, truth = WRONG[message]
    make(tmp_path)
    with pytest.raises(InputError) as caught:
        load_scene(scene_file(tmp_path, truth))
    assert message.strip() in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_only_the_ground_truth_has_an_attribute(tmp_path):
    (tmp_path / "x.yaml").write_text("name: F\ncube: {path: x.gpkg, attribute: a}\n", "utf-8")
    with pytest.raises(InputError, match=r"'cube' must be \{path: FILE, variable: NAME\}"):
        load_scene(str(tmp_path / "x.yaml"))


@pytest.mark.parametrize("missing", ["pyogrio", "shapely", "rasterio.features"])
def test_a_missing_library_is_named_with_what_to_install(tmp_path, monkeypatch, missing):
    save_fields(tmp_path / "fields.gpkg")
    file = scene_file(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(InputError, match=r"\(the extra 'vector'\): pip install pyogrio"):
        load_scene(file)


def test_geojson_without_a_stated_system_is_in_degrees(tmp_path):
    save_fields(tmp_path / "fields.geojson", crs=4326)
    content = json.loads((tmp_path / "fields.geojson").read_text("utf-8"))
    content.pop("crs", None)
    (tmp_path / "fields.json").write_text("\ufeff  " + json.dumps(content), "utf-8")
    scene = load_scene(scene_file(tmp_path, "{path: fields.json, attribute: crop}"))
    np.testing.assert_array_equal(scene.labels, expected())


def test_of_a_large_file_only_what_lies_inside_is_read(tmp_path, monkeypatch):
    far = [box(1000 + n, 0, 1001 + n, 9) for n in range(500)]
    inside = [box(*field) for field in FIELDS.values()]
    save_fields(tmp_path / "fields.gpkg", inside + far, [*FIELDS, *["Hops"] * 500], 4326)
    read, counts = pyogrio.raw.read, []

    def counted(*arguments, **options):
        result = read(*arguments, **options)
        counts.append(len(result[2]))
        return result

    monkeypatch.setattr(pyogrio.raw, "read", counted)
    assert load_scene(scene_file(tmp_path)).class_names == ("Corn", "Oats", "Wheat")
    assert counts == [3]
