"""What came of a study with the key ``vary``: a table and a page, and learning curves as a figure.

With the key ``pairs`` there are tests of significance in place of the figure.

``curves.json`` beside them holds every number: figure and table can be made of it alone.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.system.files import write_file
from common.tables.curve_points import Pair, Point, points_json
from common.tables.pairs import pairs_table
from common.tables.study_table import FIGURES, Picture, page
from common.tables.table_formats import NONE, Table, csv_text, latex, markdown


def write_curves(out: Path, name: str, points: Sequence[Point], pairs: Sequence[Pair] = ()) -> None:
    """Write what came of a study: tables, figures, ``curves.json`` and ``study.html``."""
    from common.tables.curves_figure import encoded_curves  # Matplotlib is large, and needed last

    tables, pictures = curves_tables(name, points, pairs), []
    for scene, of_scene in by_scene([] if pairs else points).items():
        files = encoded_curves(of_scene)
        for kind, content in files.items():
            write_file(out / f"{scene}_curves.{kind}", content)
        if files:
            alt = f"OA and AA on {scene} against training pixels, a line for each method"
            title, text = f"Learning curves of {scene}", caption(of_scene)
            pictures.append(Picture(title, text, alt, files["png"]))
    write_file(out / "table.md", markdown(tables))
    write_file(out / "table.tex", latex(tables))
    write_file(out / "table.csv", curves_csv(points))
    write_file(out / "curves.json", points_json(name, points, pairs))
    commands = [(point.title, point.command) for point in points]
    write_file(out / "study.html", page(name, "", tables, pictures, commands))


def by_scene(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points of each scene, in order."""
    scenes: dict[str, list[Point]] = {}
    for point in points:
        scenes.setdefault(point.scene, []).append(point)
    return scenes


def caption(points: Sequence[Point]) -> str:
    """Say what the figure's lines and bands are."""
    counts = sorted({len(point.oa) for point in points if not point.absent})
    seeds = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    if counts == [1]:
        return "Test pixels of one iteration; a marker for each number of training pixels."
    return f"Mean over {seeds} iterations; bands are one standard deviation to either side."


def curves_tables(name: str, points: Sequence[Point], pairs: Sequence[Pair] = ()) -> list[Table]:
    """Make a table for each scene of a study of this name, and one of the tests of its pairs."""
    tables = []
    for of_scene in by_scene(points).values():
        varied = "variant" if pairs else "trained on"
        tables += [curves_table(name, of_scene, varied), pairs_table(of_scene, pairs)]
    return [table for table in tables if table]


def curves_table(name: str, points: Sequence[Point], varied: str = "trained on") -> Table:
    """Number of training pixels, OA and AA: a row for each point, columns for each method.

    Where nothing ran there is no row or column; a line below the table says why.

    Parameters
    ----------
    name : str
        The study's.
    points : sequence of Point
        All of one scene.
    varied : str
        What stands above the points' names.
    """
    ran = [point for point in points if not point.absent] or points
    with_columns = {point.method for point in ran}
    methods = dict.fromkeys(point.method for point in points if point.method in with_columns)
    with_rows = {(point.split, point.name) for point in ran}
    places = dict.fromkeys((point.split, point.name) for point in points)
    places = [place for place in places if place in with_rows]
    by_place = {(point.split, point.name, point.method): point for point in points}
    with_split = any(split for split, _ in places)
    rows = []
    for split, at in places:
        here = [by_place[split, at, method] for method in methods]
        cells = [split, at] if with_split else [at]
        cells.append(_range([count for point in here for count in point.train_pixels]))
        rows.append(cells + [_cell(point, figure) for figure in ("oa", "aa") for point in here])
    header = [*(["split"] if with_split else []), varied, "training pixels"]
    several = any(len(point.oa) > 1 for point in points)
    spread = ", mean ± standard deviation over iterations" if several else ""
    return Table(
        caption=f"{name}: {points[0].scene}, test pixels{spread}.",
        header=header + [f"{method}, {FIGURES[f]}" for f in ("oa", "aa") for method in methods],
        rows=rows,
        align="l" * (len(header) - 1) + "r" * (1 + 2 * len(methods)),
        notes=_not_run(points),
    )


def _not_run(points: Sequence[Point]) -> list[str]:
    """Say which points are missing and why: a line for each method and reason."""
    missing: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        if point.absent:
            missing.setdefault((point.method, point.absent), []).append(point)
    lines = []
    for (method, reason), of_method in missing.items():
        places = [", ".join(filter(None, (point.split, point.name))) for point in of_method]
        if len(places) == sum(point.method == method for point in points):
            places = []  # all there are
        lines.append(f"Not run: {'; '.join([method, *places])}: {reason}.")
    return lines


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return NONE
    least, most = min(counts), max(counts)
    return f"{least}" if least == most else f"{least}–{most}"


def _cell(point: Point, figure: str) -> str:
    if point.absent:
        return "not run"
    mean, std = point.percent(figure)
    spread = f" ± {std:.2f}" if len(point.oa) > 1 else ""
    return NONE if np.isnan(mean) else f"{mean:.2f}{spread}"


def curves_csv(points: Sequence[Point]) -> str:
    """A line for each point, in plain numbers."""
    header = ["scene", "method", "split", "series", "trained_on", "train_pixels", "iterations"]
    for figure in FIGURES:
        header += [figure, f"{figure}_std"]
    lines = []
    for point in points:
        line = [point.scene, point.method, point.split, point.series, point.name]
        line += [_mean(point.train_pixels, 1), len(point.oa) or None]
        for figure in FIGURES:
            numbers = point.percent(figure)
            line += [None if np.isnan(number) else f"{number:.4f}" for number in numbers]
        lines.append([*line, _mean(point.train_seconds, 1), point.command, point.absent or None])
    return csv_text([*header, "train_seconds", "command", "not_run"], lines)


def _mean(numbers: Sequence[float], digits: int) -> str | None:
    return f"{np.mean(numbers):.{digits}f}" if numbers else None
