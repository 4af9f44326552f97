"""A study's results: a table beside the published figures, a figure of maps, and a page."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.reporting.metrics import Scores, confusion_matrix, scores
from common.reporting.read_results import Outcome, read_outcome
from common.reporting.report_text import numbers_in_maps
from common.scenes.labels import class_numbers
from common.system.files import write_file
from common.tables.methods import read_method
from common.tables.paper_table import accuracies_csv, method_tables
from common.tables.table_formats import NONE, Table, csv_text, latex, markdown

FIGURES = {"oa": "OA %", "aa": "AA %", "kappa": "κ × 100"}
PIXELS = {  # whose figures were published, and stand beside them
    "test": "test pixels",
    "labelled": "all labelled pixels, those trained on included, as in the published figures",
}
TEMPLATE = Path(__file__).with_name("study.html.jinja")


@dataclass(frozen=True)
class Row:
    """One method on one scene.

    Attributes
    ----------
    method : str
        What the study calls it.
    command : str
        The training script with its flags.
    directory : Path
        Its results.
    absent : str
        Why it was not run; empty where it was.
    published : tuple of float or None
        OA, AA and kappa in per cent, as far as they were published.
    """

    method: str
    command: str
    directory: Path
    absent: str = ""
    published: tuple[float | None, float | None, float | None] = (None, None, None)


@dataclass(frozen=True)
class Published:
    """What the published figures are.

    Attributes
    ----------
    source : str
        Where they are from.
    pixels : str
        One of `PIXELS`: what is computed over the same is set beside them.
    """

    source: str = ""
    pixels: str = "test"


class Picture(NamedTuple):
    """A figure of the page: its heading, a line below that, its alternative text, and a PNG."""

    title: str
    text: str
    alt: str
    png: bytes


def write_study(out: Path, name: str, published: Published, scenes: dict[str, list[Row]]) -> None:
    """Write what came of a study: ``table.md``, ``.tex``, ``.csv``, figures and ``study.html``.

    Parameters
    ----------
    name : str
        The study's.
    published : Published
    scenes : dict
        Rows by the scene's key.
    """
    from common.tables.study_figure import encoded_maps  # Matplotlib is large, and needed last

    tables = []
    for scene, rows in scenes.items():
        tables.append(comparison_table(name, scene, rows, published))
        if done := [row for row in rows if not row.absent]:
            methods = _methods(done)
            tables += method_tables(methods)
            write_file(out / f"{Path(scene).stem}_classes.csv", accuracies_csv(methods))
    write_file(out / "table.md", markdown(tables))
    write_file(out / "table.tex", latex(tables))
    write_file(out / "table.csv", comparison_csv(scenes, published.pixels))
    pictures = []
    for scene, rows in scenes.items():
        maps = encoded_maps({row.method: row.directory for row in rows if not row.absent})
        stem = Path(scene).stem
        for kind, content in maps.items():
            write_file(out / f"{stem}_maps.{kind}", content)
        if maps:
            text = "The first iteration's, with its OA on the test pixels."
            alt = f"Maps of {stem}, one for each method"
            pictures.append(Picture(f"Maps of {stem}", text, alt, maps["png"]))
    commands = [(row.method, row.command) for rows in scenes.values() for row in rows]
    write_file(out / "study.html", page(name, published.source, tables, pictures, commands))


def _methods(rows: Sequence[Row]) -> list:
    return [read_method(row.directory).named(row.method) for row in rows]


def figures_of(row: Row, pixels: str) -> dict | None:
    """Mean and standard deviation of OA, AA and kappa in per cent; None for a run not made."""
    if row.absent:
        return None
    report = json.loads((row.directory / "report.json").read_text("utf-8"))
    found = {}
    for figure in FIGURES:
        mean, std = report[f"{figure}_mean"], report[f"{figure}_std"]
        found[figure] = (np.nan, np.nan) if mean is None else (100 * mean, 100 * std)
    if pixels == "labelled":
        of_maps = scores_of_maps(read_outcome(row.directory))
        for figure in FIGURES:
            values = [100 * getattr(result, figure) for result in of_maps]
            found[figure] = (np.mean(values), np.std(values)) if values else (np.nan, np.nan)
    return found | {"iterations": len(report["oa"]), "seconds": report["train_seconds"]}


def scores_of_maps(outcome: Outcome) -> list[Scores]:
    """Scores of each iteration's map over all labelled pixels; none where not all are mapped."""
    if outcome.ground_truth is None or len(outcome.classified) < len(outcome.iterations):
        return []
    values = np.array([0, *numbers_in_maps(outcome.report)])
    truth = class_numbers(np.asarray(outcome.ground_truth), values).astype(np.int64)
    labelled, found = truth > 0, []
    for iteration in outcome.classified:
        label_map = class_numbers(np.asarray(iteration.label_map), values).astype(np.int64)
        if not label_map[labelled].all():
            return []
        confusion = confusion_matrix(truth[labelled], label_map[labelled], len(values) - 1)
        found.append(scores(confusion))
    return found


