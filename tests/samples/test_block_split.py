"""The disjoint split: no test patch touches a training or validation patch."""

import numpy as np
import pytest

from common.samples.block_split import disjoint_split
from common.samples.random_split import leak_share
from common.scenes.scene import load_scene
from common.system.errors import InputError
from tests.conftest import toy_labels


@pytest.fixture(scope="module")
def indian_pines(tmp_path_factory) -> np.ndarray:
    return load_scene("IN", str(tmp_path_factory.mktemp("nothing"))).labels


def large_toy_labels() -> np.ndarray:
    """Fields of 12×12 pixels, labels 0..5."""
    i, j = np.indices((96, 96))
    return ((i // 12) * 7 + (j // 12) * 3) % 6


def nearest(from_pixels: np.ndarray, to_pixels: np.ndarray, cols: int) -> int:
    """Smallest Chebyshev distance between two sets of flat indices, by trying all."""
    a, b = (np.stack(np.divmod(pixels, cols), axis=1) for pixels in (from_pixels, to_pixels))
    return min(np.abs(part[:, None] - b).max(axis=2).min() for part in np.array_split(a, 20))


def check(labels: np.ndarray, split, p: int) -> None:
    """Check what holds for every disjoint split."""
    parts = split.train, split.val, split.test
    everything = np.concatenate(parts)
    assert len(np.unique(everything)) == len(everything)
    assert (labels.flat[everything] > 0).all()
    assert all(len(part) for part in parts)
    chosen = np.concatenate([split.train, split.val])
    assert nearest(split.test, chosen, labels.shape[1]) >= 2 * p + 1
    assert leak_share(split, labels.shape, p) == 0


@pytest.mark.parametrize("p", [2, 3, 4])
def test_indian_pines(indian_pines, p):
    labels = indian_pines
    split = disjoint_split(labels, 0.9, p, seed=1331)
    check(labels, split, p)
    counts = {
        part: np.bincount(labels.flat[getattr(split, part)], minlength=17)[1:]
        for part in ("train", "test")
    }
    assert (counts["train"] > 0).all()
    untested = set(np.flatnonzero(counts["test"] == 0) + 1)
    assert untested <= ({7} if p == 3 else {1, 7, 9})  # fields hardly wider than a patch
    assert counts["train"].sum() > 0.8 * 1018  # as many as the random split, nearly
    assert counts["test"].sum() > 0.3 * len(np.flatnonzero(labels))


def test_seeded():
    labels = large_toy_labels()
    first, again, other = (disjoint_split(labels, 0.9, 2, seed=seed) for seed in (1, 1, 2))
    assert first.sha256() == again.sha256()
    assert first.sha256()["test"] != other.sha256()["test"]


def test_counts_per_class():
    labels = large_toy_labels()
    split = disjoint_split(labels, 0.9, 2, seed=0, per_class=5)
    check(labels, split, 2)
    assert np.bincount(labels.flat[split.train])[1:].tolist() == [5] * 5
    assert len(split.val) == 25


def test_a_class_in_one_small_field_is_trained_only():
    labels = large_toy_labels()
    labels[labels == 5] = 0
    labels[:3, :3] = 5
    split = disjoint_split(labels, 0.9, 3, seed=0)
    check(labels, split, 3)
    assert (labels.flat[split.train] == 5).any()
    assert not (labels.flat[split.test] == 5).any()


def test_absent_classes():
    labels = large_toy_labels()
    labels[labels == 3] = 0
    split = disjoint_split(labels, 0.9, 2, seed=0)
    check(labels, split, 2)
    assert set(labels.flat[split.test]) == {1, 2, 4, 5}


@pytest.mark.parametrize("seed", range(4))
def test_small_fields(seed):
    check(toy_labels(), disjoint_split(toy_labels(), 0.9, 2, seed), 2)


def test_a_tiny_scene_is_refused():
    labels = np.ones((5, 5), np.int64)
    labels[:, 3:] = 2
    with pytest.raises(InputError, match=r"--split disjoint: .* use a smaller -p") as caught:
        disjoint_split(labels, 0.9, 3, seed=0)
    assert "\n" not in str(caught.value)
