"""Paired t-tests within a study that has the key ``pairs``: what one choice changes."""

from collections.abc import Iterator, Sequence

import numpy as np

from common.tables.curve_points import Pair, Point
from common.tables.significance import paired_t
from common.tables.significance_tables import FEW_SEEDS, no_spread, p_value, signed
from common.tables.table_formats import NONE, Table


def pairs_table(points: Sequence[Point], pairs: Sequence[Pair]) -> Table | None:
    """OA and AA of the first less the second, of points of one scene that differ in nothing else.

    Iterations are paired that have the same test pixels; None where no pair has any points.
    """
    rows, seeds = [], []
    for pair in pairs:
        for first, second in _that_differ(points, pair):
            where = ", ".join(filter(None, _where(first, pair)))
            shared = len({*first.test_sha256} & {*second.test_sha256})
            cells = [*_difference(first, second, "oa"), *_difference(first, second, "aa")]
            rows.append([*pair, where, str(shared), *cells])
            seeds.append(shared)
    if not rows:
        return None
    notes = [
        "Splits of several seeds share pixels: the differences are not independent and p is rather "
        "too small; it is not corrected for the number of tests."
    ]
    if min(seeds) < 2:
        notes.append(f"{NONE}: fewer than two seeds have the same test pixels.")
    elif min(seeds) < FEW_SEEDS:
        notes.append(
            f"With {min(seeds)} seeds the test has little power: a large p does not show that the "
            f"two are equal."
        )
    return Table(
        caption="Differences over seeds with the same test pixels, and two-sided paired t-tests.",
        header=[
            *("A", "B", "where", "seeds"),
            *("OA A − OA B, points", "p", "AA A − AA B, points", "p"),
        ],
        rows=rows,
        align="lllrrrrr",
        notes=notes,
    )


def _that_differ(points: Sequence[Point], pair: Pair) -> Iterator[tuple[Point, Point]]:
    """Yield the first and second points that differ in what a pair names, and are there."""
    second = {_but(point, pair): point for point in points if pair.second in _named(point)}
    for point in points:
        other = second.get(_but(point, pair))
        if pair.first in _named(point) and other and not (point.absent or other.absent):
            yield point, other


def _named(point: Point) -> tuple[str, str]:
    return point.method, point.name


def _but(point: Point, pair: Pair) -> tuple[str, ...]:
    """What a point is, but for what the pair names of it."""
    return (point.split, *(name for name in _named(point) if name not in pair))


def _where(point: Point, pair: Pair) -> tuple[str, ...]:
    split, *others = _but(point, pair)
    return *others, split


def _difference(first: Point, second: Point, figure: str) -> tuple[str, str]:
    """The mean difference in points with its spread, and p, over two or more iterations."""
    theirs = dict(zip(second.test_sha256, getattr(second, figure), strict=False))
    shared = [
        (ours, theirs[pixels])
        for pixels, ours in zip(first.test_sha256, getattr(first, figure), strict=False)
        if ours is not None and theirs.get(pixels) is not None
    ]
    if len(shared) < 2:
        return NONE, NONE
    one, other = np.array(shared).T
    test, spread = paired_t(one, other), 100 * (one - other).std()
    p = no_spread(test) or p_value(test.p)
    return f"{signed(100 * test.mean_difference)} ± {spread:.2f}", p
