"""Beside the accuracies: precision and F1 of each class, what the methods cost, intervals of OA."""

from collections.abc import Sequence

import numpy as np

from common.reporting.intervals import blocks_interval
from common.reporting.report_text import INTERVALS, is_known
from common.tables.methods import Method, UnavailableError, correctness
from common.tables.table_formats import NONE, Table

OF_CLASSES = {"precision": "precision", "f1": "F1"}
COSTS = {  # key of report.json → title, how it is written
    "parameters": ("learned parameters", "{:,.0f}"),
    "macs_per_pixel": ("multiply-adds per pixel, patches", "{:,.0f}"),
    "macs_per_pixel_dense": ("dense", "{:,.0f}"),
    "train_seconds_per_epoch": ("training, s per epoch", "{:.2f}"),
    "peak_memory_mb": ("peak memory, MB", "{:,.0f}"),
}


def class_table(methods: Sequence[Method]) -> Table:
    """Precision and F1 of each class in per cent, means over iterations."""
    header = ["class"] + [f"{m.name}, {title}" for m in methods for title in OF_CLASSES.values()]
    columns = [method.report[f"{key}_mean"] for method in methods for key in OF_CLASSES]
    rows = [
        [name, *(f"{100 * mean:.2f}" if is_known(mean) else NONE for mean in means)]
        for name, *means in zip(methods[0].class_names, *columns, strict=True)
    ]
    return Table(
        caption=f"{methods[0].scene}: precision and F1 of each class in per cent, means over "
        "iterations.",
        header=header,
        rows=rows,
        align="l" + "r" * len(columns),
        notes=[
            "Precision is the share of the pixels classified so that are labelled so, F1 its "
            "harmonic mean with the class's accuracy."
        ],
    )


def cost_table(methods: Sequence[Method]) -> Table:
    """What each method costs, and 95 % intervals of its mean OA."""
    rows = [
        [
            method.name,
            *(_cell(cost(method, key), form) for key, (_, form) in COSTS.items()),
            *(_cell_of(interval(method, key)) for key in INTERVALS),
        ]
        for method in methods
    ]
    titles = [title for title, _ in COSTS.values()]
    titles += [f"OA %, 95 %, {over}" for over, _ in INTERVALS.values()]
    sentences = [f"over {over}, {what}" for over, what in INTERVALS.values()]
    notes = [
        f"95 % intervals of the mean OA: {'; '.join(sentences)}.",
        "Multiply-adds are those of the plain layers for one pixel: of its patch by itself, and "
        "where all pixels of a scene share what their patches have in common (dense). Seconds and "
        "memory are those of the machine that the run was made on.",
    ]
    return Table(
        caption=f"{methods[0].scene}: what the methods cost, and intervals of the mean OA.",
        header=["method", *titles],
        rows=rows,
        align="l" + "r" * len(titles),
        notes=notes,
    )


def cost(method: Method, key: str) -> float | None:
    """A figure of `COSTS`, of a list its mean; None where the report has none."""
    value = method.report.get(key)
    if isinstance(value, list):
        known = [entry for entry in value if is_known(entry)]
        return float(np.mean(known)) if known else None
    return value


def _cell(value: float | None, form: str) -> str:
    return form.format(value) if is_known(value) else NONE


def interval(method: Method, key: str) -> Sequence[float] | None:
    """One of `INTERVALS`: by the report, or by the maps where that is of an earlier version."""
    if key != "oa_ci95_blocks" or key in method.report:
        return method.report.get(key)
    try:
        found = [correctness(method, n) for n in range(len(method.oa))]
    except UnavailableError:
        return None
    return blocks_interval(method.report["shape"][:2], [(c.pixels, c.right) for c in found])


def _cell_of(ends: Sequence[float] | None) -> str:
    return f"{100 * ends[0]:.2f}–{100 * ends[1]:.2f}" if ends else NONE


def further_csv(methods: Sequence[Method]) -> list[list[str | None]]:
    """The same as rows of `paper_table.accuracies_csv`: title, nothing, mean and std by method."""
    rows: list[list[str | None]] = []
    for key, title in OF_CLASSES.items():
        for c, name in enumerate(methods[0].class_names):
            row = [f"{title}, {name}", None]
            for method in methods:
                mean, std = (method.report[f"{key}_{what}"][c] for what in ("mean", "std"))
                several = len(method.oa) > 1
                row += [_plain(mean, 100), _plain(std if several else None, 100)]
            rows.append(row)
    for key in COSTS:
        row = [key, None]
        for method in methods:
            row += [_plain(cost(method, key)), None]
        rows.append(row)
    for key in INTERVALS:
        for end, title in enumerate(("low", "high")):
            row = [f"{key}_{title}", None]
            for method in methods:
                ends = interval(method, key)
                row += [_plain(ends[end], 100) if ends else None, None]
            rows.append(row)
    return rows


def _plain(value: float | None, factor: int = 1) -> str | None:
    if not is_known(value):
        return None
    number = factor * value
    return str(number) if isinstance(number, int) else f"{number:.4f}"
