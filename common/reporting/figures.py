"""The figures of a report: learning curves, confusion matrix, maps, attention."""

import dataclasses
import io
import math
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from common.reporting.fonts import families_for
from common.reporting.map_figures import maps, numbered_names
from common.reporting.read_results import Outcome
from common.reporting.report_text import numbers_in_maps
from common.system.files import write_file

BLUE, ORANGE = "#0072b2", "#e69f00"  # Okabe and Ito: told apart by colour-blind readers too
# None of these, nor a shade near it, is a class's colour, and each differs from the others in
# brightness: no map is read by the legend of another.
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "report",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class may be called $5
}


def draw_figures(outcome: Outcome) -> dict[str, Figure]:
    """Draw every figure for which the results hold the figures' data, by name."""
    families, outcome = with_readable_names(outcome)
    with matplotlib.rc_context(STYLE | {"font.family": families}):
        figures = {
            "learning_curves": learning_curves(outcome),
            "confusion": confusion(outcome),
            "maps": maps(outcome),
            "attention": attention(outcome),
        }
        figures = {name: figure for name, figure in figures.items() if figure is not None}
        for figure in figures.values():  # laid out once, not again for every file
            of_fixed_shape = any(axis.get_aspect() != "auto" for axis in figure.axes)
            for _ in range(1 + of_fixed_shape):  # such axes shrink, and leave others more room
                figure.get_layout_engine().execute(figure)
            figure.set_layout_engine(None)  # with "none" every file would be drawn twice
    return figures


def with_readable_names(outcome: Outcome) -> tuple[list[str], Outcome]:
    """Choose fonts for the classes' names; where there is none for a name, its number stands.

    Which names these are is told in a line on stderr.
    """
    names, numbers = outcome.report["class_names"], numbers_in_maps(outcome.report)
    families, missing = families_for(names)
    unreadable = [name for name in names if missing & set(name)]
    if not unreadable:
        return families, outcome
    print(
        f"note: no font on this machine has all characters of {', '.join(unreadable[:3])}"
        f"{', …' if len(unreadable) > 3 else ''}; figures say the classes' numbers instead",
        file=sys.stderr,
    )
    readable = [
        f"class {number}" if name in unreadable else name
        for name, number in zip(names, numbers, strict=True)
    ]
    return families, dataclasses.replace(outcome, report=outcome.report | {"class_names": readable})


def write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """Write each figure as PNG and as PDF, for a paper."""
    folder.mkdir(exist_ok=True)
    for name, figure in figures.items():
        write_file(folder / f"{name}.png", encoded(figure, "png", {"Software": None}))
        write_file(folder / f"{name}.pdf", encoded(figure, "pdf", {"CreationDate": None}))


def encoded(figure: Figure, kind: str, metadata: dict) -> bytes:
    """Return the figure as the bytes of a file."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    return buffer.getvalue()


def learning_curves(outcome: Outcome) -> Figure | None:
    """Loss and accuracy over the epochs, a line per iteration."""
    histories = [it.history for it in outcome.iterations if it.history]
    if not histories:
        return None
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    for axis, quantity, scale in zip(
        figure.subplots(1, 2), ("loss", "accuracy"), (1, 100), strict=True
    ):
        for part, colour in (("train", BLUE), ("validation", ORANGE)):
            for number, history in enumerate(histories):
                values = scale * history[f"{part}_{quantity}"]
                shown = np.isfinite(values)
                marker = "o" if shown.sum() == 1 else None
                style = {"color": colour, "alpha": 0.9, "linewidth": 1.2, "marker": marker}
                label = {"train": "training", "validation": "validation"}[part]
                axis.plot(
                    history["epoch"][shown], values[shown], label=None if number else label, **style
                )
        axis.set_xlabel("epoch")
        axis.set_ylabel("loss" if quantity == "loss" else "accuracy, %")
        axis.grid(alpha=0.25)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if quantity == "loss":
            axis.set_yscale("log")
            axis.yaxis.set_major_formatter("{x:g}")
            low, high = axis.get_ylim()
            axis.yaxis.set_minor_formatter(NullFormatter())
            if high < 100 * low:  # else the decades' own labels are enough
                labelled = (2, 3, 5) if high > 4 * low else range(2, 10)
                axis.yaxis.set_minor_locator(LogLocator(subs=labelled))
                axis.yaxis.set_minor_formatter("{x:g}")
        axis.legend(frameon=False)
    return figure


CONFUSION_TITLE = "per cent of the row's pixels; rounded, so that a row may not add up to 100"


def confusion(outcome: Outcome) -> Figure | None:
    """Confusion matrix over all iterations, rows in per cent of the pixels labelled so."""
    report = outcome.report
    if not report["confusion"]:
        return None
    shares = row_shares(np.sum(report["confusion"], axis=0))
    classes = len(shares)
    side = max(3.5, 0.32 * classes)
    figure = Figure(figsize=(side + 2.0, side), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    for row, col in np.argwhere(np.round(shares, 1) > 0):
        value = shares[row, col]
        text = f"{value:.0f}" if value >= 10 else f"{value:.1f}"
        dark = "white" if value > 55 else "#1b2631"
        axis.text(col, row, text, ha="center", va="center", fontsize=6, color=dark)
    numbers = numbers_in_maps(report)
    axis.set_xticks(range(classes), numbers, rotation=90 if numbers[-1] > 999 else 0)
    axis.set_yticks(range(classes), numbered_names(outcome))
    axis.set_xlabel("classified as")
    axis.set_ylabel("labelled")
    axis.set_title(CONFUSION_TITLE, fontsize=8, loc="right")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    return figure


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Per cent of each row's sum; NaN for rows without pixels."""
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, 100 * counts / np.maximum(sums, 1), np.nan)


def attention(outcome: Outcome) -> Figure | None:
    """Weights of the kernels by class, the first iteration's: branches, then the EFRs' gates."""
    layers = outcome.iterations[0].attention
    if not layers:
        return None
    names = numbered_names(outcome)
    panels = {}
    for name, weights in layers.items():
        if weights.shape[1] == 2:
            panels["weight of the branch (3,3,7); (1,1,7) has the rest"] = weights[:, 1]
        else:
            panels[f"EFR gates, {name.removesuffix('.efr').replace('_', ' ')}"] = weights[:, 0]
    height = 0.5 + 0.14 * len(names)
    figure = Figure(figsize=(7.2, height * math.ceil(len(panels) / 2) + 0.3), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12)  # inches; it reckons colour bars too narrow
    axes = figure.subplots(math.ceil(len(panels) / 2), 2, squeeze=False, sharey=True).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, weights) in zip(axes, panels.items(), strict=False):
        image = axis.imshow(weights, aspect="auto", cmap="cividis", interpolation="nearest")
        axis.set_title(title, fontsize=8)
        axis.set_yticks(range(len(names)), [name[:31] for name in names], fontsize=6)
        axis.set_xlabel("kernel", fontsize=7)
        axis.tick_params(labelsize=6, length=0)
        axis.spines[:].set_visible(False)
        figure.colorbar(image, ax=axis, fraction=0.04).ax.tick_params(labelsize=6)
    return figure
