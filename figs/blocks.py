"""Diagrams of A2S2K-ResNet's two weighing blocks: selective kernels and EFR.

How the parts hang together is drawn by hand after the two classes; sizes and shapes are those of
the network, run on a patch.
"""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import nn

from A2S2KResNet.A2S2KResNet import EFR, KernelAttention
from figs import canvas
from figs.canvas import COLOURS, INK, NODE, SMALL, Point
from figs.tracing import conv_text, readable, shape_text, shapes_inside

Shapes = dict[str, tuple[int, ...]]

BOX = 46.0  # height of a box
TIMES_X, PLUS_X, END_X = 560.0, 612.0, 672.0  # of ⊗, ⊕ and the output


def draw_kernel_attention(network: nn.Module, patch_shape: Sequence[int], stem: Path) -> None:
    """Draw the selective kernels of a network, to `stem`.png and `stem`.pdf."""
    block = next(m for m in network.modules() if isinstance(m, KernelAttention))
    shapes = shapes_inside(network, block, patch_shape)
    with plt.rc_context(canvas.STYLE):
        axis = canvas.page(328)
        canvas.heading(axis, "Selective kernels", "A2S2KResNet.KernelAttention")
        for y, name in ((72.0, "1×1×7"), (256.0, "3×3×7")):
            _draw_branch(axis, y, 164.0, name, shapes)
        _draw_selection(axis, 164.0, block, shapes)
        note = (
            "Below maps: rows × cols × bands, kernels. A kernel's two weights add up to 1. "
            "--attention official: one layer excites both."
        )
        canvas.text(axis, 10, 315, note, ha="left", size=SMALL)
        canvas.save(axis, stem)


def _draw_branch(axis: Axes, y: float, middle: float, name: str, shapes: Shapes) -> None:
    """Draw a branch on its way to both sums: the one that is averaged, and the weighted one."""
    _box(axis, (46, y), 68, ("branch", name), "data", shape_text(shapes["map"]))
    rim = middle + (NODE if y > middle else -NODE)
    canvas.arrow(axis, (80, y), (TIMES_X - NODE, y))
    canvas.junction(axis, (106, y))
    canvas.arrow(axis, (106, y), (106, rim))
    canvas.node(axis, (TIMES_X, y), "×")
    canvas.arrow(axis, (TIMES_X + NODE, y), (PLUS_X, y), (PLUS_X, rim))


def _draw_selection(axis: Axes, y: float, block: KernelAttention, shapes: Shapes) -> None:
    """Draw what makes the weights, from the branches' sum on, and the weighted sum."""
    canvas.node(axis, (106, y), "+")
    _labelled_arrow(axis, (106 + NODE, y), (144, y), "U")
    _box(axis, (174, y), 60, ("global", "average"), "function")
    _labelled_arrow(axis, (204, y), (242, y), "s", shapes["average"])
    _box(axis, (272, y), 60, (*conv_text(block.squeeze), "ReLU"), "conv", "squeeze")
    axis.plot((302, 344), (y, y), color=INK, lw=1.1)
    _label(axis, 322, y, "z", shapes["squeeze"][:1])
    canvas.junction(axis, (344, y))
    for side, weight, name in ((-1, "a", "excite_1x1x7"), (1, "b", "excite_3x3x7")):
        lane = y + 39 * side
        convolution = getattr(block, name) or block.excite_3x3x7
        canvas.arrow(axis, (344, y), (344, lane), (366, lane))
        _box(axis, (396, lane), 60, conv_text(convolution), "conv", readable(name))
        canvas.arrow(axis, (426, lane), (456, lane))
        end = y + side * (92 - NODE)
        canvas.arrow(axis, (514, lane), (TIMES_X, lane), (TIMES_X, end))
        _label(axis, 535, lane, weight, shapes["weight"])
    _box(axis, (485, y), 58, ("softmax", "over the", "branches"), "weights", height=39 * 2 + BOX)
    canvas.node(axis, (PLUS_X, y), "+")
    canvas.arrow(axis, (PLUS_X + NODE, y), (END_X - 34, y))
    _box(axis, (END_X, y), 68, ("V",), "data", shape_text(shapes["output"]))


def draw_efr(network: nn.Module, patch_shape: Sequence[int], stem: Path) -> None:
    """Draw the first EFR of a network, to `stem`.png and `stem`.pdf."""
    block = next(m for m in network.modules() if isinstance(m, EFR))
    shapes = shapes_inside(network, block, patch_shape)
    with plt.rc_context(canvas.STYLE):
        axis = canvas.page(380)
        canvas.heading(axis, "Efficient feature recalibration", "A2S2KResNet.EFR")
        _draw_recalibration(axis, 62.0, 140.0, shapes)
        _draw_gate(axis, 140.0, 258.0, block, shapes)
        note = "Below maps: rows × cols × bands, kernels. "
        note += "Each strip has one cell per kernel; dashed: zero."
        canvas.text(axis, 10, 367, note, ha="left", size=SMALL)
        canvas.save(axis, stem)


