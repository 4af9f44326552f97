"""A paper's table of several results directories: ``python -m common table --help``.

Classes are rows and methods columns, with OA, AA and kappa at the bottom and the best in bold;
tests of significance between the first method, or that of ``--reference``, and each other follow.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import write_file
from common.system.flags import file_name
from common.tables.further_tables import class_table, cost_table, further_csv
from common.tables.methods import (
    DISTINGUISHING,
    SUMMARIES,
    Method,
    read_methods,
    with_distinct_names,
)
from common.tables.significance import Comparison, compare
from common.tables.significance_tables import left_out_notes, mcnemar_table, paired_table, tests_csv
from common.tables.table_formats import NONE, Table, csv_text, latex, markdown

SUFFIXES = {"md": ".md", "latex": ".tex", "csv": ".csv"}


def accuracy_table(methods: Sequence[Method], notes: Sequence[str] = ()) -> Table:
    """Accuracies in per cent, and under them `notes` and what else one must know to compare."""
    first = methods[0]
    titles = [*first.class_names, "OA", "AA", "κ × 100", "F1, macro"]
    pixels = [f"{count:.0f}" for count in first.train_pixels] + [""] * len(SUMMARIES)
    cells = np.array([_percentages(method) for method in methods]).T
    several = any(len(method.oa) > 1 for method in methods)
    spread = ", mean ± standard deviation over iterations" if several else ""
    best = "; best in bold" if len(methods) > 1 else ""
    return Table(
        caption=f"{first.scene}: test accuracies in per cent{spread}{best}.",
        header=["class", "training pixels", *(method.name for method in methods)],
        rows=[[title, n, *row] for title, n, row in zip(titles, pixels, cells, strict=True)],
        align="lr" + "r" * len(methods),
        bold=frozenset((row, column + 2) for row, column in best_cells(methods)),
        rule_above=len(first.class_names),
        notes=[*comparability_notes(methods), *notes],
    )


def method_tables(methods: Sequence[Method], notes: Sequence[str] = ()) -> list[Table]:
    """Every table of methods but the tests: accuracies, with `notes`; precision and F1; costs."""
    return [accuracy_table(methods, notes), class_table(methods), cost_table(methods)]


def _percentages(method: Method) -> list[str]:
    """Cells of a method's column: ``mean ± std`` in per cent, without ± for one iteration."""
    return [
        NONE
        if math.isnan(mean)
        else f"{100 * mean:.2f}" + (f" ± {100 * std:.2f}" if len(method.oa) > 1 else "")
        for mean, std in zip(method.mean, method.std, strict=True)
    ]


def best_cells(methods: Sequence[Method]) -> set[tuple[int, int]]:
    """(row, method) of each row's highest mean as printed, ties included.

    A row where fewer than two methods have a figure has no best.
    """
    printed = np.array([[float(f"{100 * mean:.2f}") for mean in m.mean] for m in methods])
    best = set()
    for row, means in enumerate(printed.T):
        if np.isfinite(means).sum() > 1:
            best |= {(row, int(column)) for column in np.flatnonzero(means == np.nanmax(means))}
    return best


def comparability_notes(methods: Sequence[Method]) -> list[str]:
    """Say over what the means are, and in what the methods' runs differ."""
    first, *others = methods
    done = {method.name: f"{len(method.oa)} of {method.asked}" for method in methods}
    done |= {m.name: str(m.asked) for m in methods if len(m.oa) == m.asked}
    each = ", ".join(f"{count} ({name})" for name, count in done.items())
    notes = [f"Iterations: {done[first.name] if len(set(done.values())) == 1 else each}."]
    different = [m for m in others if not np.array_equal(m.train_pixels, first.train_pixels)]
    if different:
        totals = ", ".join(f"{m.train_pixels.sum():.0f} ({m.name})" for m in [first, *different])
        notes.append(
            f"Training pixels are those of {first.name}; other methods had others, in all {totals}."
        )
    settings = [name for name in DISTINGUISHING if name not in ("attention", "seed", "iter")]
    # None is no other setting, but none at all: an SVM has no learning rate to differ
    values = {name: {str(method.settings.get(name)) for method in methods} for name in settings}
    differing = [n.replace("_", " ") for n, found in values.items() if len(found - {"None"}) > 1]
    if differing:
        notes.append(f"Settings that differ: {', '.join(differing)}.")
    return notes


