"""Fixed splits by two maps, fixed numbers per class, and the share of test patches that leak."""

import dataclasses

import numpy as np
import pytest
import scipy.io

from A2S2KResNet.A2S2KResNet import DEFAULTS
from common.run.cli import read_settings
from common.samples.make_splits import make_splits, split_setting
from common.samples.random_split import fixed_split, leak_share, random_split, training_count
from common.scenes.array_file import open_array
from common.scenes.bands import every_band
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError
from tests.conftest import original, toy_labels
from tests.scenes.test_read_labels import save_labels


def maps() -> tuple[np.ndarray, np.ndarray]:
    """A training and a test map of the toy scene: its left and right parts."""
    train, test = toy_labels(), toy_labels()
    train[:, 12:] = 0
    test[:, :20] = 0
    return train, test


@pytest.fixture
def map_files(tmp_path):
    train, test = maps()
    np.save(tmp_path / "train.npy", train.astype(np.uint8))
    scipy.io.savemat(tmp_path / "split.mat", {"train": train, "test": test})
    return tmp_path


def splits_of(*flags, labels=None, scene=None, **settings):
    settings = Settings(
        "SSRN", split=split_setting(list(map(str, flags))), **{"iter": 2} | settings
    )
    scene = scene or toy_scene(toy_labels() if labels is None else labels)
    return make_splits(scene, settings)


def toy_scene(labels: np.ndarray, **parts) -> Scene:
    """A scene of which only the ground truth is looked at."""
    classes = labels.max()
    return Scene(
        key="Toy",
        name="Toy",
        cube=np.zeros((*labels.shape, 7)),
        bands=every_band(7),
        labels=labels,
        class_names=tuple(f"class {label}" for label in range(1, 1 + classes)),
        colours=("#000000",) * classes,
        rgb_bands=(0, 1, 2),
        source="toy.npy",
        **parts,
    )


def check_fixed(splits):
    train, test = maps()
    assert len(splits) == 2
    for split in splits:
        in_training_map = np.concatenate([split.train, split.val])
        np.testing.assert_array_equal(np.sort(in_training_map), np.flatnonzero(train))
        np.testing.assert_array_equal(np.sort(split.test), np.flatnonzero(test))
        of_class = np.bincount(train.ravel())[1:]
        counts = np.bincount(train.flat[split.val])[1:]
        np.testing.assert_array_equal(counts, np.maximum(1, np.round(of_class / 10)))
    assert set(splits[0].val) != set(splits[1].val)


def test_maps_as_variables_of_one_file(map_files):
    check_fixed(splits_of(f"{map_files / 'split.mat'}:train", f"{map_files / 'split.mat'}:test"))


def test_maps_in_files_of_their_own(map_files):
    np.save(map_files / "test.npy", maps()[1].astype(np.float32))
    check_fixed(splits_of(map_files / "train.npy", map_files / "test.npy"))


def test_published_disjoint_split_of_indian_pines():
    file = original("IN_disjoint_split.mat")
    labels = open_array(original("Indian_pines_gt.mat"), "indian_pines_gt").read().astype(np.int64)
    (split,) = splits_of(f"{file}:train", f"{file}:test", labels=labels, iter=1)
    train, test = open_array(file, "train").read(), open_array(file, "test").read()
    assert len(split.train) + len(split.val) == np.count_nonzero(train)
    assert len(split.test) == np.count_nonzero(test)
    assert 0 < leak_share(split, labels.shape, 3) < 0.6


def wrong(map_files, change, *, of="test"):
    """Change one map, and return what is said about it."""
    train, test = maps()
    change({"train": train, "test": test}[of])
    scipy.io.savemat(map_files / "wrong.mat", {"train": train, "test": test})
    with pytest.raises(InputError) as caught:
        splits_of(f"{map_files / 'wrong.mat'}:train", f"{map_files / 'wrong.mat'}:test")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("--split ")
    assert "wrong.mat" in str(caught.value)
    return str(caught.value)


def test_wrong_maps(map_files):
    def in_both(test):
        test[0, :12] = toy_labels()[0, :12]

    def in_one_place(train):
        train[:] = 0
        train[0, 4] = toy_labels()[0, 4]

    both = np.count_nonzero(toy_labels()[0, :12])
    assert f"test: {both} pixels are in both maps" in wrong(map_files, in_both)
    assert ":test: the map labels no pixel" in wrong(map_files, lambda test: test.fill(0))
    another_label = wrong(map_files, lambda test: test.__imul__(2))
    assert "pixels of the map have another label than the ground truth" in another_label
    assert "is needed to validate" in wrong(map_files, in_one_place, of="train")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("none.npy", "none.npy: no such file"),
        (
            "split.mat",
            "split.mat: say which variable to read; this file holds: train (40×36), test",
        ),
        ("split.mat:trian", "no variable 'trian' in this file, which holds: train"),
        ("small.npy", "small.npy: the map is 4×5, the scene 40×36 pixels"),
    ],
)
def test_maps_that_cannot_be_read(map_files, train, message):
    np.save(map_files / "small.npy", np.ones((4, 5), int))
    with pytest.raises(InputError) as caught:
        splits_of(map_files / train, f"{map_files / 'split.mat'}:test")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_class_of_one_training_pixel_does_not_validate():
    train, test = maps()
    train[train == 3] = 0
    train[np.unravel_index(np.flatnonzero(toy_labels() == 3)[0], train.shape)] = 3
    split = fixed_split(train, test, seed=0)
    assert (train.flat[split.train] == 3).sum() == 1
    assert not (train.flat[split.val] == 3).any()


