"""Diagram of a whole network, laid out from its traced steps."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from torch import nn

from figs import canvas
from figs.canvas import LINE, NODE, SMALL, WIDTH, Point
from figs.tracing import Step, shape_text, trace

LEFT, RIGHT = 62.0, WIDTH - 36.0  # ends of a row of boxes
GAP, STAGE_GAP = 16.0, 36.0  # between boxes in a stage, and between stages, at least
BOX = 46.0  # height of a box, unless a convolution has more to say
PAD, SHORTCUT = 7.0, 20.0  # from boxes to their frame; above, where a shortcut runs
TAP = 12.0  # where a shortcut branches off, left of the first box
TITLE, SHAPE = 19.0, 17.0  # height of what is written above and below a frame
GUTTER = 15.0  # below a row, for the arrow that leads to the next
HEADER, FOOTER = 34.0, 24.0
HALVES = (("spectral half", "#0072B2"), ("spatial half and head", "#D55E00"))
LEGEND = (
    "Within a box, read from top to bottom. Below each stage: the shape of its output, "
    "rows × cols × bands, kernels. same: zero padding keeps the size."
)

Column = list[Step]  # steps above each other: parallel branches have two
Unit = list[Column]  # columns of one stage, or of stages above each other: never torn apart


@dataclass(frozen=True)
class Place:
    """Where a step stands: row of the page, centre, half its width and height, in points."""

    row: int
    x: float
    y: float
    half_width: float
    half_height: float

    @property
    def left(self) -> float:
        return self.x - self.half_width

    @property
    def right(self) -> float:
        return self.x + self.half_width

    @property
    def top(self) -> float:
        return self.y - self.half_height

    @property
    def bottom(self) -> float:
        return self.y + self.half_height


@dataclass(frozen=True)
class Row:
    """Units side by side, with the height of the row and of what stands in it, in points."""

    units: list[Unit]
    half: int
    top: float

    @property
    def columns(self) -> list[Column]:
        return [column for unit in self.units for column in unit]

    @property
    def lanes(self) -> int:
        return max(map(len, self.columns))

    @property
    def box_height(self) -> float:
        return max(_height(step) for column in self.columns for step in column)

    @property
    def lane_height(self) -> float:
        above = PAD if self.lanes > 1 else SHORTCUT
        return TITLE + above + self.box_height + PAD + SHAPE

    @property
    def bottom(self) -> float:
        return self.top + self.lanes * self.lane_height + GUTTER

    def lane_y(self, lane: float) -> float:
        """Height of the boxes' centres in a lane."""
        return self.top + (lane + 1) * self.lane_height - SHAPE - PAD - self.box_height / 2


def draw_network(network: nn.Module, title: str, patch_shape: tuple, stem: Path) -> None:
    """Draw the network run on a patch of (rows, cols, bands), to `stem`.png and `stem`.pdf."""
    steps = trace(network, patch_shape)
    rows = _rows(steps)
    places = {name: place for n, row in enumerate(rows) for name, place in _places(n, row)}
    with plt.rc_context(canvas.STYLE):
        axis = canvas.page(rows[-1].bottom + FOOTER)
        parameters = sum(p.numel() for p in network.parameters())
        note = f"{steps[-1].shape[0]} classes, {parameters:,} parameters"
        canvas.heading(axis, title, note)
        _draw_halves(axis, rows)
        _draw_stages(axis, steps, places)
        for step in steps:
            _draw_step(axis, step, places[step.name])
        _draw_wires(axis, steps, places, rows)
        canvas.text(axis, 10, rows[-1].bottom + 9, LEGEND, ha="left", size=SMALL)
        canvas.save(axis, stem)


def _rows(steps: list[Step]) -> list[Row]:
    """Break the network into rows: between stages, and after the spectral half."""
    broken: list[tuple[int, list[Unit]]] = []
    half, right = 0, RIGHT
    for unit in _units(steps):
        right += STAGE_GAP + _natural_width(unit)
        if right > RIGHT or half != broken[-1][0]:
            broken.append((half, []))
            right = LEFT + _natural_width(unit)
        broken[-1][1].append(unit)
        half += unit[-1][-1].name == "transpose"  # kernels become bands: the spatial half begins
    rows: list[Row] = []
    for half, units in broken:
        rows.append(Row(units, half, rows[-1].bottom if rows else HEADER))
    return rows


def _units(steps: list[Step]) -> Iterator[Unit]:
    """Columns of steps that are equally far from the patch, those of a stage together."""
    depth: dict[str, int] = {}
    for step in steps:
        depth[step.name] = 1 + max((depth[source] for source in step.reads), default=0)
    ordered = sorted(steps, key=lambda step: depth[step.name])
    columns = (list(column) for _, column in groupby(ordered, lambda step: depth[step.name]))
    return (list(unit) for _, unit in groupby(columns, lambda column: column[0].stage))


def _natural_width(unit: Unit) -> float:
    return sum(map(_width, unit)) + GAP * (len(unit) - 1)


def _width(column: Column) -> float:
    """Width of a column's boxes: that of their text, and of the shape below a lonely one."""
    if column[0].kind == "add":
        return 2 * NODE
    widths = [canvas.text_width(step.text) for step in column]
    widths += [canvas.text_width([shape_text(step.shape)]) - 12 for step in column if _alone(step)]
    return max(22.0, *widths) + 12