def _draw_recalibration(axis: Axes, upper: float, y: float, shapes: Shapes) -> None:
    """Draw the map times its gates, plus the shortcut."""
    _box(axis, (46, upper), 68, ("block's", "input"), "data", shape_text(shapes["map"]))
    _box(axis, (46, y), 68, ("map",), "data", shape_text(shapes["map"]))
    canvas.arrow(axis, (80, upper), (PLUS_X, upper), (PLUS_X, y - NODE), lw=1.4)
    canvas.text(axis, 346, upper - 8, "shortcut")
    canvas.arrow(axis, (80, y), (TIMES_X - NODE, y))
    canvas.node(axis, (TIMES_X, y), "×")
    canvas.arrow(axis, (TIMES_X + NODE, y), (PLUS_X - NODE, y))
    canvas.node(axis, (PLUS_X, y), "+")
    canvas.arrow(axis, (PLUS_X + NODE, y), (END_X - 34, y))
    _box(axis, (END_X, y), 68, ("output",), "data", shape_text(shapes["output"]))


def _draw_gate(axis: Axes, upper: float, y: float, block: EFR, shapes: Shapes) -> None:
    """Draw the way from the map to the gates of its kernels."""
    canvas.junction(axis, (106, upper))
    canvas.arrow(axis, (106, upper), (106, y), (130, y))
    _box(axis, (160, y), 60, ("global", "average"), "function")
    canvas.arrow(axis, (190, y), (226, y))
    kernels, size = shapes["average"][0], block.weight.shape[-1]
    averages = _draw_strip(axis, (232, y), kernels, "averages", "function", zeros=size // 2)
    sums = _draw_strip(axis, (346, y), kernels, "sums", "conv")
    shown = kernels // 2
    for kernel, end in enumerate(sums):
        style = {"color": INK, "lw": 1.2} if kernel == shown else {"color": "#CCCCCC", "lw": 0.5}
        for start in averages[kernel : kernel + size]:
            axis.plot((238, 340), (start, end), zorder=1 + (kernel == shown), **style)
    canvas.text(axis, 289, averages[0] - 15, f"1-D conv, size {size}, no bias")
    canvas.arrow(axis, (352, y), (388, y))
    _box(axis, (418, y), 60, ("sigmoid",), "weights")
    canvas.arrow(axis, (448, y), (484, y))
    _draw_strip(axis, (490, y), shapes["weight"][0], "gates", "weights")
    canvas.arrow(axis, (496, y), (TIMES_X, y), (TIMES_X, upper + NODE))


def _draw_strip(
    axis: Axes, centre: Point, kernels: int, name: str, kind: str, zeros: int = 0
) -> list[float]:
    """Draw a cell per kernel above each other, dashed zeros at both ends; heights of all cells."""
    x, y = centre
    side = min(6.0, 144 / kernels)
    cells = [y + side * (cell - (kernels - 1) / 2) for cell in range(-zeros, kernels + zeros)]
    for cell, height in enumerate(cells):
        padding = cell < zeros or cell >= kernels + zeros
        colour = "white" if padding else canvas.tint(COLOURS[kind], 0.5)
        style = {"fc": colour, "ls": (0, (2, 1)) if padding else "-", "lw": 0.6, "zorder": 3}
        axis.add_patch(Rectangle((x - 6, height - side / 2), 12, side, ec=INK, **style))
    canvas.text(axis, x, y + 90, f"{name}, {kernels}", size=SMALL)
    return cells


def _box(
    axis: Axes,
    centre: Point,
    width: float,
    lines: Sequence[str],
    kind: str,
    below: str = "",
    height: float = BOX,
) -> None:
    """Draw a box with a line of text below."""
    canvas.box(axis, centre, width, height, lines, kind)
    canvas.text(axis, centre[0], centre[1] + height / 2 + 9, below, size=SMALL)


def _labelled_arrow(
    axis: Axes, start: Point, end: Point, symbol: str, shape: Sequence[int] = ()
) -> None:
    """Draw an arrow with what runs along it above, in letters, and its shape below."""
    canvas.arrow(axis, start, end)
    _label(axis, (start[0] + end[0]) / 2 - 2, start[1], symbol, shape)


def _label(axis: Axes, x: float, y: float, symbol: str, shape: Sequence[int]) -> None:
    """Write a letter above an arrow and the shape of what it stands for below."""
    canvas.text(axis, x, y - 8, symbol, style="italic")
    canvas.text(axis, x, y + 9, shape_text(shape) if shape else "", size=SMALL)
