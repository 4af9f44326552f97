"""The tests of significance between methods as tables, as CSV, and what could not be tested."""

from collections import defaultdict
from collections.abc import Sequence

from common.tables.significance import Comparison, PairedT
from common.tables.table_formats import NONE, Table, csv_text

FEW_SEEDS = 10  # below which a paired test's small power is pointed out
CSV_HEADER = (
    *("test", "first", "second", "seed", "n", "only_first_right", "only_second_right"),
    *("mean_difference", "t", "p", "note"),
)


def mcnemar_table(comparisons: Sequence[Comparison]) -> Table | None:
    """McNemar's tests, a row per pair and split; None where there is none."""
    rows = [
        [
            *(c.first, c.second, str(seed), str(test.n)),
            *(str(test.only_first), str(test.only_second)),
            "no difference" if test.p is None else p_value(test.p),
        ]
        for c in comparisons
        for seed, test in c.mcnemar.items()
    ]
    if not rows:
        return None
    return Table(
        caption="McNemar's test, exact and two-sided, on each shared test split.",
        header=["A", "B", "seed", "test pixels", "only A right", "only B right", "p"],
        rows=rows,
        align="llrrrrr",
        notes=[
            "One test per split: splits of several seeds share test pixels and cannot be pooled.",
            "Neighbouring pixels are alike, so that p is rather too small; "
            "it is not corrected for the number of tests.",
        ],
    )


def paired_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Paired t-tests of OA, a row per pair; None where there is none."""
    rows, seeds = [], []
    for c in comparisons:
        if test := c.paired:
            seeds.append(test.n)
            t = NONE if test.t is None else signed(test.t)
            p = no_spread(test) or p_value(test.p)
            rows.append([c.first, c.second, str(test.n), signed(100 * test.mean_difference), t, p])
    if not rows:
        return None
    notes = [
        "Splits of several seeds share pixels: the differences are not independent and p is rather "
        "too small."
    ]
    if min(seeds) < FEW_SEEDS:
        notes.append(
            f"With {min(seeds)} seeds the test has little power: a large p does not show that two "
            f"methods are equal."
        )
    return Table(
        caption="Paired t-test, two-sided, of OA over the seeds with shared test splits.",
        header=["A", "B", "seeds", "mean of OA A − OA B, points", "t", "p"],
        rows=rows,
        align="llrrrr",
        notes=notes,
    )


def tests_csv(comparisons: Sequence[Comparison]) -> str:
    """Every test as a row; differences of OA in points, empty where a figure does not exist."""
    rows = []
    for c in comparisons:
        for seed, test in c.mcnemar.items():
            note = "no difference" if test.p is None else None
            counts = (test.n, test.only_first, test.only_second)
            rows.append(["mcnemar", c.first, c.second, seed, *counts, None, None, test.p, note])
        if test := c.paired:
            figures = (100 * test.mean_difference, test.t, test.p, no_spread(test))
            rows.append(["paired_t", c.first, c.second, None, test.n, None, None, *figures])
    return csv_text(CSV_HEADER, rows)


def left_out_notes(comparisons: Sequence[Comparison]) -> list[str]:
    """Say which tests could not be made, and why."""
    notes = []
    for c in comparisons:
        if c.shared < 2:
            what = "paired test: one seed alone has" if c.shared else "test: no seed has"
            notes.append(f"{c.first}, {c.second}: no {what} the same test pixels.")
    seeds = defaultdict(set)
    for method, seed, why in (entry for c in comparisons for entry in c.left_out):
        seeds[why, method].add(seed)
    methods = defaultdict(list)
    for (why, method), of_seeds in seeds.items():
        methods[why, tuple(sorted(of_seeds))].append(method)
    for (why, of_seeds), names in methods.items():
        where = f"{'seed' if len(of_seeds) == 1 else 'seeds'} {', '.join(map(str, of_seeds))}"
        notes.append(f"No McNemar's test with {', '.join(names)} on {where}: {why}.")
    return notes


def no_spread(test: PairedT) -> str | None:
    """What to print for p where the seeds' differences have no spread, else None."""
    if test.p is not None:
        return None
    return "same difference on every seed" if test.mean_difference else "no difference"


def p_value(p: float) -> str:
    """Print p with three decimals, as papers do."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def signed(number: float) -> str:
    """Print a number with two decimals and its sign, if any is left of it."""
    text = f"{number:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", "−")
