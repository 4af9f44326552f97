"""Is one method better than another on the same test pixels: McNemar's and the paired t-test."""

from dataclasses import dataclass, field

import numpy as np

from common.tables.methods import Method, UnavailableError, correctness


@dataclass(frozen=True)
class McNemar:
    """McNemar's test of two methods on the same `n` test pixels.

    Attributes
    ----------
    n : int
    only_first, only_second : int
        Pixels that only the first or only the second method classified right (b and c).
    p : float or None
        Exact and two-sided; None where no pixel tells the methods apart.
    """

    n: int
    only_first: int
    only_second: int
    p: float | None


@dataclass(frozen=True)
class PairedT:
    """Paired t-test over seeds of OA.

    Attributes
    ----------
    n : int
        Seeds.
    mean_difference : float
        First less second method, as a share.
    t, p : float or None
        None where every seed gave the same difference, so that there is no spread to test with.
    """

    n: int
    mean_difference: float
    t: float | None
    p: float | None


@dataclass(frozen=True)
class Comparison:
    """All tests between two methods.

    Attributes
    ----------
    first, second : str
        The methods' names.
    mcnemar : dict
        The test of each shared split, by seed.
    paired : PairedT or None
        None with fewer than two shared splits.
    shared : int
        Iterations with the same seed and the same test pixels.
    left_out : list of (method's name, seed, why)
        Shared splits without McNemar's test.
    """

    first: str
    second: str
    mcnemar: dict[int, McNemar]
    paired: PairedT | None
    shared: int
    left_out: list[tuple[str, int, str]] = field(default_factory=list)


def mcnemar(first_right: np.ndarray, second_right: np.ndarray) -> McNemar:
    """Test whether two methods are right equally often on the same pixels.

    Of the pixels that one method alone has right, each method would own half: the exact test is
    the binomial one, valid for few pixels too (McNemar, Psychometrika 12, 1947; for maps: Foody,
    Photogrammetric Engineering & Remote Sensing 70, 2004).

    Parameters
    ----------
    first_right, second_right : bool arrays (N,)
        Whether each method classified each pixel right.
    """
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(second_right & ~first_right))
    differing = only_first + only_second
    from scipy import stats  # large, and a table of one method needs none

    p = float(stats.binomtest(only_first, differing).pvalue) if differing else None
    return McNemar(len(first_right), only_first, only_second, p)


def paired_t(first: np.ndarray, second: np.ndarray) -> PairedT:
    """Two-sided paired t-test of two methods' figures (n,), n of at least 2, seed by seed."""
    difference = first - second
    mean = float(difference.mean())
    if np.ptp(difference) < 1e-12:  # rounding is no spread
        return PairedT(len(difference), mean if abs(mean) > 1e-12 else 0.0, None, None)
    from scipy import stats

    result = stats.ttest_rel(first, second)
    return PairedT(len(difference), mean, float(result.statistic), float(result.pvalue))


def compare(first: Method, second: Method) -> Comparison:
    """Make every test that two methods' shared splits and files allow.

    A split is shared where seed and checksum of the test pixels agree.  McNemar's test is one of
    each split: splits of one scene have test pixels in common, so that pooling them would count
    pixels several times.
    """
    ours, theirs = first.splits(), second.splits()
    shared = [(key[0], ours[key], theirs[key]) for key in ours if key in theirs]
    tests, left_out = {}, []
    for seed, our_run, their_run in shared:
        sides = []
        for method, run in ((first, our_run), (second, their_run)):
            try:
                sides.append(correctness(method, run))
            except UnavailableError as error:
                left_out.append((method.name, seed, str(error)))
        if len(sides) < 2:
            continue
        a, b = sides
        if np.array_equal(a.pixels, b.pixels) and np.array_equal(a.labels, b.labels):
            tests[seed] = mcnemar(a.right, b.right)
        else:
            why = f"split.npy or gt.npy is not that of {first.name}"
            left_out.append((second.name, seed, why))
    paired = None
    if len(shared) > 1:
        _, our_runs, their_runs = map(list, zip(*shared, strict=True))
        paired = paired_t(first.oa[our_runs], second.oa[their_runs])
    return Comparison(first.name, second.name, tests, paired, len(shared), left_out)
