"""A ground truth in the forms in which people have one, and the maps of a split."""

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io

from common.scenes.scene import load_scene
from common.system.errors import InputError

LABELS = (np.arange(48).reshape(8, 6) // 3) % 4  # 0..3
CUBE = np.random.default_rng(0).normal(100, 9, (8, 6, 9))
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 128, 0), (0, 0, 255)], np.uint8)


def write(folder, labels, more="", name="truth.npy", **options):
    """Write a scene with this ground truth; return it, read."""
    np.save(folder / "cube.npy", CUBE)
    if name.endswith(".tif"):
        save_labels(folder / name, labels, **options)
    else:
        np.save(folder / name, labels)
    text = f"name: Field\ncube: cube.npy\nground_truth: {name}\n{more}"
    (folder / "field.yaml").write_text(text, "utf-8")
    return load_scene(str(folder / "field.yaml"))


def save_labels(path, labels, mask=None, **options):
    layers = labels[None] if labels.ndim == 2 else np.moveaxis(labels, 2, 0)
    count, height, width = layers.shape
    size = {"count": count, "height": height, "width": width, "dtype": layers.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as image:
        image.write(layers)
        if mask is not None:
            image.write_mask(mask)


@pytest.mark.parametrize(
    ("fill", "dtype"),
    [
        (255, "u1"),
        (-9999, "i2"),
        (-9999, "f4"),
        (np.nan, "f4"),
        (-3.4e38, "f8"),
        (-3.4e38, "f4"),
        (65535, "u2"),
    ],
)
def test_nodata_of_a_label_file_is_unlabelled(tmp_path, fill, dtype):
    labels = np.where(LABELS == 0, fill, LABELS).astype(dtype)
    scene = write(tmp_path, labels, name="truth.tif", nodata=fill)
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.file_labels == (1, 2, 3)
    assert scene.notes == ()


def test_0_beside_another_nodata_is_noted(tmp_path):
    labels = np.where(LABELS == 3, 255, LABELS).astype(np.uint8)
    scene = write(tmp_path, labels, name="truth.tif", nodata=255)
    np.testing.assert_array_equal(scene.labels, np.where(LABELS == 3, 0, LABELS))
    (note,) = scene.notes
    assert "12 pixels hold its nodata value, 255, and 12 hold 0; both are taken as unlabel" in note
    assert note.endswith("if 0 is a class, write 'ignored_label: []'")
    as_class = write(tmp_path, labels, "ignored_label: []", "truth.tif", nodata=255)
    assert (as_class.file_labels, as_class.notes) == ((0, 1, 2), ())


def test_0_beside_several_values_of_no_data_is_noted(tmp_path):
    np.save(tmp_path / "cube.npy", CUBE)
    with h5py.File(tmp_path / "truth.nc", "w") as file:
        file["labels"] = np.where(LABELS == 3, 255, LABELS).astype(np.int16)
        file["labels"].attrs.update({"_FillValue": np.int16(255), "missing_value": np.int16(-1)})
    text = "name: Field\ncube: cube.npy\nground_truth: truth.nc\n"
    (tmp_path / "field.yaml").write_text(text, "utf-8")
    (note,) = load_scene(str(tmp_path / "field.yaml")).notes
    assert "12 pixels hold its nodata value, 255, -1, and 12 hold 0" in note


def test_masked_pixels_of_a_label_file_are_unlabelled(tmp_path):
    mask = np.ones(LABELS.shape, bool)
    mask[2:4] = False
    scene = write(tmp_path, LABELS.astype("u1"), name="truth.tif", mask=mask)
    np.testing.assert_array_equal(scene.labels, np.where(mask, LABELS, 0))


PICTURE = COLOURS[LABELS]
NAMES = 'colours: ["#ff0000", "#008000", "#0000ff"]\n'
TRANSPARENT = np.dstack([np.where(LABELS[..., None], PICTURE, 9), np.where(LABELS, 255, 0)])


PICTURES = {
    "bytes": PICTURE,
    "with an alpha channel": TRANSPARENT.astype(np.uint8),
    "MATLAB's numbers": PICTURE.astype(float),
    "from 0 to 1": (PICTURE / 255).astype(np.float32),
    "words": PICTURE.astype(np.uint16),
}


@pytest.mark.parametrize("name", ["truth.npy", "truth.tif"])
@pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)
def test_a_picture_is_read_by_the_scene_files_colours(tmp_path, picture, name):
    np.testing.assert_array_equal(write(tmp_path, picture, NAMES, name).labels, LABELS)
    mapping = f"{NAMES}classes: {{1: a, 10: b, 14: c}}"
    scene = write(tmp_path, picture, mapping, name)
    assert scene.file_labels == (1, 10, 14)
    np.testing.assert_array_equal(scene.labels, LABELS)


