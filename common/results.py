"""The results directory: made once, never overwritten unasked, every file written whole."""

import csv
import dataclasses
import io
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

FILES = ("report.json", "report.txt", "gt.png", "false_color.png")
RUN_FILES = ("weights.pt", "history.csv", "map.png", "map.npy")


def prepare_output(settings: Settings) -> Path:
    """Make the results directory, or clear the files of an earlier run for ``--overwrite``.

    Only files that a run itself writes are ever removed.

    Raises
    ------
    InputError
        The directory holds something and ``--overwrite`` was not given, or cannot be written.
    """
    time = datetime.now().strftime("%Y-%m-%d_%H%M%S")
    default = REPOSITORY / "results" / f"{settings.model}_{settings.dataset}_{time}"
    out = Path(settings.out) if settings.out else default
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()) and not settings.overwrite:
            raise InputError(f"--out {out}: already exists; choose another or add --overwrite")
        _remove_earlier_results(out)
        write_file(out / "report.txt", "No iteration has finished yet.\n")
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror})") from error
    return out


def _remove_earlier_results(out: Path) -> None:
    for directory in out.glob("run_*"):
        for name in RUN_FILES:
            (directory / name).unlink(missing_ok=True)
        if directory.is_dir() and not any(directory.iterdir()):
            directory.rmdir()
    for name in FILES:
        (out / name).unlink(missing_ok=True)


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
    writer.writerows(dataclasses.asdict(epoch) for epoch in history)
    write_file(run / "history.csv", buffer.getvalue())


def write_report(out: Path, report: dict) -> None:
    """Write ``report.json`` and ``report.txt``."""
    write_file(out / "report.json", report_json(report))
    write_file(out / "report.txt", report_text(report))
