"""Which training pixels an epoch sees, and turned how, spread as evenly as can be.

Drawn at random, an epoch misses a third of its pixels and sees others twice, and a patch comes in
the same position again while it has not been seen in others.
"""

import numpy as np

SYMMETRIES = 8  # of a square
GOLDEN_RATIO = (5**0.5 - 1) / 2  # of whose multiples any few in a row lie evenly between integers


def draw_evenly(
    targets: np.ndarray, balance: float, seed: int, epoch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw as many training pixels as there are, in random order.

    With `balance` 0 each is drawn once, with 1 all classes equally often; in between, a class's
    share is its size to the 1 - `balance`.  In an epoch no pixel, and no class, is drawn one time
    more or less than it should, and in all epochs so far a pixel hardly two.  It is seen in each of
    its symmetries before it is seen in one of them again.

    Parameters
    ----------
    targets : int array (n,)
        The pixels' classes, from 0.
    seed, epoch : int
        They fix the result; epochs count from 1.

    Returns
    -------
    indices : int array (n,)
        Into `targets`.
    symmetries : int array (n,)
        0..7, see `Patches.gather`.
    """
    of_training, of_epoch = (np.random.default_rng(s) for s in ((seed,), (seed, epoch)))
    count = len(targets)
    weights = np.bincount(targets)[targets] ** -float(balance)
    in_line, start = of_training.permutation(count), of_training.random()
    in_line = in_line[targets[in_line].argsort(kind="stable")]  # class by class
    turns = of_training.permuted(np.tile(np.arange(SYMMETRIES), (count, 1)), axis=1)
    ends = weights[in_line].cumsum() * (count / weights.sum())

    def drawn(epoch: int) -> np.ndarray:  # the pixels lie in line, one is drawn at every step
        points = np.arange(count) + (start + epoch * GOLDEN_RATIO) % 1
        return in_line[np.searchsorted(ends, points, side="right").clip(max=count - 1)]

    seen_before = np.zeros(count, np.int64)
    for earlier in range(1, epoch):
        seen_before += np.bincount(drawn(earlier), minlength=count)
    indices = np.sort(drawn(epoch))
    nth_here = np.arange(count) - np.searchsorted(indices, indices)
    nth = seen_before[indices] + nth_here
    order = of_epoch.permutation(count)
    return indices[order], turns[indices, nth % SYMMETRIES][order]
