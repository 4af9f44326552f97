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
    out of the file, where the recipe does not validate.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


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