def comparison_table(name: str, scene: str, rows: Sequence[Row], published: Published) -> Table:
    """OA, AA and kappa of every method, the published ones and the differences."""
    header = ["method"]
    for title in FIGURES.values():
        header += [title, "published", "difference"]
    cells = []
    for row in rows:
        found = figures_of(row, published.pixels)
        line = [row.method if found else f"{row.method}: not run: {row.absent}"]
        for figure, theirs in zip(FIGURES, row.published, strict=True):
            mean, std = found[figure] if found else (np.nan, np.nan)
            spread = f" ± {std:.2f}" if found and found["iterations"] > 1 else ""
            line.append(NONE if np.isnan(mean) else f"{mean:.2f}{spread}")
            line.append(NONE if theirs is None else f"{theirs:.2f}")
            known = theirs is not None and not np.isnan(mean)
            line.append(f"{mean - theirs:+.2f}".replace("-", "−") if known else NONE)
        cells.append(line)
    several = any(" ± " in cell for line in cells for cell in line[1:])
    spread = ", mean ± standard deviation over iterations" if several else ""
    return Table(
        caption=f"{name}: {scene}, {PIXELS[published.pixels]}{spread}.",
        header=header,
        rows=cells,
        align="l" + "rrr" * len(FIGURES),
        notes=[f"Published: {published.source}."] if published.source else [],
    )


def comparison_csv(scenes: dict[str, list[Row]], pixels: str) -> str:
    """The same as plain numbers, all scenes together, with training seconds and the commands."""
    header = ["scene", "method", "pixels"]
    for figure in FIGURES:
        header += [figure, f"{figure}_std", f"{figure}_published"]
    lines = []
    for scene, rows in scenes.items():
        for row in rows:
            found, line = figures_of(row, pixels), [scene, row.method, pixels]
            for figure, published in zip(FIGURES, row.published, strict=True):
                numbers = found[figure] if found else (np.nan, np.nan)
                line += [None if np.isnan(number) else f"{number:.4f}" for number in numbers]
                line.append(published)
            seconds = f"{np.mean(found['seconds']):.1f}" if found else None
            lines.append([*line, seconds, row.command, row.absent or None])
    return csv_text([*header, "train_seconds", "command", "not_run"], lines)


def page(
    name: str,
    source: str,
    tables: Sequence[Table],
    pictures: Sequence[Picture],
    commands: Sequence[tuple[str, str]],
) -> str:
    """Return the study as one self-contained page of HTML; `commands` by what they run."""
    import jinja2

    template = jinja2.Template(
        TEMPLATE.read_text("utf-8"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return template.render(
        name=name,
        source=source,
        tables=tables,
        pictures=[p._replace(png=base64.b64encode(p.png).decode()) for p in pictures],
        commands=commands,
    )
