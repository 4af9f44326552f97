"""Reading scenes: both .mat versions, Indian Pines without files, and all that can be wrong."""

import h5py
import numpy as np
import pytest
import scipy.io
from matplotlib.colors import to_rgb

from common.scenes.array_file import open_array
from common.scenes.labels import RawLabels, labels_and_classes, values_in_maps
from common.scenes.scene import load_scene
from common.scenes.scene_file import SCENES, built_in, describe
from common.system.errors import InputError
from common.system.files import REPOSITORY
from tests.conftest import original

CUBE = np.arange(4 * 3 * 60, dtype=np.uint16).reshape(4, 3, 60)
LABELS = np.array([[0, 1, 1], [2, 2, 0], [9, 9, 0], [0, 0, 0]], np.uint8)


def write_scene(directory, cube=CUBE, labels=LABELS, cube_name="paviaU", labels_name="paviaU_gt"):
    scipy.io.savemat(directory / "PaviaU.mat", {cube_name: cube})
    scipy.io.savemat(directory / "PaviaU_gt.mat", {labels_name: labels})
    return str(directory)


def test_reads_version_5(tmp_path):
    scene = load_scene("UP", write_scene(tmp_path))
    np.testing.assert_array_equal(scene.cube, CUBE)
    np.testing.assert_array_equal(scene.labels, LABELS)
    assert scene.classes == 9
    assert scene.class_names[0] == "Asphalt"


def test_reads_version_73_with_matlab_axes(tmp_path):
    with h5py.File(tmp_path / "v73.mat", "w", userblock_size=512) as file:
        file["paviaU"] = CUBE.transpose()  # as MATLAB lays it out
    np.testing.assert_array_equal(open_array(tmp_path / "v73.mat", "paviaU").read(), CUBE)


def test_data_directory_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HSI_DATA_DIR", write_scene(tmp_path))
    assert load_scene("UP").cube.shape == CUBE.shape


def test_indian_pines_needs_no_file(tmp_path):
    scene = load_scene("IN", str(tmp_path))
    assert scene.cube.shape == (145, 145, 200)
    assert "tensorly" in scene.source
    counts = np.bincount(scene.labels.ravel())
    assert counts.tolist() == [
        10776, 46, 1428, 830, 237, 483, 730, 28, 478, 20, 972, 2455, 593, 205, 1265, 386, 93,
    ]  # fmt: skip


def test_indian_pines_from_tensorly_has_the_original_ground_truth(tmp_path):
    labels = open_array(original("Indian_pines_gt.mat"), "indian_pines_gt").read()
    np.testing.assert_array_equal(load_scene("IN", str(tmp_path)).labels, labels)


def test_real_pavia_crop_skips_a_class(tmp_path):
    for name, variable in [("PaviaU.mat", "paviaU"), ("PaviaU_gt.mat", "paviaU_gt")]:
        array = open_array(original("UPcrop.mat"), variable).read()
        scipy.io.savemat(tmp_path / name, {variable: array})
    scene = load_scene("UP", str(tmp_path))
    assert scene.cube.shape == (140, 80, 103)
    assert scene.classes == 9
    assert not (scene.labels == 3).any()


@pytest.mark.parametrize("key", SCENES)
def test_every_description_is_complete(key):
    description = describe(key)
    classes = {"IN": 16, "UP": 9, "KSC": 13, "SV": 16, "SA": 6, "BO": 14, "PC": 9}[key]
    assert len(description.classes) == classes
    colours = [to_rgb(colour) for colour in description.colours]
    assert len(set(colours)) == len(description.classes)
    assert (0, 0, 0) not in colours  # black is "unlabelled"
    named = {description.cube.path.name, description.ground_truth.path.name}
    assert {file["name"] for file in built_in(key)["files"]} == named


GROUND_TRUTHS = {
    "SA": ("SalinasA_gt.mat", {1: 391, 10: 1343, 11: 616, 12: 1525, 13: 674, 14: 799}),
    "BO": ("Botswana_gt.mat", {1: 270, 2: 101, 9: 314, 14: 95}),
    "PC": ("Pavia_gt.mat", {1: 65_971, 8: 42_826, 9: 2863}),
}