def test_a_white_background_is_unlabelled_unless_it_is_listed(tmp_path):
    white = np.where(LABELS[..., None], PICTURE, 255).astype(np.uint8)
    np.testing.assert_array_equal(write(tmp_path, white, NAMES).labels, LABELS)
    listed = 'colours: ["#ff0000", "#008000", "#0000ff", "#ffffff"]'
    np.testing.assert_array_equal(
        write(tmp_path, white, listed).labels, np.where(LABELS, LABELS, 4)
    )


def test_a_scene_of_many_colours_finds_each(tmp_path):
    assert write(tmp_path, PICTURE, "colours: [red, green, blue]").colours[1] == "#008000"


WHOLE = np.eye(4, dtype=np.uint8)[LABELS]  # a layer for 0 too
LAYERS = {
    "one-hot of all labels": (WHOLE, "", LABELS),
    "one-hot, as floats": (WHOLE.astype(np.float32), "", LABELS),
    "a mask for each class": (WHOLE[..., 1:], "", LABELS),
    "a mask for each class, as booleans": (WHOLE[..., 1:].astype(bool), "", LABELS),
    "as many names as layers": (WHOLE, "classes: [a, b, c, d]", LABELS + 1),
    "one name fewer than layers": (WHOLE, "classes: [a, b, c]", LABELS),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_layers_of_0_and_1_are_classes(tmp_path, kind):
    layers, more, expected = LAYERS[kind]
    np.testing.assert_array_equal(write(tmp_path, layers, more).labels, expected)


WRONG = {
    "colour picture; list the colour of each class, \"#rrggbb\" in label order, under 'colours'": (
        PICTURE,
        "",
    ),
    "with colours that 'colours' does not list: #0000ff in 12 pixels": (
        PICTURE,
        "colours: [red, green]",
    ),
    "'colours' gives several classes the colour #ff0000": (PICTURE, "colours: [red, green, red]"),
    "the ground truth has 5 layers; it must be one of labels, a colour picture of 8 bits, or a": (
        np.dstack([LABELS] * 5),
        "",
    ),
    "the ground truth has 4 layers": (WHOLE * 2.5, ""),
    "the ground truth has 4 layers; ": (np.maximum(WHOLE, WHOLE[..., ::-1]).astype("f4"), ""),
    "the ground truth has 4 layers;  ": (WHOLE * 0.3, ""),
    "the ground truth has 3 layers": (np.where(PICTURE == 255, np.nan, PICTURE), ""),
    "the ground truth 3×8×6; they must have the same rows and columns": (
        np.moveaxis(PICTURE, 2, 0),
        "",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_other_layers_are_told_in_one_line(tmp_path, message):
    with pytest.raises(InputError) as caught:
        write(tmp_path, *WRONG[message])
    assert message.strip() in str(caught.value)
    assert "truth.npy" in str(caught.value)


def union(folder, train, test, more=""):
    scipy.io.savemat(folder / "sf.mat", {"input": CUBE, "TR": train, "TE": test})
    text = f"name: Field\ncube: {{path: sf.mat, variable: input}}\n{more}"
    (folder / "field.yaml").write_text(text, "utf-8")
    maps = (f"{folder / 'sf.mat'}:TR", f"{folder / 'sf.mat'}:TE")
    return load_scene(str(folder / "field.yaml"), split_maps=maps)


def test_without_ground_truth_it_is_the_union_of_both_split_maps(tmp_path):
    labels = np.array([0, 1, 10, 14])[LABELS]
    train, test = labels.copy(), labels.astype(float)
    train[4:], test[:4] = 0, np.nan
    scene = union(tmp_path, train, test)
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.file_labels == (1, 10, 14)
    ignored = union(tmp_path, np.where(train == 0, 255, train), test, "ignored_label: [0, 255]")
    np.testing.assert_array_equal(ignored.labels, LABELS)
    named = union(tmp_path, train, test, "classes: {1: a, 10: b, 14: c}")
    assert named.class_names == ("a", "b", "c")


def test_a_ground_truth_counts_more_than_the_maps(tmp_path):
    np.save(tmp_path / "truth.npy", LABELS)
    scene = union(tmp_path, LABELS * 0, LABELS * 0, "ground_truth: truth.npy")
    np.testing.assert_array_equal(scene.labels, LABELS)


def test_maps_that_disagree_are_told(tmp_path):
    with pytest.raises(InputError, match="12 pixels have one label in the first map and another"):
        union(tmp_path, LABELS, np.where(LABELS == 3, 1, LABELS))
    with pytest.raises(InputError, match=r"if 255 means .*, write 'ignored_label: \[0, 255\]'"):
        union(tmp_path, np.where(LABELS == 3, 255, LABELS), LABELS)
