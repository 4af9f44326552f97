"""What training an epoch gave, and the file that lists it: ``history.csv``."""

import csv
import dataclasses
import io
import math
from dataclasses import dataclass
from pathlib import Path

from common.system.files import write_file


@dataclass(frozen=True)
class Epoch:
    """One line of ``history.csv``: losses are means over the set, accuracies shares 0..1.

    The learning rate is that of the epoch's first update.  Validation figures are NaN, and left
    out of the file, where the recipe does not validate.  Seconds leave out what kernels took to
    compile; of networks that are trained side by side each has its share of them.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float

    @classmethod
    def of_pretraining(cls, epoch: int, rate: float, loss: float, seconds: float) -> "Epoch":
        """An epoch without labels, for the terminal."""
        return cls(epoch, rate, loss, math.nan, math.nan, math.nan, seconds)


@dataclass(frozen=True)
class PretrainingEpoch:
    """One line of ``pretraining.csv``; layers and epochs count from 1."""

    layer: int
    epoch: int
    loss: float
    seconds: float


def write_history(run: Path, history: list[Epoch]) -> None:
    """Write ``history.csv``, one line per epoch."""
    _write(run / "history.csv", Epoch, history)


def write_pretraining(run: Path, history: list[PretrainingEpoch]) -> None:
    """Write ``pretraining.csv``, one line per epoch of each layer."""
    _write(run / "pretraining.csv", PretrainingEpoch, history)


def read_pretraining_seconds(run: Path) -> float:
    """Sum of the seconds in ``pretraining.csv``; 0 where there is none."""
    path = run / "pretraining.csv"
    if not path.is_file():
        return 0.0
    with path.open(encoding="utf-8") as file:
        return sum(float(row["seconds"]) for row in csv.DictReader(file))


def _write(path: Path, kind: type, history: list) -> None:
    buffer = io.StringIO()
    names = [field.name for field in dataclasses.fields(kind)]
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    for epoch in history:
        figures = dataclasses.asdict(epoch).items()
        writer.writerow({name: "" if math.isnan(value) else value for name, value in figures})
    write_file(path, buffer.getvalue())
