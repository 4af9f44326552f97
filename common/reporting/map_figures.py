"""Maps of a scene and of the first iteration, as pictures and as one figure."""

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from common.reporting.pictures import colour_labels
from common.reporting.read_results import Outcome
from common.reporting.report_text import numbers_in_maps
from common.scenes.labels import class_numbers

SPLIT_COLOURS = {"training": "#ffffff", "validation": "#a0a0a0", "test": "#505050"}


ERROR_COLOURS = {"right": "#ffffff", "wrong": "#ff0087"}


KEYS = {"errors": ERROR_COLOURS, "split": SPLIT_COLOURS}


BLACK = "unlabelled, or not classified"  # what the maps of classes, errors and split show black


NOT_CLASSIFIED = (226, 230, 234)  # in shaded maps, none of whose shades it is


LONGEST_NAME = 40  # characters of a class in a figure


LARGEST_SIDE = 1200  # pixels of a drawn map; of larger ones every n-th row and column is drawn


def class_names(outcome: Outcome) -> list[str]:
    """Names of the classes, cut where they would take a figure's whole width."""
    names = outcome.report["class_names"]
    return [f"{name[:LONGEST_NAME]}…" if len(name) > LONGEST_NAME else name for name in names]


def numbered_names(outcome: Outcome) -> list[str]:
    """Number and name of each class, as on the page and in ``report.txt``."""
    numbered = zip(numbers_in_maps(outcome.report), class_names(outcome), strict=True)
    return [f"{number} {name}" for number, name in numbered]


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
