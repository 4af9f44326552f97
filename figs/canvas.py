"""Boxes, nodes and arrows on a page measured in points, y downwards, as all diagrams have them."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

WIDTH = 720  # of every page
FONT = 9.0
SMALL = 8.5
LINE = 11.5  # from one line of text to the next
NODE = 7.5  # radius of ⊕ and ⊗
DPI = 160  # 1600 pixels for a page
INK, GREY = "#222222", "#555555"
COLOURS = {  # by kind of step: Okabe and Ito's, told apart by colour-blind readers
    "data": "#999999",
    "conv": "#56B4E9",
    "norm": "#009E73",
    "weights": "#E69F00",
    "function": "#F0E442",
    "linear": "#CC79A7",
}
STYLE = {"font.family": "DejaVu Sans", "font.size": FONT, "pdf.fonttype": 42}

Point = tuple[float, float]


def page(height: float) -> Axes:
    """Open an empty white page, `height` points high."""
    figure = plt.figure(figsize=(WIDTH / 72, height / 72), facecolor="white")
    axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axis.set_axis_off()
    return axis


def save(axis: Axes, stem: Path) -> None:
    """Write the page to `stem`.png and `stem`.pdf, the same bytes each time, and close it."""
    figure = axis.figure
    figure.savefig(stem.with_suffix(".png"), dpi=DPI, metadata={"Software": None})
    nothing = {"Creator": None, "Producer": None, "CreationDate": None}
    figure.savefig(stem.with_suffix(".pdf"), metadata=nothing)
    plt.close(figure)


def heading(axis: Axes, title: str, note: str) -> None:
    """Write the title of the page at its upper left, and a note at its upper right."""
    text(axis, 10, 17, title, ha="left", size=12, weight="bold")
    text(axis, WIDTH - 10, 17, note, ha="right")


def text_width(lines: Sequence[str], size: float = FONT) -> float:
    """Width in points of the longest line."""
    drawn = [TextPath((0, 0), line, size=size).get_extents().width for line in lines if line]
    return max(drawn, default=0.0)


def text(axis: Axes, x: float, y: float, line: str, **style) -> None:
    """Write a line, centred on (x, y) unless the style says otherwise."""
    axis.text(x, y, line, **{"ha": "center", "va": "center", "color": INK, **style})


def box(
    axis: Axes, centre: Point, width: float, height: float, lines: Sequence[str], kind: str
) -> None:
    """Draw a box in the colour of its kind, its lines of text in the middle."""
    x, y = centre
    colour = COLOURS[kind]
    frame(
        axis, (x - width / 2, y - height / 2), width, height, fc=tint(colour, 0.4), ec=INK, lw=0.8
    )
    for row, line in enumerate(lines):
        text(axis, x, y + LINE * (row - (len(lines) - 1) / 2), line)


def frame(axis: Axes, corner: Point, width: float, height: float, radius=3.0, **style) -> None:
    """Draw a rectangle with round corners, from its upper left corner."""
    shape = f"round,pad=0,rounding_size={radius}"
    axis.add_patch(FancyBboxPatch(corner, width, height, boxstyle=shape, **style))


def tint(colour: str, strength: float) -> tuple[float, ...]:
    """Mix a colour with white: strength 1 is the colour itself, 0 is white."""
    channels = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return tuple(1 - strength * (1 - channel) for channel in channels)


def node(axis: Axes, centre: Point, sign: str) -> None:
    """Draw ⊕ (sign "+") or ⊗ (sign "×")."""
    x, y = centre
    axis.add_patch(Circle(centre, NODE, fc="white", ec=INK, lw=1.0, zorder=3))
    reach = 0.62 * NODE
    if sign == "+":
        strokes = [((-1, 0), (1, 0)), ((0, -1), (0, 1))]
    else:
        strokes = [((-0.7, -0.7), (0.7, 0.7)), ((-0.7, 0.7), (0.7, -0.7))]
    for (x0, y0), (x1, y1) in strokes:
        ends = [x + reach * x0, x + reach * x1], [y + reach * y0, y + reach * y1]
        axis.plot(*ends, color=INK, lw=1.2, zorder=4)


def junction(axis: Axes, centre: Point) -> None:
    """Draw the dot where an arrow branches off another."""
    axis.add_patch(Circle(centre, 2.2, fc=INK, ec="none", zorder=3))


def arrow(axis: Axes, *points: Point, lw: float = 1.1) -> None:
    """Draw an arrow through the points, its corners rounded."""
    vertices, codes = [points[0]], [Curve.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Curve.LINETO, Curve.CURVE3, Curve.CURVE3]
    path = Curve([*vertices, points[-1]], [*codes, Curve.LINETO])
    style = {"lw": lw, "zorder": 2, "joinstyle": "miter", "capstyle": "butt", "fc": INK, "ec": INK}
    tip = "-|>,head_length=5,head_width=2.2"
    axis.add_patch(FancyArrowPatch(path=path, arrowstyle=tip, **style))


def _towards(corner: Point, other: Point, radius: float = 4.0) -> Point:
    """Point at most `radius` away from the corner, on the way to the other point."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    share = min(0.5, radius / max(abs(dx), abs(dy), 1e-9))
    return corner[0] + share * dx, corner[1] + share * dy
