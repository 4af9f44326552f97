"""The figure of learning curves: OA and AA against the number of training pixels."""

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from common.reporting.figures import STYLE, encoded
from common.reporting.fonts import families_for
from common.tables.curve_points import Point

# Okabe and Ito's colours, told apart by colour-blind readers too, and a marker for grey paper.
METHOD_STYLES = (
    ("#0072b2", "o"),
    ("#e69f00", "s"),
    ("#009e73", "^"),
    ("#d55e00", "D"),
    ("#cc79a7", "v"),
    ("#56b4e9", "P"),
    ("#000000", "X"),
)
SERIES_STYLES = ("-", "--", ":", "-.")
LINE = {"linewidth": 1.5, "markersize": 4.5}


def encoded_curves(points: Sequence[Point]) -> dict[str, bytes]:
    """Make the figure's files by their ending; none where there is no result to draw."""
    figure = curves_figure(points)
    if figure is None:
        return {}
    without_dates = {"png": {"Software": None}, "pdf": {"CreationDate": None}}
    return {kind: encoded(figure, kind, metadata) for kind, metadata in without_dates.items()}


def curves_figure(points: Sequence[Point]) -> Figure | None:
    """OA (left) and AA (right) against training pixels; a row of panels for each split.

    Parameters
    ----------
    points : sequence of Point
        All of one scene.  Those without a result are left out of the lines.

    Returns
    -------
    Figure or None
        None where there is no result at all.
    """
    drawn = [point for point in points if not point.absent]
    if not drawn:
        return None
    splits, methods, series = (
        list(dict.fromkeys(getattr(point, key) for point in drawn))
        for key in ("split", "method", "series")
    )
    families, _ = families_for([*splits, *methods, *series])
    with matplotlib.rc_context(STYLE | {"font.family": families}):
        figure = Figure(figsize=(7.2, 1.1 + 2.4 * len(splits)), layout="constrained")
        axes = figure.subplots(len(splits), 2, squeeze=False, sharex=True, sharey=True)
        for row, split in zip(axes, splits, strict=True):
            for axis, quantity in zip(row, ("oa", "aa"), strict=True):
                title = f"{quantity.upper()}, {split} split" if split else quantity.upper()
                axis.set_title(title, fontsize=10, loc="left")
                for number, method in enumerate(methods):
                    for name, style in zip(series, _series_styles(len(series)), strict=True):
                        line = (split, method, name)
                        shown = [p for p in drawn if (p.split, p.method, p.series) == line]
                        _draw_line(axis, shown, quantity, style | _method_style(number))
        _label_axes(axes)
        _add_legends(figure, methods, series)
    return figure


def _method_style(number: int) -> dict:
    colour, marker = METHOD_STYLES[number % len(METHOD_STYLES)]
    return {"color": colour, "marker": marker}


def _series_styles(count: int) -> list[dict]:
    """Of the series: solid lines with filled markers first, then broken ones with open markers."""
    return [
        {
            "linestyle": SERIES_STYLES[number % len(SERIES_STYLES)],
            "markerfacecolor": "white" if number else None,
            **LINE,
        }
        for number in range(count)
    ]


def _draw_line(axis: Axes, points: Sequence[Point], quantity: str, style: dict) -> None:
    """Join the means of one method's points, with a band of one standard deviation."""
    numbers = [(np.mean(p.train_pixels), *p.percent(quantity)) for p in points]
    numbers = sorted(n for n in numbers if not np.isnan(n[1]))
    if not numbers:
        return  # an empty line that is not clipped would confuse the layout
    pixels, mean, std = np.array(numbers).T
    axis.plot(pixels, mean, clip_on=False, **style)  # a marker at 100 % is whole
    if len(numbers) == 1:
        axis.vlines(pixels, mean - std, mean + std, color=style["color"], alpha=0.5, lw=1)
    axis.fill_between(pixels, mean - std, mean + std, color=style["color"], alpha=0.15, lw=0)


def _label_axes(axes: np.ndarray) -> None:
    """Per cent up to 100, pixels on a logarithmic axis with plain numbers."""
    first = axes[0, 0]
    first.set_ylim(top=100)
    first.set_xscale("log")
    low, high = first.get_xlim()
    wide = high > 5 * low  # else decades and their parts give too few numbers
    first.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)) if wide else MaxNLocator(5))
    first.xaxis.set_minor_locator(LogLocator(subs=range(1, 10)) if wide else NullLocator())
    for axis in axes.ravel():
        axis.grid(alpha=0.25)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in axes[-1]:
        axis.set_xlabel("training pixels")
    for axis in axes[:, 0]:
        axis.set_ylabel("%")


def _add_legends(figure: Figure, methods: Sequence[str], series: Sequence[str]) -> None:
    """Methods above the panels; series, where there are several, below them."""
    handles = [
        Line2D([], [], label=method, **LINE, **_method_style(number))
        for number, method in enumerate(methods)
    ]
    across = max(1, min(len(handles), 80 // (max(map(len, methods)) + 6)))
    style = {"frameon": False, "handlelength": 3}
    figure.legend(handles=handles, loc="outside upper center", ncols=across, **style)
    if len(series) > 1:
        handles = [
            Line2D([], [], label=name, color="#555555", marker="o", **line)
            for name, line in zip(series, _series_styles(len(series)), strict=True)
        ]
        across = max(1, min(len(handles), 80 // (max(map(len, series)) + 6)))
        figure.legend(handles=handles, loc="outside lower center", ncols=across, **style)
