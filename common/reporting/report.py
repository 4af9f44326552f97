"""The report of a run: `report.json` for programs, `report.txt` in words."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from common.reporting.intervals import block_side, blocks_interval, iterations_interval
from common.reporting.metrics import confusion_matrix, scores
from common.samples.random_split import Split, leak_share
from common.scenes.files_of_scene import files_of_scene
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.errors import InputError
from common.system.provenance import TYPED_IN, loaded_packages, sha256_of_files, typed_command
from common.training.classifier import Cost

SUMMARISED = ("oa", "aa", "kappa", "aa_users", "f1_macro")
OF_CLASSES = ("per_class", "precision", "f1")


@dataclass(frozen=True)
class Iteration:
    """What one Monte-Carlo iteration gave.

    Attributes
    ----------
    split : Split
    predicted : int64 array
        Predicted label, 1..C, of each pixel of ``split.test``.
    epochs_run : int
    train_seconds, test_seconds : float
        Wall time of training (validation included) and of predicting the test pixels.
    peak_memory_mb : float
        Most memory that the process had taken by then; NaN where that is not known.
    """

    split: Split
    predicted: np.ndarray
    epochs_run: int
    train_seconds: float
    test_seconds: float
    peak_memory_mb: float = math.nan


def build_report(
    settings: Settings,
    scene: Scene,
    iterations: list[Iteration],
    environment: dict,
    cost: Cost,
) -> dict:
    """Gather everything that `report.json` holds; accuracies are shares 0..1.

    `environment` is what `describe_environment` gave when the run started.
    """
    labels = scene.labels.flat  # no copy: a scene that is only mapped has one number for all
    tested = [it for it in iterations if len(it.split.test)]  # none without ground truth
    confusions = [
        confusion_matrix(labels[it.split.test], it.predicted, scene.classes) for it in tested
    ]
    report = {
        "model": settings.model,
        "dataset": scene.key,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": typed_command(),
        "directory": TYPED_IN,
        "settings": asdict(settings),
        "environment": environment,
        "packages": loaded_packages(),
        "source": scene.source,
        "files_sha256": _files_sha256(settings),
    }
    report |= figures_of([confusion.tolist() for confusion in confusions], scene.classes)
    right = ((it.split.test, labels[it.split.test] == it.predicted) for it in tested)
    return report | {
        "oa_ci95_blocks": blocks_interval(scene.labels.shape, right),
        "block_side": block_side(scene.labels.shape),
        "scene_name": scene.name,
        "shape": list(scene.cube.shape),
        "left_out_bands": list(scene.bands.left_out),
        "preprocessing": _preprocessing_entry(settings, scene.cube.shape[2]),
        "notes": list(scene.notes),
        "class_names": list(scene.class_names),
        "class_colours": list(scene.colours),
        "labels": list(scene.file_labels),
        "labels_in_maps": scene.values_in_maps[1:].tolist(),
        "epochs_run": [it.epochs_run for it in iterations],
        "train_seconds": [it.train_seconds for it in iterations],
        "train_seconds_per_epoch": [
            it.train_seconds / it.epochs_run if it.epochs_run else math.nan for it in iterations
        ],
        "test_seconds": [it.test_seconds for it in iterations],
        "peak_memory_mb": max((it.peak_memory_mb for it in iterations), default=math.nan),
        **asdict(cost),
        "split": _split_entry(scene, settings.patch, [it.split for it in iterations]),
    }


def _preprocessing_entry(settings: Settings, bands: int) -> dict:
    kind = settings.preprocess
    return {
        "kind": kind,
        "components": (settings.components or bands) if kind == "pca" else None,
        "fitted_on": None if kind == "none" else settings.fit_on,
    }


def figures_of(confusions: list, classes: int) -> dict:
    """Return every figure that confusion matrices (C, C), one per iteration, give.

    Per iteration, their mean and std (ddof 0), and of OA the interval over iterations.
    """
    results = [scores(np.array(confusion)) for confusion in confusions]
    figures: dict = {"confusion": confusions}
    for name in SUMMARISED:
        values = [getattr(result, name) for result in results]
        figures[name] = values
        figures[f"{name}_mean"] = float(np.mean(values)) if values else math.nan
        figures[f"{name}_std"] = float(np.std(values)) if values else math.nan
    for name in OF_CLASSES:
        values = np.array([getattr(result, name) for result in results]).reshape(-1, classes)
        mean, std = _mean_and_std_where_tested(values)
        figures[name] = values.tolist()
        figures[f"{name}_mean"], figures[f"{name}_std"] = mean.tolist(), std.tolist()
    return figures | {"oa_ci95_iterations": iterations_interval(figures["oa"])}


def with_all_figures(report: dict) -> dict:
    """Add to a report of an earlier version the figures that its confusion matrices give."""
    return figures_of(report["confusion"], len(report["class_names"])) | report


def _files_sha256(settings: Settings) -> dict[str, str]:
    """Checksums of the scene's files as they are now; none where these have gone."""
    maps = settings.split if isinstance(settings.split, tuple) else None
    try:
        return sha256_of_files(files_of_scene(settings.dataset, settings.data_dir, maps))
    except InputError:
        return {}


def _split_entry(scene: Scene, half_width: int, splits: list[Split]) -> dict:
    labels, classes, parts = scene.labels.flat, scene.classes, ("train", "val", "test")
    entry: dict = {part: len(getattr(splits[0], part)) for part in parts}
    checksums = [split.sha256() for split in splits]
    for part in parts:
        entry[f"{part}_sha256"] = [checksum[part] for checksum in checksums]
    for part in parts:
        counts = [
            np.bincount(labels[getattr(split, part)], minlength=classes + 1) for split in splits
        ]
        entry[f"{part}_per_class"] = [count[1:].tolist() for count in counts]
    if len(splits[0].train) and len(splits[0].test):
        entry["test_patches_with_training_pixels"] = [
            leak_share(split, scene.labels.shape, half_width) for split in splits
        ]
    return entry


def _mean_and_std_where_tested(per_class: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std (ddof 0) of each column over its finite entries; NaN where there is none."""
    tested = np.isfinite(per_class).any(axis=0)
    mean, std = np.full((2, per_class.shape[1]), np.nan)
    mean[tested] = np.nanmean(per_class[:, tested], axis=0)
    std[tested] = np.nanstd(per_class[:, tested], axis=0)
    return mean, std


def report_json(report: dict) -> str:
    """Encode a report; a figure that does not exist (NaN) becomes null."""

    def without_nan(value):
        if isinstance(value, dict):
            return {key: without_nan(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [without_nan(entry) for entry in value]
        return None if isinstance(value, float) and math.isnan(value) else value

    return json.dumps(without_nan(report), indent=1, allow_nan=False) + "\n"
