"""Maps written at the scene's place on the ground: read back here and by GDAL."""

import os
import shutil
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.crs import CRS
from spectral.io import envi

from common.scenes.array_file import open_array
from common.scenes.georeference import EnviPosition, GeotiffPosition
from common.scenes.map_file import Legend, map_writer
from common.system.files import REPOSITORY

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


def gdals_view(path):
    """What GDAL sees in a raster and what lies beside it, as the XML of a virtual one."""
    rasterio.shutil.copy(path, path.with_suffix(".vrt"), driver="VRT")
    return ElementTree.parse(path.with_suffix(".vrt")).getroot().find("VRTRasterBand")


def test_gdal_and_so_qgis_reads_the_classes_names_and_colours(tmp_path):
    legend = Legend((1, 2, 5), ("Asphalt", "Straße <&>", "水田"), COLOURS)
    write(tmp_path / "map", GEOTIFF, LABELS % 3, legend)
    band = gdals_view(tmp_path / "map.tif")
    categories = [category.text for category in band.find("CategoryNames")]
    assert categories == ["Unclassified", "Asphalt", "Straße <&>", None, None, "水田"]
    table = band.find("GDALRasterAttributeTable")
    rows = [[field.text for field in row] for row in table.findall("Row")]
    assert rows == [
        ["0", "Unclassified", "0", "0", "0"],
        ["1", "Asphalt", "255", "0", "0"],
        ["2", "Straße <&>", "0", "255", "0"],
        ["5", "水田", "0", "0", "255"],
    ]
    assert [field.find("Usage").text for field in table.findall("FieldDefn")] == list("52678")


def test_labels_of_many_digits_have_a_table_of_their_own(tmp_path):
    labels = np.where(LABELS == 1, 3301010101, 0)
    write(tmp_path / "map", GEOTIFF, labels, Legend((7, 3301010101), NAMES[:2], COLOURS[:2]))
    with rasterio.open(tmp_path / "map.tif") as image:
        assert image.dtypes == ("uint32",)
        np.testing.assert_array_equal(image.read(1), labels)
    band = gdals_view(tmp_path / "map.tif")
    assert band.find("CategoryNames") is None
    rows = band.find("GDALRasterAttributeTable").findall("Row")
    assert [float(row[0].text) for row in rows] == [0, 7, 3301010101]
    write(tmp_path / "envi", ENVI, labels, Legend((7, 3301010101), NAMES[:2], COLOURS[:2]))
    file = open_array(tmp_path / "envi.hdr")
    assert file.dtype == np.uint32
    np.testing.assert_array_equal(file.read(), labels)


@pytest.mark.parametrize("position", [GEOTIFF, ENVI])
def test_a_map_of_values(tmp_path, position):
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(SHAPE)
    values[2] = np.nan
    with map_writer(tmp_path / "confidence", SHAPE, position) as write_rows:
        write_rows(0, values)
    file = open_array(tmp_path / f"confidence.{'tif' if position is GEOTIFF else 'hdr'}")
    assert file.dtype == np.float32
    assert np.isnan(file.nodata)
    np.testing.assert_array_equal(file.read(), values)
    assert {path.suffix for path in tmp_path.iterdir()} <= {".tif", ".hdr", ".img"}