@pytest.mark.parametrize("key", GROUND_TRUTHS)
def test_names_are_those_of_the_original_labels(key):
    file, counts = GROUND_TRUTHS[key]
    description = describe(key)
    values = open_array(original(file), description.ground_truth.variable).read()
    found = labels_and_classes(description, RawLabels(original(file), values))
    np.testing.assert_array_equal(values_in_maps(found.file_labels)[found.labels], values)
    for label, count in counts.items():
        assert np.count_nonzero(values == label) == count
    assert found.names[-1] == {"SA": "Lettuce_romaine_7wk", "BO": "Exposed soils"}.get(
        key, "Shadows"
    )


def test_salinas_a_is_read_as_it_comes():
    folder = original("SalinasA_corrected.mat").parent
    scene = load_scene("SA", str(folder))
    assert scene.cube.shape == (83, 86, 204)
    assert (scene.classes, scene.file_labels) == (6, (1, 10, 11, 12, 13, 14))
    assert np.count_nonzero(scene.labels) == 5348


EXAMPLES = {  # rows, cols, bands and classes, as their owners state them
    "Houston2013": (349, 1905, 144, 15),
    "Trento": (166, 600, 63, 6),
    "LongKou": (550, 400, 270, 9),
    "HanChuan": (1217, 303, 274, 16),
    "HongHu": (940, 475, 270, 22),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_scene_files_to_fill_in(name):
    path = REPOSITORY / "examples" / "scenes" / f"{name}.yaml"
    rows, cols, bands, classes = EXAMPLES[name]
    description = describe(str(path))
    assert len(description.classes) == classes
    assert max(description.rgb_bands) < bands
    comment = " ".join(path.read_text("utf-8").replace("#", " ").split())
    assert f"{rows} × {cols} pixels, {bands} bands" in comment
    assert "Where to get it: " in comment
    with pytest.raises(InputError, match=f"{description.cube.path.name}: no such file"):
        load_scene(str(path))


def test_every_scene_file_to_fill_in_is_listed_here():
    assert {path.stem for path in (REPOSITORY / "examples/scenes").glob("*.yaml")} == set(EXAMPLES)


def test_missing_file_names_it_and_the_command(tmp_path, monkeypatch):
    cure = f"python -m common download UP --data-dir {tmp_path}"
    with pytest.raises(InputError, match=rf"PaviaU\.mat: no such file; fetch it with: {cure}$"):
        load_scene("UP", str(tmp_path))
    monkeypatch.setenv("HSI_DATA_DIR", str(tmp_path))
    with pytest.raises(InputError, match=r"PaviaU\.mat: no such file.*bash setup_script\.sh"):
        load_scene("UP")
    with pytest.raises(InputError, match=r"Pavia\.mat: no such file.*common download PC$"):
        load_scene("PC")


def test_unknown_scene_lists_the_known_ones():
    with pytest.raises(
        InputError, match="-d XY: unknown scene; choose IN, UP, KSC, SV, SA, BO, PC or name"
    ):
        load_scene("XY")


WRONG = {
    "no variable 'paviaU' in this file, which holds: cube .4×3×60.": {"cube_name": "cube"},
    "no variable 'paviaU_gt' in this file, which holds: gt .4×3.": {"labels_name": "gt"},
    "4×3×60 .rows × cols × bands., the ground truth 3×4; .* if one of them is transposed": {
        "labels": LABELS.T
    },
    "the cube is 4×3, not rows × cols × bands": {"cube": CUBE[:, :, 0]},
    "the array is empty .0×3×60.": {"cube": CUBE[:0], "labels": LABELS[:0]},
    "6 bands; the networks need at least 7": {"cube": CUBE[:, :, :6]},
    "ground truth holds 10; labels of 9 classes are 1..9; list other values under 'ignored": {
        "labels": LABELS + (LABELS > 2)
    },
    "the ground truth holds fractions": {"labels": np.where(LABELS < 2, LABELS + 0.5, LABELS)},
    "ground truth holds -1": {"labels": LABELS.astype(int) - 1},
    "fewer than two classes": {"labels": np.minimum(LABELS, 1)},
    "8 bands, but the false-colour picture needs band 54": {"cube": CUBE[:, :, :8]},
    "1 NaN values in 1 pixels of rows 0 to 3, first nan at row 0, column 0, band 5; replace": {
        "cube": np.where(CUBE == 5, np.nan, CUBE)
    },
    "'paviaU' is not an array of numbers": {"cube": "text"},
}


@pytest.mark.parametrize("message", WRONG)
def test_parts_that_do_not_fit_are_refused_in_one_line(tmp_path, message):
    with pytest.raises(InputError, match=message) as caught:
        load_scene("UP", write_scene(tmp_path, **WRONG[message]))
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"not a mat file", b"\x89HDF\r\n\x1a\n broken"])
def test_damaged_file_is_refused_in_one_line(tmp_path, content):
    write_scene(tmp_path)
    (tmp_path / "PaviaU.mat").write_bytes(content)
    with pytest.raises(InputError, match=r"PaviaU\.mat: not a readable \.mat file") as caught:
        load_scene("UP", str(tmp_path))
    assert "\n" not in str(caught.value)


