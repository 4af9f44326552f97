"""The splits that the flags ask for, one per iteration."""

from collections.abc import Container

import numpy as np

from common.samples.block_split import disjoint_split
from common.samples.random_split import (
    Split,
    authors_training_count,
    fixed_split,
    random_split,
    training_count,
)
from common.scenes.nodata import is_nodata
from common.scenes.read_labels import read_split_map
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError

COUNTS = {"random": training_count, "authors": authors_training_count}  # rules of random splits
NAMED = (*COUNTS, "disjoint")


def split_setting(words: list[str]) -> str | tuple[str, str]:
    """Return what the words after ``--split`` mean: a name, or two maps.

    Raises
    ------
    InputError
        They are neither.
    """
    named = words[0] in NAMED
    if len(words) != (1 if named else 2):
        raise InputError(
            f"--split {' '.join(words)}: use random, authors, disjoint or TRAIN_MAP TEST_MAP"
        )
    return words[0] if named else tuple(words)


def check_split_flags(settings: Settings, given: Container[str]) -> None:
    """Raise InputError where flags about the split, among those `given`, do not go together."""
    given_share = "valid_split" in given
    fixed = settings.split not in NAMED
    if settings.per_class and given_share:
        raise InputError("--per-class and -vs both say how many pixels train; leave one out")
    if fixed and (settings.per_class or given_share):
        flag = "--per-class" if settings.per_class else "-vs"
        raise InputError(f"{flag}: the maps of --split say which pixels train; leave {flag} out")
    if fixed and "validation" in given:
        raise InputError(
            "--validation: a tenth of the training map of --split validates; leave --validation out"
        )


def make_splits(scene: Scene, settings: Settings) -> list[Split]:
    """Split the labelled pixels once per iteration, with the seeds ``--seed``, ``--seed`` + 1, ….

    Raises
    ------
    InputError
        The scene has too few labelled pixels, or a map does not fit it.
    """
    labels = scene.labels
    seeds = range(settings.seed, settings.seed + settings.iter)
    share, per_class, validation = settings.valid_split, settings.per_class, settings.validation
    if settings.split == "disjoint":
        p = settings.patch
        return [disjoint_split(labels, share, p, seed, per_class, validation) for seed in seeds]
    if settings.split in NAMED:
        count = COUNTS[settings.split]
        return [random_split(labels, share, s, per_class, validation, count) for s in seeds]
    train_map, test_map = (read_label_map(name, scene) for name in settings.split)
    both = np.count_nonzero((train_map > 0) & (test_map > 0))
    if both:
        raise InputError(f"--split {' '.join(settings.split)}: {both} pixels are in both maps")
    if np.bincount(train_map.ravel())[1:].max() < 2:
        raise InputError(
            f"--split {settings.split[0]}: one pixel of a class; a tenth of the map, and at least "
            f"one pixel, is needed to validate"
        )
    return [fixed_split(train_map, test_map, seed) for seed in seeds]


def read_label_map(name: str, scene: Scene) -> np.ndarray:
    """Read one map of a fixed split, ``FILE`` or ``FILE.mat:variable``: labels 0..C (rows, cols).

    It holds what maps of the scene hold, and 0, its own nodata or a value that the ground truth
    ignores where a pixel is not in the set.  Where 0 is a class, a map with such a value holds the
    ground truth's own labels.

    Raises
    ------
    InputError
        The file cannot be read, has another size than the scene, labels no pixel, or disagrees
        with the ground truth.
    """
    raw = read_split_map(name, scene.raster)
    outside = is_nodata(raw.values, (*scene.ignored_labels, *raw.ignored))
    labels = np.array([-1, *scene.file_labels])
    if 0 not in scene.file_labels or not outside.any():
        outside |= raw.values == 0
        labels = scene.values_in_maps
    chosen = ~outside
    if not chosen.any():
        raise InputError(f"--split {name}: the map labels no pixel")
    wrong = np.count_nonzero(chosen & (raw.values != labels[scene.labels]))
    if wrong:
        raise InputError(
            f"--split {name}: {wrong} pixels of the map have another label than the ground truth"
        )
    return np.where(chosen, scene.labels, 0)
