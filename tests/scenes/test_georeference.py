"""Maps written at the scene's place on the ground: read back here and by GDAL."""

import numpy as np
import pytest
import rasterio
from rasterio.crs import CRS
from spectral.io import envi

from common.scenes.array_file import open_array
from common.scenes.georeference import EnviPosition, GeotiffPosition
from common.scenes.map_file import Legend, map_writer

SHAPE = (7, 5)
LABELS = np.arange(35).reshape(SHAPE) % 4
NAMES = ("Asphalt", "Corn, {no till}", "Wald")
COLOURS = ("#ff0000", "#00ff00", "#0000ff")
TRANSFORM = (9.4, 3.4, 500000.0, 3.4, -9.4, 5000000.0)  # rotated
GEOTIFF = GeotiffPosition(CRS.from_epsg(32633).to_wkt(), TRANSFORM)
ENVI = EnviPosition(
    {
        "map info": "{UTM, 1, 1, 500000, 5000000, 10, 10, 33, North, WGS-84}",
        "coordinate system string": f"{{{CRS.from_epsg(32633).to_wkt()}}}",
        "x start": "3",
    }
)


LEGEND = Legend((1, 2, 3), NAMES, COLOURS)


def write(stem, position, labels=LABELS, legend=LEGEND):
    with map_writer(stem, labels.shape, position, legend) as write_rows:
        for start in range(0, len(labels), 3):
            write_rows(start, labels[start : start + 3])


@pytest.mark.parametrize(
    ("position", "names"),
    [(GEOTIFF, ["map.tif", "map.tif.aux.xml"]), (ENVI, ["map.hdr", "map.img"])],
)
def test_map_reads_back_at_the_same_place(tmp_path, position, names):
    write(tmp_path / "map", position)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    file = open_array(tmp_path / names[0])
    assert file.dtype == np.uint8
    assert file.nodata == 0
    np.testing.assert_array_equal(file.read(), LABELS)
    write(tmp_path / "again", file.georeference)
    assert open_array(tmp_path / names[0].replace("map", "again")).georeference == file.georeference


def test_geotiff_map_as_gdal_sees_it(tmp_path):
    write(tmp_path / "map", GEOTIFF)
    with rasterio.open(tmp_path / "map.tif") as image:
        assert image.crs.to_epsg() == 32633
        assert tuple(image.transform)[:6] == TRANSFORM
        palette = image.colormap(1)
        assert [palette[label] for label in range(4)] == [
            (0, 0, 0, 0), (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)
        ]  # fmt: skip
        assert image.tags(1)["class_2"] == "Corn, {no till}"
        assert image.compression.value == "DEFLATE"


def test_envi_map_as_gdal_and_spectral_see_it(tmp_path):
    write(tmp_path / "map", ENVI)
    with rasterio.open(tmp_path / "map.img") as image:
        assert image.crs.to_epsg() == 32633
        assert (image.transform.c, image.transform.f) == (500000, 5000000)
        assert image.colormap(1)[2] == (0, 255, 0, 255)
    header = envi.read_envi_header(tmp_path / "map.hdr")
    assert header["file type"] == "ENVI Classification"
    assert header["classes"] == "4"
    assert header["class names"] == ["Unclassified", "Asphalt", "Corn- (no till)", "Wald"]
    assert " ".join(header["class lookup"]) == "0 0 0 255 0 0 0 255 0 0 0 255"
    assert header["x start"] == "3"


def test_position_of_an_envi_scene_reaches_its_map(tmp_path):
    metadata = {"map info": ["UTM", "1", "1", "500000", "5000000", "10", "10", "33", "South"]}
    cube = np.zeros((*SHAPE, 8), np.int16)
    envi.save_image(str(tmp_path / "scene.hdr"), cube, metadata=metadata)
    write(tmp_path / "map", open_array(tmp_path / "scene.img").georeference)
    assert envi.read_envi_header(tmp_path / "map.hdr")["map info"] == metadata["map info"]


@pytest.mark.parametrize("position", [GEOTIFF, ENVI])
def test_more_classes_than_a_byte_holds(tmp_path, position):
    labels = 10 * np.arange(35).reshape(SHAPE)
    legend = Legend(tuple(range(1, 341)), ("class",) * 340, ("#123456",) * 340)
    write(tmp_path / "map", position, labels, legend)
    file = open_array(tmp_path / ("map.tif" if position is GEOTIFF else "map.hdr"))
    assert file.dtype == np.uint16
    np.testing.assert_array_equal(file.read(), labels)


@pytest.mark.parametrize("position", [GEOTIFF, ENVI])
def test_rows_never_written_are_unclassified(tmp_path, position):
    with map_writer(tmp_path / "map", SHAPE, position, LEGEND) as write_rows:
        write_rows(2, np.ones((1, 5), np.uint8))
    labels = open_array(tmp_path / ("map.tif" if position is GEOTIFF else "map.hdr")).read()
    assert labels[2].all()
    assert labels.sum() == 5


@pytest.mark.parametrize("position", [GEOTIFF, ENVI])
def test_an_interrupted_map_leaves_what_was_there(tmp_path, position):
    write(tmp_path / "map", position)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(KeyboardInterrupt),
        map_writer(tmp_path / "map", SHAPE, position, LEGEND) as write_rows,
    ):
        write_rows(0, LABELS[:3] + 1)
        raise KeyboardInterrupt
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_map_of_unknown_projection_keeps_its_transform(tmp_path):
    write(tmp_path / "map", GeotiffPosition(None, TRANSFORM))
    assert open_array(tmp_path / "map.tif").georeference == GeotiffPosition(None, TRANSFORM)
