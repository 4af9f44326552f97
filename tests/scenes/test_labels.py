"""Labels with gaps, from 0, of many digits; and what is no label."""

import numpy as np
import pytest
import scipy.io

from common.scenes.labels import (
    RawLabels,
    class_numbers,
    labels_and_classes,
    values_in_maps,
)
from common.scenes.scene import load_scene
from common.scenes.scene_file import describe
from common.system.errors import InputError
from tests.conftest import original

PLAIN = np.array([[0, 1, 1], [2, 2, 0], [3, 3, 3], [0, 0, 0]], np.uint8)


def found(tmp_path, values, more="", ignored=()):
    (tmp_path / "field.yaml").write_text(
        f"name: Field\ncube: x.npy\nground_truth: y.npy\n{more}", "utf-8"
    )
    raw = RawLabels(tmp_path / "y.npy", np.asarray(values), ignored)
    return labels_and_classes(describe(str(tmp_path / "field.yaml")), raw)


def with_labels(*labels) -> np.ndarray:
    """The plain map with other labels for 0, 1, 2 and 3."""
    return np.array(labels)[PLAIN]


GAPS = {
    "of Salinas-A": (0, 1, 10, 14),
    "without the first": (0, 2, 3, 4),
    "of land cover": (0, 111, 211, 512),
    "of crop codes": (0, 3301010101, 3301010301, 3301020000),
    "of the last that 32 bits hold": (0, 1, 2, 2**32 - 2),
}


@pytest.mark.parametrize("kind", GAPS)
@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_classes_are_called_by_their_labels(tmp_path, kind, dtype):
    labels = GAPS[kind]
    result = found(tmp_path, with_labels(*labels).astype(dtype))
    np.testing.assert_array_equal(result.labels, PLAIN)
    assert result.labels.dtype == np.int32
    assert result.file_labels == labels[1:]
    assert result.names == tuple(f"class {label}" for label in labels[1:])
    values = values_in_maps(result.file_labels)
    np.testing.assert_array_equal(values[result.labels], with_labels(*labels))
    np.testing.assert_array_equal(class_numbers(values[result.labels], values), PLAIN)


def test_labels_of_a_mapping_are_named_those_without_a_pixel_too(tmp_path):
    more = "classes: {1: Broccoli, 2: Soil, 10: Corn, 14: Lettuce}"
    result = found(tmp_path, with_labels(0, 1, 10, 14), more)
    assert result.names == ("Broccoli", "Soil", "Corn", "Lettuce")
    assert result.file_labels == (1, 2, 10, 14)
    np.testing.assert_array_equal(result.labels, with_labels(0, 1, 3, 4))


def test_salinas_a_comes_with_gaps():
    labels = scipy.io.loadmat(original("SalinasA_gt.mat"))["salinasA_gt"]
    assert np.unique(labels).tolist() == [0, 1, 10, 11, 12, 13, 14]


def test_where_0_is_a_class_maps_hold_one_more(tmp_path):
    result = found(tmp_path, with_labels(255, 0, 5, 7), "ignored_label: 255")
    assert result.file_labels == (0, 5, 7)
    assert values_in_maps(result.file_labels).tolist() == [0, 1, 6, 8]
    named = found(
        tmp_path, with_labels(9, 0, 5, 7), "ignored_label: 9\nclasses: {0: a, 5: b, 7: c}"
    )
    assert named.names == ("a", "b", "c")
    np.testing.assert_array_equal(named.labels, PLAIN)


def test_nothing_changes_for_labels_without_gaps(tmp_path):
    for more in ("", "classes: [a, b, c]", "classes: {1: a, 2: b, 3: c}"):
        result = found(tmp_path, PLAIN, more)
        assert result.file_labels == (1, 2, 3)
        np.testing.assert_array_equal(result.labels, PLAIN)
    values = values_in_maps((1, 2, 3))
    assert class_numbers(PLAIN, values) is PLAIN


WRONG = {
    "hold 255, which often means unlabelled; list it under 'ignored_label', or name all classes "
    "under 'classes' as {1: …, 255: …}": (with_labels(0, 1, 2, 255), ""),
    "3 pixels of the ground truth hold 65535": (with_labels(0, 1, 2, 65535), ""),
    "3 pixels of the ground truth hold 9999": (with_labels(0, 1, 2, 9999), ""),
    "ground truth holds 10; labels of 3 classes are 1..3; list other values under 'ignored_label', "
    "or name all classes under 'classes', as {label: name}": (
        with_labels(0, 1, 2, 10),
        "classes: [a, b, c]",
    ),
    "ground truth holds 2; 'classes' names 1, 10, 14; list": (
        with_labels(0, 1, 2, 10),
        "classes: {1: a, 10: b, 14: c}",
    ),
    "ground truth holds -1; labels of classes are 0..2³²-1; list": (with_labels(0, -1, 2, 3), ""),
    "ground truth holds 4294967296; labels": (with_labels(0, 1, 2, 2**32), ""),
    "ground truth holds -9999": (with_labels(0, 1, 2, -9999.0), ""),
    "holds NaN; if that means unlabelled, write 'ignored_label: [0, nan]'": (
        with_labels(np.nan, 1, 2, 3),
        "",
    ),
    "holds NaN; if that means unlabelled, write 'ignored_label: [255, nan]'": (
        with_labels(np.nan, 1, 2, 3),
        "ignored_label: 255",
    ),
    "holds fractions or infinity": (with_labels(0, 1, 2, 2.5), ""),
    "holds fractions or infinity ": (with_labels(0, 1, 2, np.inf), ""),
    "the ground truth holds 69999 different labels, but there can be no more than 65534": (
        np.arange(70_000).reshape(100, 700),
        "",
    ),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_label_is_told_in_one_line(tmp_path, message):
    values, more = WRONG[message]
    with pytest.raises(InputError) as caught:
        found(tmp_path, values, more)
    assert str(caught.value).startswith(f"{tmp_path / 'y.npy'}: ")
    assert message.strip() in str(caught.value)


@pytest.mark.parametrize(
    ("fill", "more"),
    [
        (np.nan, "ignored_label: nan"),
        (np.nan, "ignored_label: [0, nan]"),
        (-1, "ignored_label: -1"),
    ],
)
def test_values_that_the_scene_file_ignores(tmp_path, fill, more):
    result = found(tmp_path, with_labels(fill, 1, 2, 3), more)
    np.testing.assert_array_equal(result.labels, PLAIN)
    assert result.file_labels == (1, 2, 3)


@pytest.mark.parametrize("fill", [np.nan, 255, -9999])
def test_a_label_files_own_nodata_means_unlabelled(tmp_path, fill):
    result = found(tmp_path, with_labels(fill, 1, 2, 3), ignored=(fill,))
    np.testing.assert_array_equal(result.labels, PLAIN)


def test_scene_of_many_digits_end_to_end(tmp_path):
    labels = with_labels(0, 7, 3301010101, 3301020000)
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(4, 3, 9)))
    found(tmp_path, labels)
    scene = load_scene(str(tmp_path / "field.yaml"))
    assert scene.file_labels == (7, 3301010101, 3301020000)
    np.testing.assert_array_equal(scene.values_in_maps[scene.labels], labels)
