"""Two files that both state their place must state the same one."""

import dataclasses

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine
from rasterio.warp import transform_bounds

from common.scenes.georeference import (
    EnviPosition,
    GeotiffPosition,
    Raster,
    check_same_place,
    grid_of,
)
from common.scenes.scene import load_scene
from common.system.errors import InputError
from tests.samples.test_make_splits import splits_of, toy_scene
from tests.scenes.test_array_file import save_envi
from tests.scenes.test_read_labels import save_labels

UTM33 = CRS.from_epsg(32633).to_wkt()
HERE = (30.0, 0.0, 400_000.0, 0.0, -30.0, 5_800_000.0)
SHAPE = (40, 36)


def raster(name="cube.tif", shape=SHAPE, crs=UTM33, transform=HERE) -> Raster:
    return Raster(name, shape, GeotiffPosition(crs, transform))


def moved(rows=0.0, cols=0.0, scale=1.0, south_up=False) -> tuple[float, ...]:
    a, _, c, _, e, f = HERE
    x, y = c + cols * a, f + rows * e
    if south_up:
        return (a, 0, x, 0, -e, y + SHAPE[0] * e)
    return (a * scale, 0, x, 0, e * scale, y)


def in_other_system(code: int) -> Raster:
    """The cube's area, on a grid of another reference system."""
    a, _, c, _, e, f = HERE
    bounds = transform_bounds(UTM33, f"EPSG:{code}", c, f + 40 * e, c + 36 * a, f)
    west, south, east, north = bounds
    transform = ((east - west) / 36, 0, west, 0, (south - north) / 40, north)
    return raster("labels.tif", crs=CRS.from_epsg(code).to_wkt(), transform=transform)


ELSEWHERE = {
    "it starts 20 rows down and 0 columns to the right": raster(transform=moved(20)),
    "it starts -1 rows down and 2 columns to the right": raster(transform=moved(-1, 2)),
    "30×36 pixels of 40×36, it starts 5 rows down": raster(shape=(30, 36), transform=moved(5)),
    "30×20 pixels of 40×36, it starts 0 rows down": raster(shape=(30, 20)),
    "it is upside down": raster(transform=moved(south_up=True)),
    "its pixels are 2 by 2 of that one's": raster(shape=(20, 18), transform=moved(scale=2)),
    "left and right are changed round": raster(transform=(-30, 0, 401_080, 0, -30, 5_800_000)),
    "its rows and columns run in another direction": raster(
        transform=(0, 30, 400_000, 30, 0, 5_800_000)
    ),
    "y 5798800 to 5800000 (EPSG:32632), that one": raster(crs=CRS.from_epsg(32632).to_wkt()),
    "(EPSG:4326), that one": in_other_system(4326),
    "it is in another reference system; put": in_other_system(32632),
}


@pytest.mark.parametrize("message", ELSEWHERE)
def test_another_place_is_told_with_both_places(message):
    labels = ELSEWHERE[message]._replace(name="labels.tif")
    with pytest.raises(InputError) as caught:
        check_same_place(raster(), labels)
    text = str(caught.value)
    assert text.startswith("labels.tif: lies at another place than cube.tif: ")
    assert message in text
    assert "that one 40×36 pixels of 30×30, x 400000 to 401080, y 5798800 to 5800000" in text
    assert text.endswith("as with: rio warp labels.tif aligned.tif --like cube.tif")


