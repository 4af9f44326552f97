"""Files that are valid but odd, as real programs write them: read right, or told in one line."""

from pathlib import Path

import numpy as np
import pytest

from common.scenes.scene import Scene, load_scene
from common.system.errors import InputError
from tests.reliability.strange_files import CENTRES, CUBE, INSIDE, READ, TOLD, Write

FAULT = "a strange file"
HOW = (
    "files as real programs write them: bands and borders without data, units, headers, encodings, "
    "places, masks, labels in other forms, structs, axes; read right, or one line says what to do"
)


def load(folder: Path, write: Write) -> Scene:
    text = write(folder)
    (folder / "scene.yaml").write_text(f"name: Field\n{text}", "utf-8")
    maps = None
    if "ground_truth" not in text:
        maps = (f"{folder / 'train.mat'}:TR", f"{folder / 'test.mat'}:TE")
    return load_scene(str(folder / "scene.yaml"), split_maps=maps)


@pytest.mark.parametrize("name", READ)
def test_read_right(name, tmp_path, tried):
    write, labels, note = READ[name]
    scene = load(tmp_path, write)
    np.testing.assert_array_equal(scene.labels, labels)
    assert note in " ".join(scene.notes)
    assert note or scene.notes == ()
    if scene.wavelengths:
        np.testing.assert_allclose(scene.wavelengths, CENTRES, rtol=1e-5)
    expected = CUBE[..., list(scene.bands.used)][INSIDE > 0]
    if name == "scale and offset":
        expected = expected * 1e-4 + 0.1
    np.testing.assert_allclose(scene.cube[INSIDE > 0], expected, rtol=1e-6)
    tried(FAULT, HOW, 1)


@pytest.mark.parametrize("name", TOLD)
def test_told_in_one_line(name, tmp_path, tried):
    write, said = TOLD[name]
    with pytest.raises(InputError) as caught:
        load(tmp_path, write)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    tried(FAULT, HOW, 1)
