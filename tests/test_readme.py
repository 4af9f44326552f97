"""The README says what the project does: its table, its flags, its files."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
import scipy.io

from A2S2KResNet.A2S2KResNet import DEFAULTS, A2S2KResNet
from common.reporting.report import report_text
from common.reporting.results_folder import RUN_FILES
from common.run.cli import build_parser, main
from common.scenes.array_file import open_array
from common.scenes.scene import load_scene
from common.scenes.scene_file import Description
from common.system.files import REPOSITORY
from common.tables import readme_tables
from tests.scenes.test_array_file import save_geotiff

PUBLISHED = REPOSITORY / "results" / "published"
README = (REPOSITORY / "README.md").read_text()


def test_results_table_is_made_from_the_reports():
    assert readme_tables.main(["--check"]) == 0


@pytest.mark.parametrize("table", ["results", "splits", "speed", "reliability"])
def test_an_old_table_is_noticed(table, tmp_path, monkeypatch, capsys):
    end = readme_tables.END.format(table)
    old = README.replace(end, "| made up |\n" + end)
    assert old != README
    (tmp_path / "README.md").write_text(old)
    for folder in ("results/published", "benchmarks/results"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.setattr(readme_tables, "REPOSITORY", tmp_path)
    assert readme_tables.main(["--check"]) == 1
    assert "its tables are old" in capsys.readouterr().err
    assert readme_tables.main([]) == 0
    assert (tmp_path / "README.md").read_text() == README


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/report.json")))
def test_published_texts_say_what_the_reports_hold(path):
    assert path.with_name("report.txt").read_text() == report_text(json.loads(path.read_text()))


def test_flag_table_lists_every_flag_and_no_other():
    parser = build_parser(DEFAULTS)
    actual = {flag for action in parser._actions for flag in action.option_strings}
    rows = re.findall(r"^\| `-.*?\|", README, flags=re.MULTILINE)
    listed = {flag for row in rows for flag in re.findall(r"`(--?[a-zA-Z_-]+)", row)}
    assert listed == actual - {"-h", "--help"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_linked_files_exist(path):
    assert (REPOSITORY / path).is_file()


def own_scene_section() -> str:
    return README.split("\n## Your own scene\n")[1].split("\n## ")[0]


@pytest.fixture
def own_scene(tmp_path, monkeypatch, toy_data):
    """A folder with the example's files, cut from the toy scene, where its commands are run."""
    for name, text in zip(
        ("UPcrop.yaml", "field.yaml"),
        re.findall(r"```yaml\n(.*?)```", own_scene_section(), flags=re.DOTALL),
        strict=True,
    ):
        (tmp_path / name).write_text(text)
    scene = load_scene("UP", str(toy_data))
    labels = np.where(scene.labels == 3, 9, scene.labels)  # no pixel of class 3
    scipy.io.savemat(tmp_path / "UPcrop.mat", {"paviaU": scene.cube, "paviaU_gt": labels})
    cube = scene.cube.astype(np.int16)
    cube[5] = -9999
    save_geotiff(tmp_path / "field.tif", cube)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_example_of_an_own_scene_runs(own_scene, capsys):
    train, use = re.findall(r"^python A2S2KResNet/A2S2KResNet\.py (.*)$", own_scene_section(), re.M)
    assert main(A2S2KResNet, DEFAULTS, [*train.split(), "-e", "1", "-k", "4", "-p", "2"]) == 0
    report = json.loads((own_scene / "results/UPcrop/report.json").read_text())
    assert report["per_class"][0][2] is None
    assert main(A2S2KResNet, DEFAULTS, use.split()) == 0
    label_map = open_array(own_scene / "results/field/run_0/map.tif").read()
    assert (label_map[5] == 0).all()
    assert (np.delete(label_map, 5, axis=0) > 0).all()


def test_table_of_keys_is_that_of_scene_files():
    keys = re.findall(r"^\| `(\w+)` \|", own_scene_section(), flags=re.MULTILINE)
    assert keys == [field.name for field in dataclasses.fields(Description)]


def test_files_of_a_run_are_listed():
    section = README.split("\n## What a run leaves\n")[1].split("\n## ")[0]
    listed = set(re.findall(r"`(?:run_<n>/)?([\w.]+)`", section))
    assert set(RUN_FILES) <= listed
