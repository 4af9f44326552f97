"""The figures of a report: learning curves, confusion matrix, maps, attention."""

import dataclasses
import io
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from common.reporting.fonts import families_for
from common.reporting.pictures import colour_labels
from common.reporting.read_results import Outcome
from common.reporting.report import numbers_in_maps
from common.scenes.labels import class_numbers
from common.system.files import write_file

BLUE, ORANGE = "#0072b2", "#e69f00"  # Okabe and Ito: told apart by colour-blind readers too
# None of these, nor a shade near it, is a class's colour, and each differs from the others in
# brightness: no map is read by the legend of another.
SPLIT_COLOURS = {"training": "#ffffff", "validation": "#a0a0a0", "test": "#505050"}
ERROR_COLOURS = {"right": "#ffffff", "wrong": "#ff0087"}
KEYS = {"errors": ERROR_COLOURS, "split": SPLIT_COLOURS}
BLACK = "unlabelled, or not classified"  # what the maps of classes, errors and split show black
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "report",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a class may be called $5
}
NOT_CLASSIFIED = (226, 230, 234)  # in shaded maps, none of whose shades it is
LONGEST_NAME = 40  # characters of a class in a figure
LARGEST_SIDE = 1200  # pixels of a drawn map; of larger ones every n-th row and column is drawn


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


def class_names(outcome: Outcome) -> list[str]:
    """Names of the classes, cut where they would take a figure's whole width."""
    names = outcome.report["class_names"]
    return [f"{name[:LONGEST_NAME]}…" if len(name) > LONGEST_NAME else name for name in names]


def numbered_names(outcome: Outcome) -> list[str]:
    """Number and name of each class, as on the page and in ``report.txt``."""
    numbered = zip(numbers_in_maps(outcome.report), class_names(outcome), strict=True)
    return [f"{number} {name}" for number, name in numbered]


def row_shares(counts: np.ndarray) -> np.ndarray:
    """Per cent of each row's sum; NaN for rows without pixels."""
    sums = counts.sum(axis=1, keepdims=True)
    return np.where(sums > 0, 100 * counts / np.maximum(sums, 1), np.nan)


def maps(outcome: Outcome, titles: Sequence[str] | None = None) -> Figure | None:
    """Maps of the first iteration side by side, all or those of `titles`.

    Under them the classes' colours; what else a map shows stands right below it.
    """
    panels = map_panels(outcome)
    panels = {title: panels[title] for title in titles or panels}
    if not panels:
        return None
    rows, cols = outcome.report["shape"][:2]
    across = min(len(panels), 4 if rows >= cols / 2 else 2)
    down = math.ceil(len(panels) / across)
    width = 7.2 / across
    handles = class_handles(numbered_names(outcome), outcome.colours)
    legend_rows = math.ceil(len(handles) / 4)
    keys = any(title in KEYS or title in shade_ranges(outcome) for title in panels)
    height = down * (max(width * rows / cols, 0.2) + 0.22 + 0.3 * keys) + 0.16 * legend_rows + 0.2
    figure = Figure(figsize=(7.2, min(height, 9.5)), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, (title, picture) in zip(axes, panels.items(), strict=False):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title, fontsize=8)
        _add_key(figure, axis, title, shade_ranges(outcome))
    style = {"frameon": False, "fontsize": 6.5, "ncols": 4}
    legend = figure.legend(handles=handles, loc="outside lower center", **style)
    legend.set_title("classes", {"size": 6.5})
    return figure


def class_handles(names: Sequence[str], colours: Sequence[str]) -> list[Patch]:
    """A legend's entries: the classes, and what is black."""
    entries = [*zip(names, colours, strict=True), (BLACK, "#000000")]
    style = {"edgecolor": "black", "linewidth": 0.3}
    return [Patch(facecolor=colour, label=name, **style) for name, colour in entries]


def _add_key(
    figure: Figure, axis: Axes, title: str, shades: dict[str, tuple[float, float, str]]
) -> None:
    """Say under a map what its colours mean, where they are not the classes'."""
    if title in KEYS:
        handles = [
            Patch(facecolor=colour, edgecolor="black", linewidth=0.3, label=name)
            for name, colour in KEYS[title].items()
        ]
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": len(handles)}
        spaces = {"columnspacing": 0.8, "handlelength": 1.0, "handletextpad": 0.4}
        axis.legend(handles=handles, frameon=False, fontsize=6, **place, **spaces)
    elif title in shades:
        low, high, unit = shades[title]
        scale = ScalarMappable(Normalize(low, high), "cividis")
        below = axis.inset_axes((0, -0.09, 1, 0.05))  # which leaves the map its size
        bar = figure.colorbar(scale, cax=below, orientation="horizontal", ticks=[low, high])
        labels = bar.ax.set_xticklabels([f"{low:.3g}{unit}", f"{high:.3g}{unit}"], fontsize=6)
        for label, side in zip(labels, ("left", "right"), strict=True):
            label.set_horizontalalignment(side)
        bar.ax.tick_params(length=0, pad=1)
        bar.ax.set_xlabel("pale grey: not classified", fontsize=6, labelpad=-6)
        bar.outline.set_linewidth(0.3)


