"""The points of learning curves: a method's accuracies with one number of training pixels."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from common.system.errors import InputError

SCORES = ("oa", "aa", "kappa")
ENVIRONMENT = ("commit", "device_name", "threads", "precision")  # what is kept of a run's


@dataclass(frozen=True)
class Point:
    """One method trained on one number of pixels.

    Attributes
    ----------
    scene, method : str
    split : str
        What the study calls the way pixels were split; empty where it names none.
    series : str
        Points of one series are joined by a line; empty where there is but one.
    name : str
        What the study calls the number of training pixels, as "10 %".
    command : str
        The training script with its flags.
    absent : str
        Why there is no result; empty where there is one.
    train_pixels : list of int
        Of each iteration, as are the next four.
    oa, aa, kappa : list of float or None
        Shares, None where undefined.
    train_seconds : list of float
    environment : dict
        Commit, processor, threads and precision of the run.
    """

    scene: str
    method: str
    split: str
    series: str
    name: str
    command: str
    absent: str = ""
    train_pixels: list[int] = field(default_factory=list)
    oa: list[float | None] = field(default_factory=list)
    aa: list[float | None] = field(default_factory=list)
    kappa: list[float | None] = field(default_factory=list)
    train_seconds: list[float] = field(default_factory=list)
    environment: dict = field(default_factory=dict)

    def with_results(self, directory: Path) -> "Point":
        """Fill in what the report in a results directory says."""
        report = json.loads((directory / "report.json").read_text("utf-8"))
        environment = {key: report["environment"].get(key) for key in ENVIRONMENT}
        return dataclasses.replace(
            self,
            train_pixels=[sum(counts) for counts in report["split"]["train_per_class"]],
            **{figure: report[figure] for figure in SCORES},
            train_seconds=[round(seconds, 1) for seconds in report["train_seconds"]],
            environment=environment,
        )

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return ", ".join(part for part in (self.method, self.split, self.name) if part)

    def percent(self, figure: str) -> tuple[float, float]:
        """Mean and standard deviation of OA, AA or kappa in per cent; NaN where undefined."""
        known = [100 * value for value in getattr(self, figure) if value is not None]
        return (float(np.mean(known)), float(np.std(known))) if known else (np.nan, np.nan)


def points_json(name: str, points: Sequence[Point]) -> str:
    """Every number of the study, a line for each point."""
    lines = [
        json.dumps(dataclasses.asdict(point), ensure_ascii=False, allow_nan=False)
        for point in points
    ]
    head = f'"name": {json.dumps(name, ensure_ascii=False)}'
    return f"{{{head},\n" + '"points": [\n' + ",\n".join(lines) + "\n]}\n"


def read_points(path: Path) -> tuple[str, list[Point]]:
    """Read the study's name and its points from its ``curves.json``.

    Raises
    ------
    InputError
        The file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        return content["name"], [Point(**point) for point in content["points"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the curves.json of a study: {error}") from error
