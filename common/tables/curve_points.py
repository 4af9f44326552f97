"""The points of a study with the key ``vary``: a method's accuracies with one set of flags."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.system.errors import InputError

SCORES = ("oa", "aa", "kappa")
ENVIRONMENT = ("commit", "device_name", "threads", "precision")  # what is kept of a run's


@dataclass(frozen=True)
class Point:
    """One method trained in one of the ways that a study varies.

    Attributes
    ----------
    scene, method : str
    split : str
        What the study calls the way pixels were split; empty where it names none.
    series : str
        Points of one series are joined by a line; empty where there is but one.
    name : str
        What the study calls this way, as "10 %" of training pixels.
    command : str
        The training script with its flags.
    absent : str
        Why there is no result; empty where there is one.
    train_pixels : list of int
        Of each iteration, as are the next five.
    oa, aa, kappa : list of float or None
        Shares, None where undefined.
    train_seconds : list of float
    test_sha256 : list of str
        Of the test pixels; empty where the report has none.
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
    test_sha256: list[str] = field(default_factory=list)
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
            test_sha256=report["split"].get("test_sha256", []),
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


class Pair(NamedTuple):
    """Two methods of a study, or two points of its key ``vary``, that are set side by side."""

    first: str
    second: str


class Curves(NamedTuple):
    """What a study with the key ``vary`` gave: its name, points and pairs."""

    name: str
    points: list[Point]
    pairs: list[Pair]


def points_json(name: str, points: Sequence[Point], pairs: Sequence[Pair] = ()) -> str:
    """Every number of the study, a line for each point."""
    lines = [
        json.dumps(dataclasses.asdict(point), ensure_ascii=False, allow_nan=False)
        for point in points
    ]
    head = f'"name": {json.dumps(name, ensure_ascii=False)}'
    if pairs:
        head += f',\n"pairs": {json.dumps(pairs, ensure_ascii=False)}'
    return f"{{{head},\n" + '"points": [\n' + ",\n".join(lines) + "\n]}\n"


def read_points(path: Path) -> Curves:
    """Read the study's name, points and pairs from its ``curves.json``.

    Raises
    ------
    InputError
        The file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
        points = [Point(**point) for point in content["points"]]
        return Curves(content["name"], points, [Pair(*pair) for pair in content.get("pairs", [])])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not the curves.json of a study: {error}") from error