POINTS = ((0.0, 0.0, 400_000.0, 5_800_000.0, 0.0), (7.0, 0.0, 400_000.0, 5_799_790.0, 3.0))
POINTS += ((0.0, 5.0, 400_150.0, 5_800_000.0, 0.0),)
COEFFICIENTS = " ".join(["1", "0.5", *["0"] * 18])
RPCS = {
    f"{axis}_{part}_COEFF": COEFFICIENTS for axis in ("LINE", "SAMP") for part in ("NUM", "DEN")
}
RPCS |= {f"{name}_OFF": "3" for name in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")}
RPCS |= {f"{name}_SCALE": "7" for name in ("LINE", "SAMP", "LAT", "LONG", "HEIGHT")}


def test_place_by_ground_control_points(tmp_path):
    write(tmp_path / "map", GeotiffPosition(CRS.from_epsg(32633).to_wkt(), points=POINTS))
    found = open_array(tmp_path / "map.tif").georeference
    assert (found.transform, found.points) == (None, POINTS)
    with rasterio.open(tmp_path / "map.tif") as image:
        assert image.gcps[1].to_epsg() == 32633
    write(tmp_path / "again", found)
    assert open_array(tmp_path / "again.tif").georeference == found


def test_place_by_rational_polynomials(tmp_path):
    write(tmp_path / "map", GeotiffPosition(None, rpcs=tuple(RPCS.items())))
    found = open_array(tmp_path / "map.tif").georeference
    assert found.transform is None
    assert RPCS.items() <= dict(found.rpcs).items()
    with rasterio.open(tmp_path / "map.tif") as image:
        assert image.rpcs.lat_off == 3
    write(tmp_path / "again", found)
    assert open_array(tmp_path / "again.tif").georeference == found


WRITE_IN_A_LOCALE = """
import sys
from pathlib import Path
from common.scenes.map_file import Legend
from tests.scenes.test_georeference import ENVI, GEOTIFF, LABELS, write
assert sys.flags.utf8_mode == 0
names = ("\\u6c34\\u7530", "\\u5c0f\\u9ea6", "Stra\\u00dfe")
legend = Legend((1, 2, 3), names, ("#ff0000", "#00ff00", "#0000ff"))
write(Path(sys.argv[1], "envi"), ENVI, legend=legend)
write(Path(sys.argv[1], "tiff"), GEOTIFF, legend=legend)
"""


def test_names_in_chinese_are_written_as_utf8_whatever_the_locale(tmp_path):
    latin = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", WRITE_IN_A_LOCALE, str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, env=os.environ | latin, check=True)
    header = (tmp_path / "envi.hdr").read_text("utf-8")
    assert "class names = {Unclassified, 水田, 小麦, Straße}" in header
    categories = gdals_view(tmp_path / "tiff.tif").find("CategoryNames")
    assert [category.text for category in categories][1:] == ["水田", "小麦", "Straße"]


PROBABILITIES = np.random.default_rng(0).random((*SHAPE, 3), np.float32)


def write_bands(stem, position, values=PROBABILITIES):
    with map_writer(stem, SHAPE, position, bands=NAMES) as write_rows:
        for start in range(0, len(values), 3):
            write_rows(start, values[start : start + 3])


@pytest.mark.parametrize(("position", "name"), [(GEOTIFF, "p.tif"), (ENVI, "p.img")])
def test_bands_are_named_and_at_the_scenes_place(tmp_path, position, name):
    write_bands(tmp_path / "p", position)
    with rasterio.open(tmp_path / name) as image:
        assert image.crs.to_epsg() == 32633
        assert image.dtypes == ("float32",) * 3
        assert image.descriptions[0] == "Asphalt"
        assert image.descriptions[2] == "Wald"
        assert image.nodata is None  # 0 may be a probability
        np.testing.assert_array_equal(np.moveaxis(image.read(), 0, 2), PROBABILITIES)
    file = open_array(tmp_path / name)
    np.testing.assert_array_equal(file.read(), PROBABILITIES)


@pytest.mark.parametrize(("position", "name"), [(GEOTIFF, "p.tif"), (ENVI, "p.img")])
def test_rows_of_bands_never_written_are_zero(tmp_path, position, name):
    with map_writer(tmp_path / "p", SHAPE, position, bands=NAMES) as write_rows:
        write_rows(2, PROBABILITIES[2:3])
    values = open_array(tmp_path / name).read()
    np.testing.assert_array_equal(values[2], PROBABILITIES[2])
    assert not np.delete(values, 2, axis=0).any()


def test_bands_that_gdal_did_not_write_whole_are_told(tmp_path, monkeypatch):
    write = rasterio.io.DatasetWriter.write
    lost = lambda image, values, **place: write(image, 0 * values, **place)  # noqa: E731
    monkeypatch.setattr(rasterio.io.DatasetWriter, "write", lost)
    with pytest.raises(OSError, match="No space left on device"):
        write_bands(tmp_path / "p", GEOTIFF)
    assert not list(tmp_path.iterdir())


def test_bands_for_which_there_is_no_room_are_not_begun(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=400))
    with pytest.raises(OSError, match="No space left on device"):
        write_bands(tmp_path / "p", GEOTIFF)
    assert not list(tmp_path.iterdir())
