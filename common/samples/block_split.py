"""A spatially disjoint split: training in some blocks of the scene, tests away from them."""

import numpy as np

from common.samples.random_split import Split, training_count, validation_count
from common.system.errors import InputError

BLOCK_SIDES = (4, 2, 1)  # in patch widths
LEAST_TESTED = 0.3  # of each class; half of that where fields are small


def disjoint_split(
    labels: np.ndarray,
    valid_split: float,
    half_width: int,
    seed: int,
    per_class: int | None = None,
    validation: float | None = None,
) -> Split:
    """Draw training and validation pixels from blocks, and test on what is far enough from them.

    No test pixel is nearer than a patch's width (Chebyshev distance) to a training or validation
    pixel, so that their patches share no pixel.  What lies between is in no set.  Every class is
    on both sides where its fields are large enough; a class too small for that is trained only.

    Of each class as many pixels train as in the random split if its blocks hold twice as many,
    else half of what they hold.  As many pixels as train, drawn from the rest of the blocks
    whatever their class, validate.

    Parameters
    ----------
    labels : int array (rows, cols)
        Ground truth, 0 where unlabelled.
    valid_split, per_class, validation
        See `training_count` and `validation_count` of `common.samples.random_split`.
    half_width : int
        p; patches are (2p + 1) × (2p + 1) pixels.
    seed : int
        Fixes the blocks and the pixels drawn from them.

    Raises
    ------
    InputError
        The scene is too small for two such parts.
    """
    from scipy.ndimage import maximum_filter  # large, and only this split needs it

    generator = np.random.RandomState(seed)
    classes = labels.max()
    counts = np.bincount(labels.ravel(), minlength=classes + 1)
    targets = [training_count(n, valid_split, per_class) if n else 0 for n in counts]
    blocks = training_blocks(labels, targets, 2 * half_width + 1, generator)

    train, rest = [], []
    for label in range(1, classes + 1):
        indices = np.flatnonzero(blocks & (labels == label))
        generator.shuffle(indices)
        count = min(targets[label], -(-len(indices) // 2))
        train.append(indices[:count])
        rest.append(indices[count:])
    train, rest = np.concatenate(train), np.concatenate(rest)
    generator.shuffle(train)
    generator.shuffle(rest)
    validated = validation_count(validation, counts[1:].sum(), len(train))
    if validation is not None and validated > len(rest):
        raise InputError(
            f"--validation {validation}: --split disjoint has {len(rest)} pixels to validate "
            f"{validated} with; use fewer"
        )
    split = Split(train=train, val=rest[:validated], test=np.empty(0, np.int64))
    near = maximum_filter(split.as_map(labels.shape), size=4 * half_width + 1, mode="constant") > 0
    test = np.flatnonzero((labels > 0) & ~near)
    if not (len(split.train) and len(split.val) and len(test)):
        raise InputError(
            f"--split disjoint: the labelled fields are too small for training and test pixels "
            f"{2 * half_width + 1} pixels apart; use a smaller -p or another --split"
        )
    generator.shuffle(test)
    return Split(train=split.train, val=split.val, test=test)


def training_blocks(
    labels: np.ndarray, targets: list[int], width: int, generator: np.random.RandomState
) -> np.ndarray:
    """Mark the blocks to train and validate in: bool (rows, cols).

    Classes take turns, the smallest first, for each can spare the fewest pixels.  A class takes
    blocks at random until they hold twice its target; smaller and smaller ones where large ones,
    with what is near them, would leave too little of some class to test.
    """
    region = _Region(labels, width)
    sizes = region.left.copy()
    to_test = sizes > 0  # classes that are to keep pixels to test
    for label in np.argsort(sizes, kind="stable"):
        if label == 0 or not sizes[label]:
            continue
        wanted = 2 * targets[label]
        least = np.where(to_test, np.maximum(1, LEAST_TESTED * sizes), 0)
        for side in BLOCK_SIDES:
            region.grow(label, wanted, side * width, least, generator)
        if region.holds(label) < targets[label]:  # a small field: pixel by pixel, from its edge
            region.grow(label, wanted, 1, least / 2, generator)
        if not region.holds(label):
            region.grow(label, wanted, 1, least.clip(max=1), generator)
        if not region.holds(label):  # too small a field for both: trained only
            to_test[label] = False
            region.grow(label, wanted, 1, np.where(to_test, least / 2, 0), generator)
    return region.inside


class _Region:
    """Blocks (rows, cols) chosen so far, and how many pixels of each class are left to test."""

    def __init__(self, labels: np.ndarray, width: int) -> None:
        self.labels, self.width = labels, width
        self.inside, self.near = np.zeros((2, *labels.shape), bool)
        self.left = np.bincount(labels.ravel())
        self.left[0] = 0

    def holds(self, label: int) -> int:
        """Pixels of a class inside."""
        return int((self.labels[self.inside] == label).sum())

    def grow(
        self,
        label: int,
        wanted: int,
        side: int,
        least: np.ndarray,
        generator: np.random.RandomState,
    ) -> None:
        """Add blocks with pixels of a class until `wanted` are inside or none can be spared."""
        of_class = np.argwhere((self.labels == label) & ~self.inside)
        corners = generator.permutation(np.unique(of_class // side, axis=0) * side)
        blocks = [np.s_[row : row + side, col : col + side] for row, col in corners]
        if side == 1:
            blocks.sort(key=lambda block: -self._left_after(block)[label])
        for block in blocks:
            if self.holds(label) >= wanted:
                return
            left = self._left_after(block)
            if ((left >= least) | (left == self.left)).all():
                self.inside[block] = self.near[self._around(block)] = True
                self.left = left

    def _left_after(self, block: tuple[slice, slice]) -> np.ndarray:
        """Pixels of each class that would be left to test with one more block."""
        around = self._around(block)
        lost = self.labels[around][~self.near[around]]
        left = self.left - np.bincount(lost, minlength=len(self.left))
        left[0] = 0
        return left

    def _around(self, block: tuple[slice, slice]) -> tuple[slice, slice]:
        """The block and all that is nearer to it than a patch's width."""
        far = self.width - 1
        return tuple(slice(max(0, side.start - far), side.stop + far) for side in block)
