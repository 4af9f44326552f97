"""A results directory, read back: the report and what the iterations left."""

import csv
import dataclasses
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.reporting.report import with_all_figures
from common.system.errors import InputError, damage_in_one_line


@dataclass(frozen=True)
class IterationFiles:
    """What one iteration left; None or empty for files that are not there.

    Attributes
    ----------
    label_map, split : integer arrays (rows, cols)
        Predicted labels, 0 where not classified; 1 training, 2 validation, 3 test, 0 none.
    confidence : float32 array (rows, cols)
        NaN where not classified.
    probabilities : float32 array (rows, cols, C)
        0 where not classified.
    history : dict of str to float array (epochs,)
        Columns of ``history.csv``; NaN where a cell is empty.
    attention : dict of str to float32 array (C, maps, kernels)
        See `common.training.attention_maps.weights_per_class`.
    """

    label_map: np.ndarray | None
    split: np.ndarray | None
    confidence: np.ndarray | None
    probabilities: np.ndarray | None
    history: dict[str, np.ndarray]
    attention: dict[str, np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """A whole results directory.

    Attributes
    ----------
    report : dict
        What ``report.json`` holds, with what its confusion matrices give.
    ground_truth : integer array (rows, cols) or None
        0 where unlabelled.
    false_colour : uint8 array (rows, cols, 3) or None
        None where ``false_color.png`` is not there.
    iterations : list of IterationFiles
        One per finished iteration.
    """

    report: dict
    ground_truth: np.ndarray | None
    false_colour: np.ndarray | None
    iterations: list[IterationFiles]

    @property
    def colours(self) -> tuple[str, ...]:
        """One per class."""
        return tuple(self.report["class_colours"])

    @property
    def classified(self) -> list[IterationFiles]:
        """The iterations that left a map."""
        return [it for it in self.iterations if it.label_map is not None]

    def window(self, rows: slice, cols: slice) -> "Outcome":
        """Return it with the maps of some rows and columns only, to draw a part of the scene."""

        def cut(array: np.ndarray | None) -> np.ndarray | None:
            return None if array is None else array[rows, cols]

        maps = ("label_map", "split", "confidence", "probabilities")
        iterations = [
            dataclasses.replace(it, **{name: cut(getattr(it, name)) for name in maps})
            for it in self.iterations
        ]
        height, width, bands = self.report["shape"]
        shape = [len(range(height)[rows]), len(range(width)[cols]), bands]
        report = self.report | {"shape": shape}
        return Outcome(report, cut(self.ground_truth), cut(self.false_colour), iterations)


def read_outcome(out: str | os.PathLike) -> Outcome:
    """Read a results directory.

    Raises
    ------
    InputError
        It is none, no iteration has finished, or a file is damaged.
    """
    out = Path(out)
    if not (out / "report.json").is_file():
        raise InputError(f"{out}: no report.json; not a results directory, or nothing finished yet")
    with damage_in_one_line(out, "results directory"):
        report = json.loads((out / "report.json").read_text("utf-8"))
        if "class_colours" not in report:
            raise InputError(f"{out}: written by an earlier version, without the classes' colours")
        if not all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in report["class_colours"]):
            raise ValueError("class_colours that are not '#rrggbb'")
        iterations = range(len(report["test_seconds"]))
        return Outcome(
            with_all_figures(report),
            _array(out / "gt.npy"),
            _picture(out / "false_color.png"),
            [_read_iteration(out / f"run_{n}") for n in iterations],
        )


def _read_iteration(run: Path) -> IterationFiles:
    attention = {}
    if (run / "attention.npz").is_file():
        with np.load(run / "attention.npz") as arrays:
            attention = dict(arrays)
    return IterationFiles(
        _array(run / "map.npy"),
        _array(run / "split.npy"),
        _array(run / "confidence.npy"),
        _array(run / "probabilities.npy"),
        _history(run / "history.csv"),
        attention,
    )


def _array(path: Path) -> np.ndarray | None:
    return np.lib.format.open_memmap(path, mode="r") if path.is_file() else None


def _picture(path: Path) -> np.ndarray | None:
    if not path.is_file():
        return None
    with Image.open(path, formats=["PNG"]) as image:  # others may start programs, as EPS does
        return np.asarray(image.convert("RGB"))


def _history(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name] or "nan") for row in rows]) for name in rows[0]}
