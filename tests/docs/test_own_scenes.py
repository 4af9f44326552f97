"""docs/own-scenes.md: its example runs, and its keys are those that there are."""

import dataclasses
import json
import re

import numpy as np
import pytest
import scipy.io
import yaml

from A2S2KResNet.A2S2KResNet import DEFAULTS, A2S2KResNet
from common.run.cli import main
from common.scenes.array_file import open_array
from common.scenes.scene import load_scene
from common.scenes.scene_file import Description
from tests.docs.pages import blocks, code, page, rows
from tests.docs.test_results_folder import listed_files
from tests.scenes.test_array_file import save_geotiff

PAGE = page("docs/own-scenes.md")


@pytest.fixture
def own_scene(tmp_path, monkeypatch, toy_data):
    """A folder with the example's files, cut from the toy scene, where its commands are run."""
    for name, text in zip(("UPcrop.yaml", "field.yaml"), blocks(PAGE, "yaml"), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    scene = load_scene("UP", str(toy_data))
    labels = np.where(scene.labels == 3, 9, scene.labels)  # no pixel of class 3
    scipy.io.savemat(tmp_path / "UPcrop.mat", {"paviaU": scene.cube, "paviaU_gt": labels})
    cube = scene.cube.astype(np.int16)
    cube[5] = -9999
    save_geotiff(tmp_path / "field.tif", cube)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_example_of_an_own_scene_runs(own_scene):
    train, use = re.findall(r"^python A2S2KResNet/A2S2KResNet\.py (.*)$", PAGE, re.MULTILINE)
    assert main(A2S2KResNet, DEFAULTS, [*train.split(), "-e", "1", "-k", "4", "-p", "2"]) == 0
    report = json.loads((own_scene / "results/UPcrop/report.json").read_text("utf-8"))
    assert report["per_class"][0][2] is None
    assert main(A2S2KResNet, DEFAULTS, use.split()) == 0
    label_map = open_array(own_scene / "results/field/run_0/map.tif").read()
    assert (label_map[5] == 0).all()
    assert (np.delete(label_map, 5, axis=0) > 0).all()

    for out in (own_scene / "results/UPcrop", own_scene / "results/field"):
        left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        assert left <= listed_files()


def test_the_readme_has_the_same_example_without_its_colours():
    (short,), full = blocks(page("README.md"), "yaml"), blocks(PAGE, "yaml")[0]
    short, full = yaml.safe_load(short), yaml.safe_load(full)
    assert short.items() <= full.items()
    (command,) = re.findall(r"^python .*UPcrop\.yaml.*$", page("README.md"), re.MULTILINE)
    assert command in PAGE


def test_table_of_keys_is_that_of_scene_files():
    keys = [code(row[0])[0] for row in rows(PAGE) if row[0].startswith("`")]
    assert keys == [field.name for field in dataclasses.fields(Description)]
