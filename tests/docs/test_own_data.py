"""docs/own-data.md: its commands lead from a made-up field to a map that lies on it."""

import re
import shlex

import numpy as np
import pyogrio
import pytest
import rasterio
import yaml

from A2S2KResNet import A2S2KResNet
from baselines import SVM
from common.run.cli import main, run_script
from common.scenes.scene import load_scene
from common.scenes.scene_file import describe
from common.system.files import REPOSITORY
from tests.docs.pages import blocks, code, page, rows
from tests.run.test_scripts import read_report
from tests.scenes.test_array_file import save_geotiff
from tests.scenes.test_vector_labels import save_fields

PAGE = page("docs/own-data.md")
COMMANDS = [shlex.split(line) for block in blocks(PAGE, "sh") for line in block.splitlines()]
SHAPE, SIZE = (60, 48), 30.0
EAST, NORTH = 400_000.0, 5_800_000.0
PLACE = rasterio.Affine(SIZE, 0, EAST, 0, -SIZE, NORTH)
CROPS = ("Maize", "Oats", "Rye")  # in alphabetical order, as the page says
STRIP = 8  # rows of each crop, one after the other


def crops() -> np.ndarray:
    """Which of the crops grows where, 1..3."""
    return np.indices(SHAPE)[0] // STRIP % 3 + 1


def polygons():
    """Two polygons in each strip, a pixel from its edges."""
    import shapely

    shapes, values = [], []
    for top in range(0, SHAPE[0] - STRIP + 1, STRIP):
        for left in (1, 28):
            west, east = EAST + SIZE * left, EAST + SIZE * (left + 18)
            shapes.append(
                shapely.box(west, NORTH - SIZE * (top + STRIP - 1), east, NORTH - SIZE * (top + 1))
            )
            values.append(CROPS[top // STRIP % 3])
    return shapes, values


@pytest.fixture(scope="module")
def field(tmp_path_factory):
    """The page's field, where its commands have been run, with as little training as can be."""
    folder = tmp_path_factory.mktemp("field")
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(4, 40))
    cube = spectra[crops()] + 0.2 * generator.normal(size=(*SHAPE, 40))
    cube = (1000 + 100 * cube).astype(np.int16)
    cube[-3:] = -9999
    save_geotiff(folder / "field.tif", cube, crs="EPSG:32633", transform=PLACE)
    save_fields(folder / "fields.gpkg", *polygons(), 4326)
    (text,) = blocks(PAGE, "yaml")
    (folder / "field.yaml").write_text(text, "utf-8")
    short = {
        "baselines/SVM.py": [],
        "A2S2KResNet/A2S2KResNet.py": ["-e", "2", "-i", "1", "-k", "4", "-p", "2"],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for command in COMMANDS:
            if command[1] in short:
                script, flags = command[1], [*command[2:], *short[command[1]]]
                if script == "baselines/SVM.py":
                    assert run_script(SVM.SVM, SVM.DEFAULTS, flags) == 0
                else:
                    assert main(A2S2KResNet.A2S2KResNet, A2S2KResNet.DEFAULTS, flags) == 0
    return folder


def test_there_are_ten_steps():
    assert re.findall(r"^\*\*(\d+)\. ", PAGE, re.MULTILINE) == [str(n) for n in range(1, 11)]


def test_the_libraries_are_the_tested_ones():
    pinned = (REPOSITORY / "requirements-test.txt").read_text("utf-8").splitlines()
    assert COMMANDS[0][:4] == ["python", "-m", "pip", "install"]
    assert set(COMMANDS[0][4:]) <= set(pinned)


def test_the_scene_is_read_as_the_page_says(field):
    scene = load_scene(str(field / "field.yaml"))
    assert scene.class_names == CROPS
    labelled = scene.labels > 0
    assert (scene.labels == crops())[labelled].all()
    assert labelled.sum() > 500
    assert scene.notes == ()


def test_names_and_colours_of_the_text_can_be_written_so(field):
    text = re.sub("```.*?```", "", PAGE, flags=re.DOTALL)
    lines = [text for text in code(text) if text.startswith(("classes: ", "colours: "))]
    assert [line.split(":")[0] for line in lines] == ["classes", "colours"]
    path = field / "named.yaml"
    path.write_text("\n".join([(field / "field.yaml").read_text("utf-8"), *lines]), "utf-8")
    assert describe(str(path)).classes == ("Rye", "Oats", "Maize")
    scene = load_scene(str(path))
    assert (scene.labels == 4 - crops())[scene.labels > 0].all()
    assert yaml.safe_load(lines[1])["colours"] == list(scene.colours)


def test_the_network_is_tested_on_new_ground(field):
    report = read_report(field / "results" / "field")
    assert report["class_names"] == list(CROPS)
    assert report["split"]["test_patches_with_training_pixels"] == [0]


def test_the_map_lies_on_the_field_with_the_crops_names(field):
    run = field / "results" / "field_map" / "run_0"
    for name in ("map.tif", "map.tif.aux.xml", "confidence.tif"):
        assert name in PAGE
    with rasterio.open(run / "map.tif") as image:
        label_map = image.read(1)
        assert image.crs.to_epsg() == 32633
        assert image.transform == PLACE
        assert [image.tags(1)[f"class_{label}"] for label in (1, 2, 3)] == list(CROPS)
    np.testing.assert_array_equal(label_map == 0, np.indices(SHAPE)[0] >= SHAPE[0] - 3)
    names = (run / "map.tif.aux.xml").read_text("utf-8")
    assert all(f"<Category>{crop}</Category>" in names for crop in CROPS)
    with rasterio.open(run / "confidence.tif") as image:
        np.testing.assert_array_equal(np.isnan(image.read(1)), label_map == 0)


def test_messages_of_the_table_are_the_programs():
    said = [code(row[0])[0] for row in rows(PAGE)[2:]]
    assert len(said) > 10
    source = "".join(
        path.read_text("utf-8") for path in sorted((REPOSITORY / "common").rglob("*.py"))
    )
    source = re.sub(r'"\s+f?"', "", source)  # texts that go on in the next line
    source = source.replace("{FEWEST_PIXELS}", "3").replace("{WILD:,.0f}", "100,000")
    source = source.replace("{what} than", "other classes than")
    missing = [text for text in said if text not in source]
    assert missing == []


def test_the_layers_of_the_page_are_there(field):
    assert pyogrio.read_info(field / "fields.gpkg")["fields"].tolist()[0] == "crop"
