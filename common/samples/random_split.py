"""Which labelled pixels train, which validate and which test."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from common.system.errors import InputError

MIN_TRAIN_PER_CLASS = 3
VALIDATION_SHARE = 0.1  # of the training map's pixels, where a split is given as two maps


@dataclass(frozen=True)
class Split:
    """Flat pixel indices (row-major, 0-based, int64) of the three disjoint sets, in order."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray

    def sha256(self) -> dict[str, str]:
        """SHA-256 of each set's little-endian int64 indices, in order."""
        return {
            part: hashlib.sha256(getattr(self, part).astype("<i8").tobytes()).hexdigest()
            for part in ("train", "val", "test")
        }

    def as_map(self, shape: tuple[int, int]) -> np.ndarray:
        """Draw the split as uint8 (rows, cols): 0 in no set, 1 training, 2 validation, 3 test."""
        drawn = np.zeros(shape, np.uint8)
        for value, part in enumerate((self.train, self.val, self.test), start=1):
            drawn.flat[part] = value
        return drawn


def training_count(pixels: int, valid_split: float, per_class: int | None) -> int:
    """How many of a class's `pixels` are to train.

    With `per_class` that many, but never more than half of the class.
    """
    if per_class is not None:
        return min(per_class, max(pixels // 2, 1))
    return max(int((1 - valid_split) * pixels), MIN_TRAIN_PER_CLASS)


def authors_training_count(pixels: int, valid_split: float, per_class: int | None) -> int:
    """The same by the rule of SSRN's authors, which rounds up and has no minimum."""
    if per_class is not None:
        return training_count(pixels, valid_split, per_class)
    return pixels - int(valid_split * pixels)


def validation_count(validation: float | None, labelled: int, trained: int) -> int:
    """How many pixels validate: a number, a share of the `labelled` ones, or as many as train."""
    if validation is None:
        return trained
    return validation if isinstance(validation, int) else max(1, round(validation * labelled))


def random_split(
    labels: np.ndarray,
    valid_split: float,
    seed: int,
    per_class: int | None = None,
    validation: float | None = None,
    count: Callable[[int, float, int | None], int] = training_count,
) -> Split:
    """Draw the released A2S2K-ResNet code's random split, bit for bit, or that of SSRN's authors.

    Of each class in label order, ``max(int((1 - valid_split) * n), 3)`` pixels train.  As many
    pixels as train, taken from the end of the shuffled rest, validate; the others test.
    A class of three pixels or fewer is trained but never tested.

    Parameters
    ----------
    labels : int array (rows, cols)
        Ground truth, 0 where unlabelled.
    valid_split : float
        Share of the labelled pixels not trained on, between 0 and 1.
    seed : int
        Seed of numpy's legacy generator, which is what the released code draws from.
    per_class : int, optional
        Training pixels of every class, instead of a share; see `training_count`.
    validation : int or float, optional
        Validation pixels, see `validation_count`.
    count : callable
        `training_count`, or `authors_training_count` for the split of SSRN's authors.

    Raises
    ------
    InputError
        The rest is too small to validate and test on.
    """
    generator = np.random.RandomState(seed)
    flat_labels = labels.ravel()
    train, rest = [], []
    for label in range(1, flat_labels.max() + 1):
        indices = np.flatnonzero(flat_labels == label)
        generator.shuffle(indices)
        trained = count(len(indices), valid_split, per_class)
        train.append(indices[:trained])
        rest.append(indices[trained:])
    train, rest = np.concatenate(train), np.concatenate(rest)
    generator.shuffle(train)
    generator.shuffle(rest)
    validated = validation_count(validation, len(train) + len(rest), len(train))
    if len(rest) <= validated:
        flag, cure = f"-vs {valid_split}", "use a larger -vs"
        if len(train) <= MIN_TRAIN_PER_CLASS * flat_labels.max():
            cure = f"label more than {2 * MIN_TRAIN_PER_CLASS} pixels of each class"
        if per_class is not None:
            flag, cure = f"--per-class {per_class}", "use fewer"
        if validation is not None:
            flag, cure = f"--validation {validation}", "use fewer"
        many = "as many" if validation is None else f"{validated}"
        raise InputError(
            f"{flag}: {len(train)} of the {len(train) + len(rest)} labelled pixels train and "
            f"{many} validate, which leaves none to test; {cure}"
        )
    return Split(train=train, val=rest[-validated:], test=rest[:-validated])


def fixed_split(train_map: np.ndarray, test_map: np.ndarray, seed: int) -> Split:
    """Split as two label maps (rows, cols) say, 0 where a pixel is in neither.

    A tenth of each class's training pixels (`VALIDATION_SHARE`; none of a class of one) is drawn
    to validate instead, so that the test pixels have no say in when training stops.
    """
    generator = np.random.RandomState(seed)
    train, val = [], []
    for label in range(1, train_map.max() + 1):
        indices = np.flatnonzero(train_map == label)
        generator.shuffle(indices)
        count = min(max(1, round(VALIDATION_SHARE * len(indices))), max(len(indices) - 1, 0))
        val.append(indices[:count])
        train.append(indices[count:])
    parts = np.concatenate(train), np.concatenate(val), np.flatnonzero(test_map)
    for part in parts:
        generator.shuffle(part)
    return Split(*parts)


def leak_share(split: Split, shape: tuple[int, int], half_width: int) -> float:
    """Share of the test patches that contain a training pixel, in a scene of `shape` pixels.

    What a network saw in training it may see again in such a patch, so that a test tells less
    about new ground.
    """
    from scipy.ndimage import maximum_filter  # large, and needed for the report only

    training = split.as_map(shape) == 1
    contains = maximum_filter(training, size=2 * half_width + 1, mode="constant")
    return float(contains.flat[split.test].mean())