def _height(step: Step) -> float:
    return 2 * NODE if step.kind == "add" else max(BOX, LINE * len(step.text) + 9)


def _alone(step: Step) -> bool:
    """Whether the step is a stage of its own, and so has no frame."""
    return step.stage == step.name


def _places(number: int, row: Row) -> Iterator[tuple[str, Place]]:
    """Place a row's steps, the gaps widened so that the row is full."""
    widths = sum(map(_width, row.columns))
    gaps = sum(GAP * (len(unit) - 1) for unit in row.units) + STAGE_GAP * (len(row.units) - 1)
    stretch = (RIGHT - LEFT - widths) / max(gaps, 1)
    x = LEFT
    for unit in row.units:
        for column in unit:
            half_width = _width(column) / 2
            for lane, step in enumerate(column):
                middle = lane if len(column) > 1 else (row.lanes - 1) / 2
                half_height = _height(step) / 2
                if step.kind == "weights" and len(step.reads) > 1:  # reads from every lane
                    half_height += row.lane_height / 2
                y = row.lane_y(middle)
                yield step.name, Place(number, x + half_width, y, half_width, half_height)
            x += 2 * half_width + GAP * stretch
        x += (STAGE_GAP - GAP) * stretch


def _draw_halves(axis: Axes, rows: list[Row]) -> None:
    """Draw a background behind the rows of each half, with its name at the left."""
    for half, members in groupby(rows, lambda row: row.half):
        members = list(members)
        name, colour = HALVES[half]
        top, bottom = members[0].top + 4, members[-1].bottom - 6
        fill = {"fc": canvas.tint(colour, 0.07), "ec": "none", "zorder": 0}
        canvas.frame(axis, (8, top), WIDTH - 16, bottom - top, radius=6, **fill)
        style = {"rotation": 90, "color": colour, "weight": "bold", "size": 10}
        canvas.text(axis, 19, (top + bottom) / 2, name, **style)


def _draw_stages(axis: Axes, steps: list[Step], places: dict[str, Place]) -> None:
    """Draw the stages' frames and titles, and the shapes of their outputs."""
    for stage, members in groupby(steps, lambda step: step.stage):
        members = list(members)
        inside = [places[step.name] for step in members]
        bottom = max(place.bottom for place in inside)
        if not _alone(members[0]):
            shortcut = any(step.kind == "add" for step in members)
            left = inside[0].left - (PAD + TAP if shortcut else PAD)
            top = min(place.top for place in inside) - (SHORTCUT if shortcut else PAD)
            bottom += PAD
            size = inside[-1].right + PAD - left, bottom - top
            style = {"fc": "white", "ec": canvas.GREY, "lw": 0.8, "ls": (0, (4, 2))}
            canvas.frame(axis, (left, top), *size, **style)
            canvas.text(axis, left + 2, top - 7, stage, ha="left", color=canvas.GREY)
        for shape, run in groupby(members, lambda step: step.shape):
            run = list(run)
            middle = (places[run[0].name].left + places[run[-1].name].right) / 2
            canvas.text(axis, middle, bottom + 9, shape_text(shape), size=SMALL)


def _draw_step(axis: Axes, step: Step, place: Place) -> None:
    centre = place.x, place.y
    if step.kind == "add":
        canvas.node(axis, centre, "+")
    else:
        size = 2 * place.half_width, 2 * place.half_height
        canvas.box(axis, centre, *size, step.text, step.kind)


def _draw_wires(axis: Axes, steps: list[Step], places: dict[str, Place], rows: list[Row]) -> None:
    """Draw the arrows between the steps."""
    first_reader: dict[str, Place] = {}
    for step in steps:
        for source in step.reads:
            first_reader.setdefault(source, places[step.name])
            if step.kind == "add" and source == step.reads[-1]:
                _draw_shortcut(axis, first_reader[source], places[step.name])
            else:
                gutter = rows[places[source].row].bottom - 1
                _draw_wire(axis, places[source], places[step.name], gutter)


def _draw_shortcut(axis: Axes, first: Place, end: Place) -> None:
    """Draw the arrow that passes a block by, from before its first box."""
    x, y = first.left - TAP, first.top - SHORTCUT / 2 + 1
    canvas.junction(axis, (x, first.y))
    canvas.arrow(axis, (x, first.y), (x, y), (end.x, y), (end.x, end.top), lw=1.4)


def _draw_wire(axis: Axes, start: Place, end: Place, gutter: float) -> None:
    """Draw the arrow from a step to the next, through the gutter if that is in another row."""
    if start.row != end.row:
        canvas.arrow(axis, *_turn(start, end, gutter))
    elif end.top <= start.y <= end.bottom:
        canvas.arrow(axis, (start.right, start.y), (end.left, start.y))
    else:
        middle = start.right + 10
        canvas.junction(axis, (middle, start.y))
        corners = (middle, start.y), (middle, end.y)
        canvas.arrow(axis, (start.right, start.y), *corners, (end.left, end.y))


def _turn(start: Place, end: Place, gutter: float) -> list[Point]:
    """Corners of the arrow from the end of one row to the beginning of the next."""
    right, left = WIDTH - 18, LEFT - 28
    down = [(start.right, start.y), (right, start.y), (right, gutter)]
    return [*down, (left, gutter), (left, end.y), (end.left, end.y)]