WRONG_FLAGS = {
    "--split quick: use random, authors, disjoint or TRAIN_MAP TEST_MAP": ["--split", "quick"],
    "--split random disjoint: use": ["--split", "random", "disjoint"],
    "--split a.mat b.mat c.mat: use": ["--split", "a.mat", "b.mat", "c.mat"],
    "--per-class and -vs both say how many": ["--per-class", "20", "-vs", "0.8"],
    "--per-class: the maps of --split say": ["--split", "a.mat", "b.mat", "--per-class", "5"],
    "-vs: the maps of --split say": ["--split", "a.mat", "b.mat", "-vs", "0.5"],
    "'0' is not a whole number from 1": ["--per-class", "0"],
}


@pytest.mark.parametrize("message", WRONG_FLAGS)
def test_flags_that_do_not_go_together(message):
    with pytest.raises(InputError) as caught:
        read_settings(DEFAULTS, WRONG_FLAGS[message])
    assert message in str(caught.value)


def test_flags_that_do():
    settings = read_settings(DEFAULTS, ["--split", "disjoint", "--per-class", "5"])
    assert (settings.split, settings.per_class) == ("disjoint", 5)
    assert read_settings(DEFAULTS, ["--split", "a.mat:x", "b.npy"]).split == ("a.mat:x", "b.npy")
    assert read_settings(DEFAULTS, []) == dataclasses.replace(DEFAULTS)


def test_numbers_per_class():
    labels = toy_labels()
    rare = np.flatnonzero(labels == 4)
    labels.flat[rare[9:]] = 0
    (split,) = splits_of("random", labels=labels, per_class=20, iter=1)
    counts = np.bincount(labels.flat[split.train])[1:]
    assert counts.tolist() == [20, 20, 20, 4, 20]  # never more than half of a class
    assert len(split.val) == 84
    assert [training_count(n, 0.9, 20) for n in (1, 2, 3, 40, 41)] == [1, 1, 1, 20, 20]


def test_too_many_per_class():
    with pytest.raises(InputError, match=r"--per-class 500: .* use fewer"):
        splits_of("random", per_class=500)


@pytest.mark.parametrize("p", [1, 2, 3])
def test_leak_share_by_brute_force(p):
    labels = toy_labels()
    split = random_split(labels, 0.97, seed=0)
    rows, cols = np.divmod(split.train, labels.shape[1])
    contain = [
        (np.maximum(abs(rows - pixel // 36), abs(cols - pixel % 36)) <= p).any()
        for pixel in split.test
    ]
    assert leak_share(split, labels.shape, p) == pytest.approx(np.mean(contain))
    assert 0 < np.mean(contain) < 1


def test_split_as_a_map():
    labels = toy_labels()
    split = random_split(labels, 0.9, seed=0)
    drawn = split.as_map(labels.shape)
    for value, part in enumerate((split.train, split.val, split.test), start=1):
        np.testing.assert_array_equal(np.flatnonzero(drawn == value), np.sort(part))


def test_maps_say_in_their_own_ways_which_pixels_are_in_no_set(tmp_path):
    train, test = maps()
    scene = toy_scene(toy_labels(), ignored_labels=(0, 200))
    np.save(tmp_path / "train.npy", np.where(train == 0, 200, train))  # as the ground truth has it
    save_labels(tmp_path / "test.tif", np.where(test == 0, -1, test).astype("i2"), nodata=-1)
    check_fixed(splits_of(tmp_path / "train.npy", tmp_path / "test.tif", scene=scene))


@pytest.mark.parametrize("own", [True, False])
def test_maps_of_a_scene_where_0_is_a_class(tmp_path, own):
    """They count classes from 1, for 0 is none there; or hold what the ground truth holds."""
    scene = toy_scene(toy_labels(), file_labels=(0, 1, 2, 3, 4), ignored_labels=(255,))
    for name, array in zip(("train", "test"), maps(), strict=True):
        np.save(tmp_path / f"{name}.npy", np.where(array == 0, 255, array - 1) if own else array)
    check_fixed(splits_of(tmp_path / "train.npy", tmp_path / "test.npy", scene=scene))
