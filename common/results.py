"""The results directory: made once, never overwritten unasked, every file written whole."""

import csv
import dataclasses
import io
import math
from datetime import datetime
from pathlib import Path

import numpy as np

from common.errors import InputError
from common.files import REPOSITORY, write_file
from common.pictures import colour_labels, false_colour, png
from common.report import report_json, report_text
from common.scene import Scene
from common.settings import Settings
from common.train import Epoch

RUN_FILES = ("weights.pt", "history.csv", "map.png", "map.npy")


def output_directory(settings: Settings) -> Path:
    """Where the results go; nothing is made or removed yet.

    Raises
    ------
    InputError
        The directory holds something and ``--overwrite`` was not given, or to overwrite it would
        remove the very weights to be evaluated.
    """
    time = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    default = REPOSITORY / "results" / f"{settings.model}_{settings.dataset}_{time}"
    out = default if settings.out is None else Path(settings.out)
    if out.is_dir() and any(out.iterdir()) and not settings.overwrite:
        raise InputError(f"--out {out}: already exists; choose another or add --overwrite")
    if settings.weights and out.resolve() in Path(settings.weights).resolve().parents:
        raise InputError(f"--out {out}: holds the weights to be evaluated; choose another")
    return out


def prepare_output(out: Path) -> None:
    """Make the results directory, and clear it of an earlier run's files and of no others.

    Raises
    ------
    InputError
        The directory cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_file(out / "report.txt", "No iteration has finished yet.\n")
        (out / "report.json").unlink(missing_ok=True)
        for run in filter(Path.is_dir, out.glob("run_*")):
            for name in RUN_FILES:
                (run / name).unlink(missing_ok=True)
            if not any(run.iterdir()):
                run.rmdir()
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from error


def write_scene_pictures(out: Path, scene: Scene) -> None:
    """Write ``gt.png`` and ``false_color.png``."""
    write_file(out / "gt.png", png(colour_labels(scene.labels, scene.colours)))
    write_file(out / "false_color.png", png(false_colour(scene)))


def write_map(run: Path, label_map: np.ndarray, scene: Scene) -> None:
    """Write a classification map (rows, cols), 0 = not classified, as picture and as array."""
    buffer = io.BytesIO()
    np.save(buffer, label_map)
    write_file(run / "map.npy", buffer.getvalue())
    write_file(run / "map.png", png(colour_labels(label_map, scene.colours)))


def write_history(run: Path, history: list[Epoch]) -> None:
    """Write ``history.csv``, one line per epoch."""
    buffer = io.StringIO()
    writer = csv.DictWriter(
        buffer, [field.name for field in dataclasses.fields(Epoch)], lineterminator="\n"
    )
    writer.writeheader()
    for epoch in history:
        figures = dataclasses.asdict(epoch).items()
        writer.writerow({name: "" if math.isnan(value) else value for name, value in figures})
    write_file(run / "history.csv", buffer.getvalue())


def write_report(out: Path, report: dict) -> None:
    """Write ``report.json`` and ``report.txt``."""
    write_file(out / "report.json", report_json(report))
    write_file(out / "report.txt", report_text(report))
