"""Which files a scene is read from: what its report has the checksums of."""

from pathlib import Path

import pytest

from common.scenes.files_of_scene import files_of_scene


def names(*arguments) -> list[str]:
    return [path.name for path in files_of_scene(*arguments)]


def written(folder: Path, scene: str, *files: str) -> str:
    for name in files:
        (folder / name).write_bytes(b"")
    (folder / "scene.yaml").write_text(scene, "utf-8")
    return str(folder / "scene.yaml")


def test_benchmark(toy_data):
    assert names("UP", str(toy_data)) == ["PaviaU.mat", "PaviaU_gt.mat"]


def test_indian_pines_of_the_library(tmp_path):
    pytest.importorskip("tensorly")
    found = files_of_scene("IN", str(tmp_path))
    assert [path.name for path in found] == ["Indian_pines_corrected.npy", "Indian_pines_gt.npy"]
    assert all(path.is_file() for path in found)


def test_one_file_for_both_is_named_once(tmp_path):
    both = "cube: {path: a.mat, variable: x}\nground_truth: {path: a.mat, variable: y}\n"
    key = written(tmp_path, f"name: A\n{both}classes: [a, b]\n", "a.mat")
    assert names(key) == ["scene.yaml", "a.mat"]


@pytest.mark.parametrize("named", ["a.hdr", "a.img"])
def test_envi_files_are_two(named, tmp_path):
    key = written(tmp_path, f"name: A\ncube: {named}\n", "a.hdr", "a.img")
    assert sorted(names(key)) == ["a.hdr", "a.img", "scene.yaml"]


def test_shapefiles_are_several(tmp_path):
    truth = "ground_truth: {path: f.shp, attribute: crop}\n"
    files = ("a.npy", "f.shp", "f.dbf", "f.shx", "f.prj", "f.txt")
    key = written(tmp_path, f"name: A\ncube: a.npy\n{truth}", *files)
    assert names(key) == ["scene.yaml", "a.npy", "f.shp", "f.dbf", "f.shx", "f.prj"]


def test_maps_of_a_fixed_split(tmp_path):
    key = written(tmp_path, "name: A\ncube: a.npy\n", "a.npy", "train.npy", "test.mat")
    maps = (str(tmp_path / "train.npy"), f"{tmp_path / 'test.mat'}:gt")
    assert names(key, None, maps) == ["scene.yaml", "a.npy", "train.npy", "test.mat"]
