"""The figure of a study: the maps of all methods on one scene, side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from common.reporting.figures import STYLE, encoded
from common.reporting.map_figures import class_handles, map_panels, numbered_names
from common.reporting.read_results import read_outcome

PANELS_ACROSS = 5


def encoded_maps(directories: dict[str, Path]) -> dict[str, bytes]:
    """Draw the maps in results directories, by method: a PNG and a PDF, or none without maps."""
    figure = maps_figure(directories)
    if figure is None:
        return {}
    of_kind = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    return {kind: encoded(figure, kind, metadata) for kind, metadata in of_kind.items()}


def maps_figure(directories: dict[str, Path]) -> Figure | None:
    """False colour, ground truth and the first map of every method, as papers print them."""
    outcomes = {name: read_outcome(directory) for name, directory in directories.items()}
    outcomes = {name: found for name, found in outcomes.items() if found.classified}
    if not outcomes:
        return None
    panels, first = {}, next(iter(outcomes.values()))
    for name, outcome in outcomes.items():
        shown, report = map_panels(outcome), outcome.report
        for title in ("false colour", "ground truth"):
            if title in shown:
                panels.setdefault(title, shown[title])
        title = f"{name}, {100 * report['oa'][0]:.2f} %" if report["oa"] else name
        panels[title] = shown["classification"]
    return _side_by_side(panels, numbered_names(first), first.colours)


def _side_by_side(
    panels: dict[str, np.ndarray], names: Sequence[str], colours: Sequence[str]
) -> Figure:
    rows, cols = next(iter(panels.values())).shape[:2]
    across = min(len(panels), PANELS_ACROSS)
    down = -(-len(panels) // across)
    legend = -(-len(colours) // 4)
    height = down * (7.2 / across * rows / cols + 0.25) + 0.16 * legend
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, min(height, 9.5)), layout="constrained")
        axes = figure.subplots(down, across, squeeze=False).ravel()
        for axis in axes:
            axis.set_axis_off()
        for axis, (title, picture) in zip(axes, panels.items(), strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(title, fontsize=7)
        handles = class_handles(names, colours)
        style = {"frameon": False, "fontsize": 6.5, "ncols": 4}
        figure.legend(handles=handles, loc="outside lower center", **style)
    return figure