def own_scene(tmp_path, cube=CUBE, labels=LABELS, more=""):
    """Load a scene of one's own from .npy files."""
    np.save(tmp_path / "cube.npy", cube)
    np.save(tmp_path / "truth.npy", labels)
    text = f"name: Field\ncube: cube.npy\nground_truth: truth.npy\n{more}"
    (tmp_path / "field.yaml").write_text(text, "utf-8")
    return load_scene(str(tmp_path / "field.yaml"))


THREE = np.array([[0, 1, 1], [2, 2, 0], [3, 3, 0], [0, 0, 0]], np.uint8)
FROM_0 = np.where(THREE, THREE.astype(int) - 1, 255).astype(np.uint8)


def test_own_scene_with_no_more_than_it_needs(tmp_path):
    scene = own_scene(tmp_path, labels=THREE)
    assert (scene.key, scene.name, scene.source) == ("Field", "Field", "cube.npy, truth.npy")
    assert scene.class_names == ("class 1", "class 2", "class 3")
    assert len(set(scene.colours)) == 3
    assert scene.rgb_bands == (50, 30, 10)
    np.testing.assert_array_equal(scene.labels, THREE)


def test_labels_are_read_by_the_scene_file_not_by_which_occur(tmp_path):
    more = "ignored_label: 255\nclasses: [a, b, c, d]"
    labels = np.where(FROM_0 == 0, 255, FROM_0).astype(np.uint8)
    whole, part = (own_scene(tmp_path, labels=array, more=more) for array in (FROM_0, labels))
    np.testing.assert_array_equal(part.labels, np.where(whole.labels == 1, 0, whole.labels))


def test_labels_from_0_with_255_ignored(tmp_path):
    scene = own_scene(tmp_path, labels=FROM_0, more="ignored_label: 255")
    np.testing.assert_array_equal(scene.labels, THREE)
    assert scene.class_names == ("class 0", "class 1", "class 2")
    named = own_scene(tmp_path, labels=FROM_0, more="ignored_label: 255\nclasses: [a, b, c, d]")
    np.testing.assert_array_equal(named.labels, THREE)
    assert named.class_names == ("a", "b", "c", "d")  # the last without a pixel


def test_several_ignored_labels(tmp_path):
    labels = np.where(THREE == 3, 200, THREE.astype(int))
    scene = own_scene(tmp_path, labels=labels, more="ignored_label: [0, 200]")
    np.testing.assert_array_equal(scene.labels, np.where(THREE == 3, 0, THREE))


EMPTY_CUBE = CUBE.astype(np.float32) + 1
EMPTY_CUBE[1, 0, 3] = EMPTY_CUBE[3] = np.nan
DARK = CUBE + 1
DARK[0, 1], DARK[1, 0, 3] = 0, 0  # a pixel without data; a dark band
NEGATIVE = CUBE.astype(np.int16)
NEGATIVE[1, 0] = NEGATIVE[3] = -9999


