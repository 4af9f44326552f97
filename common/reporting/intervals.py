"""95 % intervals of OA: over iterations, and over the ground."""

from collections.abc import Iterable

import numpy as np

RESAMPLES = 2000
SEED = 0  # the same results have the same interval
NUMBERS_AT_A_TIME = 1 << 20


def iterations_interval(values: list[float]) -> list[float] | None:
    """Student's t interval of the mean of one share per iteration, kept within 0..1.

    It says how far other splits and initial weights would move the mean.  Splits of one scene
    overlap, so that it is rather too narrow.  None for fewer than two iterations.
    """
    if len(values) < 2:
        return None
    from scipy.special import stdtrit  # large, and a report is written last of all

    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    reach = float(stdtrit(len(values) - 1, 0.975) * spread)
    mean = float(np.mean(values))
    return [max(0.0, mean - reach), min(1.0, mean + reach)]


def block_side(shape: tuple[int, int]) -> int:
    """Side in pixels of the square blocks that a scene (rows, cols) is resampled in.

    The fourth root of the number of pixels, 12 on Indian Pines: for a mean over a plane this is
    the order that makes the bootstrap's error smallest (Lahiri, "Resampling Methods for Dependent
    Data", Springer 2003, ch. 5 and 12: blocks of about the square root of all pixels).
    """
    return max(2, round((shape[0] * shape[1]) ** 0.25))


def blocks_interval(
    shape: tuple[int, int], tests: Iterable[tuple[np.ndarray, np.ndarray]]
) -> list[float] | None:
    """Percentile interval of the mean OA by a bootstrap of blocks of the scene.

    It says how far other ground of the same kind would move the mean.  Neighbouring pixels are
    alike, so that single pixels are no independent tests: blocks of `block_side` are drawn with
    replacement, each with all its test pixels.

    Parameters
    ----------
    shape : (rows, cols)
    tests : pairs of arrays (N,), one pair per iteration
        Flat indices of the test pixels, and whether each was classified right.

    Returns
    -------
    list of two shares 0..1, or None where fewer than two blocks hold test pixels.
    """
    side = block_side(shape)
    across = -(-shape[1] // side)
    blocks = across * -(-shape[0] // side)
    tested, right = np.zeros((2, blocks))
    for pixels, is_right in tests:
        block = pixels // shape[1] // side * across + pixels % shape[1] // side
        tested += np.bincount(block, minlength=blocks)
        right += np.bincount(block, weights=is_right, minlength=blocks)
    tested, right = tested[tested > 0], right[tested > 0]
    if len(tested) < 2:
        return None
    generator, shares = np.random.default_rng(SEED), []
    step = max(1, NUMBERS_AT_A_TIME // len(tested))
    for first in range(0, RESAMPLES, step):
        size = min(step, RESAMPLES - first), len(tested)
        drawn = generator.integers(len(tested), size=size)
        shares.append(right[drawn].sum(axis=1) / tested[drawn].sum(axis=1))
    return np.quantile(np.concatenate(shares), [0.025, 0.975]).tolist()