def shade_ranges(outcome: Outcome) -> dict[str, tuple[float, float, str]]:
    """What the darkest and the brightest shade of the shaded maps stand for, and the unit."""
    ranges = {"confidence": (1 / len(outcome.colours), 1.0, ""), "margin": (0.0, 1.0, "")}
    if len(outcome.classified) > 1:
        ranges["disagreement"] = (0.0, 100 * most_disagreement(outcome), " %")
    return ranges


def map_panels(outcome: Outcome) -> dict[str, np.ndarray]:
    """Pictures by title, RGB (rows, cols, 3): what is known of the scene and the first iteration.

    False colour, ground truth, classification, errors, confidence, the second most probable class
    and how far it is behind, disagreement of the iterations, split.
    """
    panels = {}
    if outcome.false_colour is not None:
        panels["false colour"] = _thinned(outcome.false_colour)
    truth, run = _labels(outcome, outcome.ground_truth), outcome.iterations[0]
    if truth is not None:
        panels["ground truth"] = colour_labels(truth, outcome.colours)
    if run.label_map is not None:
        label_map = _labels(outcome, run.label_map)
        panels["classification"] = colour_labels(label_map, outcome.colours)
        if truth is not None:
            classified = (truth > 0) & (label_map > 0)
            errors = np.where(classified, 1 + (label_map != truth), 0)
            panels["errors"] = colour_labels(errors, tuple(ERROR_COLOURS.values()))
    if run.confidence is not None:
        confidence = _thinned(run.confidence)
        panels["confidence"] = shaded(confidence, 1 / len(outcome.colours), 1.0)
    if run.probabilities is not None:
        second, margin = second_class(_thinned(run.probabilities))
        panels["second class"] = colour_labels(second, outcome.colours)
        panels["margin"] = shaded(margin, 0.0, 1.0)
    if len(outcome.classified) > 1:
        panels["disagreement"] = shaded(disagreement(outcome), 0.0, most_disagreement(outcome))
    if run.split is not None:
        panels["split"] = colour_labels(_thinned(run.split), tuple(SPLIT_COLOURS.values()))
    return panels


def most_disagreement(outcome: Outcome) -> float:
    """The largest share of iterations that can be outvoted: each has a label of its own."""
    return 1 - 1 / min(len(outcome.classified), len(outcome.colours))


def disagreement(outcome: Outcome) -> np.ndarray:
    """Share of the iterations that do not vote with the most; NaN where not all classified."""
    votes = np.stack([_thinned(it.label_map) for it in outcome.classified])
    for_label = [(votes == label).sum(axis=0) for label in np.unique(votes[votes > 0])]
    most = np.max(for_label, axis=0) if for_label else np.zeros(votes.shape[1:])
    return np.where((votes > 0).all(axis=0), 1 - most / len(votes), np.nan)


def second_class(probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the second most probable class of each pixel, and by how much it is behind the first.

    Parameters
    ----------
    probabilities : float array (rows, cols, C)
        0 in all classes where a pixel was not classified.

    Returns
    -------
    second : int64 array (rows, cols)
        Its label, 1..C, or 0 where not classified, or where there is no second class.
    margin : float array (rows, cols)
        The largest probability less the second; NaN where not classified.
    """
    classified, classes = probabilities.any(axis=2), probabilities.shape[2]
    padded = np.pad(probabilities, [(0, 0), (0, 0), (0, 1)])  # for scenes of one class
    order = np.argsort(-padded, axis=2, kind="stable")[..., :2]  # as argmax, where some are equal
    largest = np.take_along_axis(padded, order, axis=2)
    second = np.where(classified & (order[..., 1] < classes), order[..., 1] + 1, 0)
    return second, np.where(classified, largest[..., 0] - largest[..., 1], np.nan)


def shaded(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Values (rows, cols) from `low` to `high` as RGB shades, bright for high; NaN light grey."""
    shades = matplotlib.colormaps["cividis"]
    scaled = np.nan_to_num((values - low) / (high - low)).clip(0, 1)
    rgb = (255 * shades(scaled)[..., :3]).round().astype(np.uint8)
    rgb[np.isnan(values)] = NOT_CLASSIFIED
    return rgb


def _labels(outcome: Outcome, label_map: np.ndarray | None) -> np.ndarray | None:
    """The labels 0..C of a map or ground truth, thinned."""
    if label_map is None:
        return None
    return class_numbers(_thinned(label_map), np.array([0, *numbers_in_maps(outcome.report)]))


def _thinned(array: np.ndarray | None) -> np.ndarray | None:
    """Every n-th row and column, so that the longer side is at most `LARGEST_SIDE`."""
    if array is None:
        return None
    step = -(-max(array.shape[:2]) // LARGEST_SIDE)
    return np.asarray(array[::step, ::step])


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