def accuracies_csv(methods: Sequence[Method]) -> str:
    """Every figure as a plain number, shares in per cent; empty where there is none."""
    header = ["class", "training_pixels"]
    header += [f"{method.name} {what}" for method in methods for what in ("mean", "std")]
    titles = [*methods[0].class_names, "OA", "AA", "kappa", "F1, macro"]
    pixels = [f"{count:g}" for count in methods[0].train_pixels] + [None] * len(SUMMARIES)
    rows = [[title, count] for title, count in zip(titles, pixels, strict=True)]
    for method in methods:
        for row, mean, std in zip(rows, method.mean, method.std, strict=True):
            has_std = len(method.oa) > 1 and not math.isnan(std)
            row.append(None if math.isnan(mean) else f"{100 * mean:.4f}")
            row.append(f"{100 * std:.4f}" if has_std else None)
    return csv_text(header, rows + further_csv(methods))


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the command line."""
    parser = OneLineParser(
        prog="python -m common table",
        description="Gather results directories of one scene into one table: classes as rows, "
        "methods as columns, best in bold, and tests of significance.",
    )
    parser.add_argument("directories", nargs="+", type=file_name, metavar="RESULTS_DIR")
    parser.add_argument(
        "--format", choices=SUFFIXES, help="default: what --out's ending says (.tex, .csv), else md"
    )
    parser.add_argument(
        "--out",
        type=file_name,
        help="file to write, replaced where it exists; default: standard output. Beside a .csv, "
        "<name>_tests.csv holds the tests",
    )
    parser.add_argument("--names", help='titles of the columns, as in "A,B"; default: the models')
    parser.add_argument(
        "--reference",
        metavar="NAME",
        help="method, by title or directory, that is tested against each other; default: the first",
    )
    return parser


def named(methods: Sequence[Method], names: str | None) -> list[Method]:
    """Give the methods the user's names, separated by commas, or those that tell them apart."""
    if names is None:
        return with_distinct_names(methods)
    titles = [" ".join(name.split()) for name in names.split(",")]
    if len(titles) != len(methods):
        raise InputError(f"--names {names}: {len(titles)} for {len(methods)} results directories")
    if len(set(titles)) < len(titles) or "" in titles:
        raise InputError(f"--names {names}: every method needs a name of its own")
    return [method.named(title) for method, title in zip(methods, titles, strict=True)]


def against_reference(methods: Sequence[Method], reference: str | None) -> list[Comparison]:
    """Compare the reference, by default the first method, with each other method."""
    known = [m for m in methods if reference in (None, m.name) or m.directory == Path(reference)]
    if not known:
        names = "; ".join(method.name for method in methods)
        raise InputError(f"--reference {reference}: not in the table, which holds {names}")
    return [compare(known[0], method) for method in methods if method is not known[0]]


def format_of(out: Path | None) -> str:
    """Return the format that the file's ending says, Markdown without a file."""
    if out is None:
        return "md"
    for name, suffix in SUFFIXES.items():
        if out.suffix.lower() == suffix:
            return name
    known = ", ".join(SUFFIXES.values())
    raise InputError(f"--out {out}: its ending says no format; use {known}, or add --format")


def write(flags: argparse.Namespace) -> None:
    """Write what the command line asks for; raises InputError where that cannot be done."""
    out = flags.out and Path(flags.out)
    chosen = flags.format or format_of(out)
    methods = named(read_methods(list(map(Path, flags.directories))), flags.names)
    comparisons = against_reference(methods, flags.reference)
    notes = left_out_notes(comparisons)
    csv_tests = None
    if chosen == "csv":
        text, csv_tests = accuracies_csv(methods), tests_csv(comparisons)
        for note in [*comparability_notes(methods), *notes]:
            print(f"note: {note}", file=sys.stderr)
    else:
        tests = (mcnemar_table(comparisons), paired_table(comparisons))
        tables = [*method_tables(methods, notes), *filter(None, tests)]
        text = markdown(tables) if chosen == "md" else latex(tables)
    if out is None:
        print(text, end="")
        if csv_tests and comparisons:
            print("note: --out FILE writes the tests too, to FILE's _tests.csv", file=sys.stderr)
        return
    try:
        write_file(out, text)
        if csv_tests and comparisons:
            write_file(out.with_name(f"{out.stem}_tests.csv"), csv_tests)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status: 0 done, 2 wrong input, told in one line."""
    parser = build_parser()
    return run_program(parser.prog, lambda: write(parser.parse_args(arguments)), interrupted="")