@pytest.mark.parametrize(
    ("cube", "nodata", "empty"),
    [(EMPTY_CUBE, "nan", (1, 0)), (DARK, "0", (0, 1)), (NEGATIVE, "-9999", (1, 0))],
)
@pytest.mark.parametrize("to_train", [True, False])
def test_pixels_without_data_are_not_labelled(tmp_path, cube, nodata, empty, to_train):
    own_scene(tmp_path, cube, THREE, f"nodata: {nodata}")
    scene = load_scene(str(tmp_path / "field.yaml"), to_train=to_train)
    expected = THREE.copy()
    expected[empty] = 0
    np.testing.assert_array_equal(scene.labels, expected)


def test_negative_pixels_may_be_data(tmp_path):
    scene = own_scene(tmp_path, NEGATIVE, THREE, "nodata: null")
    assert scene.nodata is None
    np.testing.assert_array_equal(scene.labels, THREE)


WRONG_OWN = {
    "cube.npy: 181 NaN values in 4 pixels of rows 0 to 3, first nan at row 1, column 0, band 3": {
        "cube": np.where(np.indices(CUBE.shape)[0] == 3, np.nan, EMPTY_CUBE)
    },
    "field.yaml: 4 pixels hold the same negative number in all bands, as at row 1, column 0; "
    "write 'nodata: -9999'": {"cube": NEGATIVE},
    "write 'nodata: -3.4028235e+38'": {
        "cube": np.where(NEGATIVE < 0, np.finfo(np.float32).min, NEGATIVE).astype(np.float32)
    },
    "is 60×4×3 (rows × cols × bands), the ground truth 4×3; they must have the same rows and "
    "columns; if its bands come first, write 'axes: [bands, rows, cols]'": {
        "cube": np.moveaxis(CUBE, 2, 0)
    },
    "if its bands lie between, write 'axes: [rows, bands, cols]'": {
        "cube": np.moveaxis(CUBE, 2, 1)
    },
    "if one of them is transposed, write 'axes: [cols, rows, bands]'": {
        "cube": CUBE.transpose(1, 0, 2)
    },
    "the ground truth 4×2; they must have the same rows and columns": {"labels": THREE[:, :2]},
    "truth.npy: ground truth holds 3; labels of 2 classes are 1..2; list other values under "
    "'ignored_label', or name all classes": {"more": "classes: [a, b]"},
    "truth.npy: ground truth holds 255; labels of 3 classes are 1..3; list": {
        "labels": FROM_0,
        "more": "classes: [a, b, c]",
    },
    "truth.npy: ground truth labels fewer than two classes": {"labels": np.minimum(THREE, 1)},
    "cube.npy: pixels with data are labelled with fewer than 2 classes; check 'nodata'": {
        "cube": np.where((THREE > 1)[..., None], 0, CUBE + 1),
        "more": "nodata: 0",
    },
    "the ground truth holds NaN; if that means unlabelled, write 'ignored_label: [0, nan]'": {
        "labels": np.where(THREE, THREE, np.nan)
    },
    "cube.npy: the cube has 60 bands, but the false-colour picture needs band 60 ('rgb_bands' "
    "count from 0)": {"more": "rgb_bands: [60, 2, 1]"},
    "field.yaml: 'colours' lists 1 for 3 classes": {"more": 'colours: ["#ff0000"]'},
    "field.yaml: 'wavelengths' lists 2, but the cube cube.npy has 60 bands": {
        "more": "wavelengths: [400, 500]"
    },
    "cube.npy: only .mat, HDF5 and NetCDF files have variables; leave out 'cube'": {
        "more": "cube: {path: cube.npy, variable: cube}"
    },
    "other.mat: no such file": {"more": "cube: other.mat"},
    ": a folder, not a file": {"more": "cube: ."},
    "field.yaml: unknown format; supported are .mat, .npy": {"more": "cube: field.yaml"},
}


@pytest.mark.parametrize("message", WRONG_OWN)
def test_own_scene_that_does_not_fit_is_refused_in_one_line(tmp_path, message):
    with pytest.raises(InputError) as caught:
        own_scene(tmp_path, **{"labels": THREE} | WRONG_OWN[message])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)