SAME = {
    "the same": raster(),
    "half a pixel off, corner or centre": raster(transform=moved(0.5, 0.5)),
    "of a reference system that is nearly the same": raster(crs=CRS.from_epsg(25833).to_wkt()),
    "without a reference system": raster(crs=None),
    "without a place": Raster("labels.npy", SHAPE, None),
    "of a reference system that nobody knows": raster(crs="nonsense"),
    "by ground control points": Raster(
        "labels.tif", SHAPE, GeotiffPosition(UTM33, points=((0, 0, 1, 1, 0),))
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_place(kind):
    check_same_place(raster(), SAME[kind])
    check_same_place(SAME[kind], raster())


def envi(info: str, crs: str = "") -> EnviPosition:
    fields = {"map info": f"{{{info}}}"}
    return EnviPosition(fields | ({"coordinate system string": f"{{{crs}}}"} if crs else {}))


ENVI = {
    "UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, WGS-84, units=Meters": 32633,
    "UTM, 11, 6, 400300, 5799850, 30, 30, 33, North, WGS-84": 32633,
    "UTM, 1, 1, 400000, 5800000, 30, 30, 33, South, WGS-84": 32733,
    "UTM, 1, 1, 400000, 5800000, 30, 30, 33, North, North America 1927": None,
}


@pytest.mark.parametrize("info", ENVI)
def test_place_of_an_envi_header(info):
    grid = grid_of(envi(info))
    assert grid.transform == pytest.approx(HERE)
    assert grid.crs == (ENVI[info] and f"EPSG:{ENVI[info]}")
    assert grid_of(envi(info, UTM33)).crs == UTM33


def test_a_rotated_envi_header_is_read_as_gdal_reads_it(tmp_path):
    info = "UTM, 3, 2, 400000, 5800000, 30, 20, 33, North, WGS-84, rotation=20"
    metadata = {"map info": f"{{{info}}}"}
    save_envi(tmp_path / "cube.img", np.zeros((*SHAPE, 7), "i2"), metadata=metadata)
    with rasterio.open(tmp_path / "cube.img") as image:
        gdal = tuple(image.transform)[:6]
    assert grid_of(envi(info)).transform == pytest.approx(gdal, rel=1e-9)


@pytest.mark.parametrize(
    "info",
    [
        "Arbitrary, 1, 1, 0, 0, 1, 1, 0, North",
        "",
        "UTM",
        "UTM, 1, 1, x, 0, 30, 30, 33",
        "UTM, 1, 1, nan, 0, 30, 30, 33",
        "UTM, 1, 1, 0, 0, 0, 0, 33",
        "UTM, 1, 1, 0, 0, 30, 30, north, WGS-84",
    ],
)
def test_an_envi_header_that_says_no_place(info):
    assert grid_of(envi(info)) is None


@pytest.fixture
def field(tmp_path):
    """A scene with cube and labels as GeoTIFF at the same place."""
    labels = np.indices(SHAPE)[0] // 10
    cube = np.random.default_rng(0).normal(100, 9, (*SHAPE, 9)).astype(np.float32)
    place = {"crs": "EPSG:32633", "transform": Affine(*HERE)}
    save_labels(tmp_path / "cube.tif", cube, **place)
    save_labels(tmp_path / "labels.tif", labels.astype(np.uint8), **place)
    text = "name: Field\ncube: cube.tif\nground_truth: labels.tif\n"
    (tmp_path / "field.yaml").write_text(text, "utf-8")
    return tmp_path


def test_labels_shifted_or_cropped_are_refused(field):
    np.testing.assert_array_equal(
        load_scene(str(field / "field.yaml")).labels, np.indices(SHAPE)[0] // 10
    )
    labels = (np.indices(SHAPE)[0] // 10).astype(np.uint8)
    place = {"crs": "EPSG:32633", "transform": Affine(*moved(20))}
    save_labels(field / "labels.tif", labels, **place)
    with pytest.raises(InputError, match="it starts 20 rows down"):
        load_scene(str(field / "field.yaml"))
    save_labels(field / "labels.tif", labels[5:, 3:], crs="EPSG:32633", transform=Affine(*HERE))
    with pytest.raises(InputError, match="35×33 pixels of 40×36, it starts 0 rows down"):
        load_scene(str(field / "field.yaml"))


def test_split_maps_at_another_place_are_refused(field, tmp_path):
    labels = np.indices(SHAPE)[0] // 10
    save_labels(tmp_path / "train.tif", labels.astype("u1"), transform=Affine(*moved(1)))
    scene = dataclasses.replace(toy_scene(labels), georeference=GeotiffPosition(UTM33, HERE))
    with pytest.raises(InputError, match=r"train\.tif: lies at another place than toy\.npy"):
        splits_of(str(tmp_path / "train.tif"), str(tmp_path / "train.tif"), scene=scene)
