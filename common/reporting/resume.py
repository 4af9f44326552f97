"""Going on where an interrupted run stopped: what must agree, and which iterations are done."""

import dataclasses
import json
import math
import os
import sys
from pathlib import Path

import numpy as np

from common.recipe import recipe_of
from common.reporting.report import Iteration
from common.reporting.results_folder import write_arrays
from common.samples.random_split import Split
from common.scenes.read_labels import split_map_source
from common.scenes.scene import Scene
from common.scenes.scene_file import SCENES
from common.settings import Settings
from common.system.errors import InputError
from common.system.files import file_sha256, write_file
from common.training.checkpoint import remove_checkpoints

# Further iterations may be asked for; each depends on its own seed alone.
MAY_GROW = "iter"
WITHOUT_EFFECT = ("out", "overwrite", "resume", "data_dir", "weights", "device", "precision")
WITHOUT_EFFECT += ("cluster",)


def run_identity(settings: Settings, scene: Scene, environment: dict) -> dict:
    """Return what two runs must have in common for one to go on with the other's work."""
    flags = dataclasses.asdict(settings)
    chosen = {name: value for name, value in flags.items() if name not in WITHOUT_EFFECT}
    if settings.start_from is not None:  # wherever it lies
        chosen["start_from"] = f"SHA-256 {file_sha256(Path(settings.start_from))}"
    if settings.recipe is not None:
        chosen["what the recipe does"] = dataclasses.asdict(recipe_of(settings))
    chosen["precision"] = environment.get("precision")
    chosen["device"] = environment["device"].partition(":")[0]
    chosen["cube"] = f"{'×'.join(map(str, scene.cube.shape))} {scene.cube.dtype}"
    chosen["ground truth"] = scene.labels_sha256()
    if scene.file_labels != tuple(range(1, 1 + scene.classes)):
        chosen["labels"] = scene.file_labels
    chosen["files"] = _files(settings)
    return json.loads(json.dumps(chosen))  # as it is read back


def _files(settings: Settings) -> dict[str, list[str]]:
    """Where the files of the user's own lie that flags name: from elsewhere they are named so."""
    files = {} if settings.dataset in SCENES else {"dataset": [os.path.realpath(settings.dataset)]}
    if isinstance(settings.split, tuple):
        maps = map(split_map_source, settings.split)
        files["split"] = [f"{os.path.realpath(m.path)}:{m.variable}" for m in maps]
    return files


def is_resumable(out: Path) -> bool:
    """Whether there is a run in this directory to go on with; False where there is nothing.

    Raises
    ------
    InputError
        There is something else.
    """
    if (out / "run.json").is_file():
        return True
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise InputError(f"--resume: {out} holds no run that can go on; choose another --out")
    return False


def finished_report(out: Path, iterations: int) -> dict | None:
    """Return the report of a run that has done all its iterations, else None."""
    try:
        report = json.loads((out / "report.json").read_text("utf-8"))
        done = len(report["test_seconds"]) == iterations and (out / "report.html").is_file()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return report if done else None


def write_identity(out: Path, identity: dict) -> None:
    """Keep what a run must have in common with this one to go on with it."""
    write_file(out / "run.json", json.dumps(identity, indent=1) + "\n")


def check_identity(out: Path, identity: dict) -> None:
    """Raise InputError unless the run in `out` is the one that is to go on."""
    try:
        kept = json.loads((out / "run.json").read_text("utf-8"))
        names = sorted((kept.keys() | identity.keys()) - {"files"})
        files = dict(kept.get("files", {}))
    except (ValueError, AttributeError, TypeError, OSError) as error:
        raise InputError(f"--resume: {out / 'run.json'} is damaged; use --overwrite") from error
    for name in names:
        before, now = kept.get(name), identity.get(name)
        same_file = name in files and files[name] == identity["files"].get(name)
        more = name == MAY_GROW and isinstance(before, int) and before < now
        if before != now and not (same_file or more):
            raise InputError(
                f"--resume: {name} was {before} in {out}, now it is {now}; give the same flags as "
                f"before, or another --out"
            )


def write_finished(directory: Path, iteration: Iteration) -> None:
    """Keep what the report needs of a finished iteration, whose checkpoints can go now."""
    figures = {f.name: getattr(iteration, f.name) for f in dataclasses.fields(Iteration)}
    split = figures.pop("split")
    write_arrays(directory / "iteration.npz", figures | {"test": split.test})
    remove_checkpoints(directory)


def read_finished(directory: Path, split: Split) -> Iteration | None:
    """Return the iteration that an earlier process finished there, None if it did not."""
    path = directory / "iteration.npz"
    if not path.is_file():
        return None
    try:
        with np.load(path) as arrays:
            figures = dict(arrays)
        if not np.array_equal(figures.pop("test"), split.test):
            raise ValueError("its test pixels are others")
        return Iteration(
            split=split,
            predicted=figures["predicted"],
            epochs_run=int(figures["epochs_run"]),
            train_seconds=float(figures["train_seconds"]),
            test_seconds=float(figures["test_seconds"]),
            peak_memory_mb=float(figures.get("peak_memory_mb", math.nan)),
        )
    except Exception as error:  # a damaged file fails in as many ways as there are bytes
        print(f"{path}: not used, {error}; the iteration is done again", file=sys.stderr)
        return None
