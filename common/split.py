"""Which labelled pixels train, which validate and which test."""

import hashlib
from dataclasses import dataclass

import numpy as np

from common.errors import InputError

MIN_TRAIN_PER_CLASS = 3


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


def random_split(labels: np.ndarray, valid_split: float, seed: int) -> Split:
    """Draw the released A2S2K-ResNet code's random split, bit for bit.

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
        count = max(int((1 - valid_split) * len(indices)), MIN_TRAIN_PER_CLASS)
        train.append(indices[:count])
        rest.append(indices[count:])
    train, rest = np.concatenate(train), np.concatenate(rest)
    generator.shuffle(train)
    generator.shuffle(rest)
    if len(rest) <= len(train):
        raise InputError(
            f"-vs {valid_split}: {len(train)} of the {len(train) + len(rest)} labelled pixels "
            f"train and as many validate, which leaves none to test; use a larger -vs"
        )
    return Split(train=train, val=rest[-len(train) :], test=rest[: -len(train)])
