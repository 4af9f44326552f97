"""The released code's split, bit for bit."""

import json

import numpy as np
import pytest

from common.samples.random_split import authors_training_count, random_split
from common.scenes.array_file import open_array
from common.scenes.scene import load_scene
from common.system.errors import InputError
from tests.conftest import GOLDEN, original, toy_labels

SPLITS = json.loads((GOLDEN / "splits.json").read_text("utf-8"))
TOY = next(key for key in SPLITS if key.startswith("toy"))
VARIABLES = {
    "IN": ("Indian_pines_gt.mat", "indian_pines_gt"),
    "UP": ("PaviaU_gt.mat", "paviaU_gt"),
    "KSC": ("KSC_gt.mat", "KSC_gt"),
}


def check_against_golden(labels: np.ndarray, key: str) -> None:
    for golden in SPLITS[key]:
        split = random_split(labels, valid_split=0.9, seed=golden["seed"])
        for part in ("train", "val", "test"):
            assert len(getattr(split, part)) == golden[part]
            assert split.sha256()[part] == golden[f"{part}_sha256"]
        assert split.train[:8].tolist() == golden["train_head"]
        assert split.test[:8].tolist() == golden["test_head"]
        counts = np.bincount(labels.ravel()[split.train])[1:]
        assert counts.tolist() == golden["train_per_class"]


def test_toy_scene():
    check_against_golden(toy_labels(), TOY)


def test_indian_pines(tmp_path):
    check_against_golden(load_scene("IN", str(tmp_path)).labels, "IN")


@pytest.mark.parametrize("key", VARIABLES)
def test_original_ground_truth_files(key):
    file, variable = VARIABLES[key]
    labels = open_array(original(file), variable).read().astype(np.int64)
    check_against_golden(labels, key)


AUTHORS = json.loads((GOLDEN / "splits_authors.json").read_text("utf-8"))["ssrn_authors"]


@pytest.mark.parametrize(
    ("key", "valid_split", "validation"), [("IN", 0.8, 0.1), ("IN", 0.8, 1025), ("UP", 0.9, None)]
)
def test_split_of_ssrns_authors(key, valid_split, validation, tmp_path):
    if key == "IN":
        labels = load_scene("IN", str(tmp_path)).labels
    else:
        file, variable = VARIABLES[key]
        labels = open_array(original(file), variable).read().astype(np.int64)
    for golden in AUTHORS[key]:
        split = random_split(
            labels, valid_split, golden["seed"], None, validation, authors_training_count
        )
        for part in ("train", "val", "test"):
            assert len(getattr(split, part)) == golden[part]
            assert split.sha256()[part] == golden[f"{part}_sha256"]


@pytest.mark.parametrize(("validation", "expected"), [(7, 7), (0.1, 116), (1e-9, 1)])
def test_validation_pixels_as_asked_for(validation, expected):
    usual = random_split(toy_labels(), valid_split=0.9, seed=3)
    split = random_split(toy_labels(), valid_split=0.9, seed=3, validation=validation)
    np.testing.assert_array_equal(split.train, usual.train)
    assert len(split.val) == expected
    rest = np.concatenate([usual.test, usual.val])
    np.testing.assert_array_equal(np.concatenate([split.test, split.val]), rest)


@pytest.mark.parametrize("validation", [0.95, 5000])
def test_validation_that_leaves_nothing_to_test_is_refused(validation):
    with pytest.raises(InputError, match=rf"--validation {validation}: .*none to test; use fewer"):
        random_split(toy_labels(), valid_split=0.9, seed=3, validation=validation)


def test_parts_are_disjoint_and_cover_every_labelled_pixel():
    labels = toy_labels()
    split = random_split(labels, valid_split=0.7, seed=3)
    everything = np.concatenate([split.train, split.val, split.test])
    np.testing.assert_array_equal(np.sort(everything), np.flatnonzero(labels))


def test_rare_and_absent_classes():
    labels = np.zeros((30, 30), np.int64)
    labels[:10] = 1
    labels[10:20] = 4  # classes 2 and 3 ...
    labels[20, :2] = 2  # ... with two pixels and with none
    split = random_split(labels, valid_split=0.9, seed=0)
    counts = np.bincount(labels.ravel()[split.train], minlength=5)
    assert counts.tolist() == [0, 29, 2, 0, 29]  # int((1 - 0.9) * 300) is 29


def test_nothing_left_to_test_is_refused():
    with pytest.raises(InputError, match=r"-vs 0\.4: .*use a larger -vs"):
        random_split(toy_labels(), valid_split=0.4, seed=0)
