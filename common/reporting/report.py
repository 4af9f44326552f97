"""The report of a run: `report.json` for programs, `report.txt` in words."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import numpy as np

from common.reporting.metrics import confusion_matrix, scores
from common.samples.random_split import Split, leak_share
from common.scenes.scene import Scene
from common.settings import Settings

SUMMARISED = ("oa", "aa", "kappa", "aa_users")


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
    """

    split: Split
    predicted: np.ndarray
    epochs_run: int
    train_seconds: float
    test_seconds: float


def build_report(
    settings: Settings, scene: Scene, iterations: list[Iteration], environment: dict
) -> dict:
    """Gather everything that `report.json` holds; accuracies are shares 0..1.

    `environment` is what `describe_environment` gave when the run started.
    """
    labels = scene.labels.flat  # no copy: a scene that is only mapped has one number for all
    tested = [it for it in iterations if len(it.split.test)]  # none without ground truth
    confusions = [
        confusion_matrix(labels[it.split.test], it.predicted, scene.classes) for it in tested
    ]
    results = [scores(confusion) for confusion in confusions]
    report = {
        "model": settings.model,
        "dataset": scene.key,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": asdict(settings),
        "environment": environment,
        "source": scene.source,
    }
    for name in SUMMARISED:
        values = [getattr(result, name) for result in results]
        report[name] = values
        report[f"{name}_mean"] = float(np.mean(values)) if values else math.nan
        report[f"{name}_std"] = float(np.std(values)) if values else math.nan
    per_class = np.array([result.per_class for result in results]).reshape(-1, scene.classes)
    per_class_mean, per_class_std = _mean_and_std_where_tested(per_class)
    return report | {
        "scene_name": scene.name,
        "shape": list(scene.cube.shape),
        "left_out_bands": list(scene.bands.left_out),
        "preprocessing": _preprocessing_entry(settings, scene.cube.shape[2]),
        "notes": list(scene.notes),
        "class_names": list(scene.class_names),
        "class_colours": list(scene.colours),
        "labels": list(scene.file_labels),
        "labels_in_maps": scene.values_in_maps[1:].tolist(),
        "per_class": per_class.tolist(),
        "per_class_mean": per_class_mean.tolist(),
        "per_class_std": per_class_std.tolist(),
        "confusion": [confusion.tolist() for confusion in confusions],
        "epochs_run": [it.epochs_run for it in iterations],
        "train_seconds": [it.train_seconds for it in iterations],
        "test_seconds": [it.test_seconds for it in iterations],
        "split": _split_entry(scene, settings.patch, [it.split for it in iterations]),
    }


def _preprocessing_entry(settings: Settings, bands: int) -> dict:
    kind = settings.preprocess
    return {
        "kind": kind,
        "components": (settings.components or bands) if kind == "pca" else None,
        "fitted_on": None if kind == "none" else settings.fit_on,
    }


def inputs_in_words(report: dict) -> list[str]:
    """Say what was fitted on what, and which weights training started from, as far as is known."""
    lines = []
    if "preprocessing" in report:
        lines.append(f"preprocessing: {_preprocessing_in_words(report)}")
    if "started_from" in report:
        origin = report["started_from"]
        last = ", with a new last layer" if origin["new_last_layer"] else ""
        scene = f", trained on {origin['scene']}" if origin["scene"] else ""
        checksum = f"(SHA-256 {origin['sha256'][:12]}…)"
        lines.append(f"started from: {origin['file']}{scene}{last} {checksum}")
    return lines


def _preprocessing_in_words(report: dict) -> str:
    fitted, bands = report["preprocessing"], report["shape"][2]
    kind, components, fitted_on = fitted["kind"], fitted["components"], fitted["fitted_on"]
    if fitted_on is None:
        return "none"
    kinds = {
        "pca": f"PCA, {'all' if components == bands else f'{components} of'} {bands} components",
        "standardise": "each band standardised",
        "centre": "each band centred",
        "range": "values from 0 to 1",
    }
    pixels = {
        "scene": "the whole scene, test pixels included",
        "train": "each iteration's training pixels only",
    }
    if "trained_with" in report:
        pixels = {
            "scene": "the whole scene that the network was trained on",
            "train": "the network's training pixels only",
        }
    words = f"{kinds.get(kind, kind)}, fitted on {pixels.get(fitted_on, fitted_on)}"
    least = min(map(sum, report["split"]["train_per_class"]))
    if kind == "pca" and fitted_on == "train" and components >= least > 0:
        words += f"; PCA of {least} pixels gives {least - 1} of them, the others are 0"
    return words


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


def report_text(report: dict) -> str:
    """The report in words: per-class and overall accuracies in per cent, mean ± std."""
    if not report["oa"]:
        return _map_text(report)
    split = report["split"]
    lines = [*_headline(report), "", f"{'class':<34}{'train':>7}{'test':>8}   accuracy %"]
    train, test = (np.mean(split[f"{part}_per_class"], axis=0) for part in ("train", "test"))
    several = len(report["oa"]) > 1
    numbers = numbers_in_maps(report)
    for c, name in enumerate(report["class_names"]):
        std = report["per_class_std"][c] if several else None
        accuracy = percent(report["per_class_mean"][c], std, undefined="not tested")
        lines.append(f"{numbers[c]:>3} {name[:30]:<30}{train[c]:>7.0f}{test[c]:>8.0f}   {accuracy}")

    lines += ["", f"{'':<34}{'mean ± std':>14}   each iteration" if several else ""]
    titles = {
        "oa": "OA %",
        "aa": "AA %",
        "kappa": "kappa × 100",
        "aa_users": "AA % (user's accuracy)",
    }
    for name, title in titles.items():
        each = "  ".join(percent(value).strip() for value in report[name]) if several else ""
        summary = percent(report[f"{name}_mean"], report[f"{name}_std"] if several else None)
        lines.append(f"{title:<34}{summary:>14}   {each}".rstrip())
    trained = "trained_with" not in report
    for name, title in {"train_seconds": "training, s", "test_seconds": "testing, s"}.items():
        each = "  ".join(f"{value:.1f}" for value in report[name]) if several else ""
        if trained or name == "test_seconds":
            lines.append(f"{title:<34}{np.mean(report[name]):>14.1f}   {each}".rstrip())
    if trained and any(report["epochs_run"]):
        lines.append(f"{'epochs':<34}{', '.join(map(str, report['epochs_run'])):>14}")
    return "\n".join(lines) + "\n"


def _map_text(report: dict) -> str:
    """Say in words what a scene without ground truth was mapped to."""
    mapped = report["mapped_per_class"]
    lines = [*_headline(report), "", f"{'class':<34}{'pixels':>11}{'%':>8}"]
    numbers = numbers_in_maps(report)
    for c, name in enumerate(report["class_names"]):
        share = 100 * mapped[c] / max(sum(mapped), 1)
        lines.append(f"{numbers[c]:>3} {name[:30]:<30}{mapped[c]:>11}{share:>8.2f}")
    lines += ["", f"{'classifying, s':<34}{report['test_seconds'][0]:>11.1f}"]
    return "\n".join(lines) + "\n"


def numbers_in_maps(report: dict) -> list[int]:
    """What maps and ``gt.npy`` hold for each class; 1..C in reports that do not say it."""
    return report.get("labels_in_maps") or list(range(1, 1 + len(report["class_names"])))


def _headline(report: dict) -> list[str]:
    """What was run, on what, with which settings and where."""
    settings, environment, split = report["settings"], report["environment"], report["split"]
    trained_with = report.get("trained_with")
    shown = trained_with or settings
    attention = f" ({shown['attention']} attention)" if shown["attention"] else ""
    done, asked = len(report["oa"]), settings["iter"]
    iterations = f"{done} of {asked} iterations" if done < asked else f"iterations: {done}"
    flags = ("input", "recipe", "preprocess", "epoch", "patch", "kernel", "valid_split")
    flags += ("per_class", "validation", "optimizer", "lr", "lr_decay", "batch_size")
    flags += ("class_weights",) if shown.get("class_weights") == "balanced" else ()
    without_effect = {"preprocess"} if "preprocessing" in report else set()
    if shown.get("per_class") or not isinstance(shown["split"], str):
        without_effect |= {"valid_split"}
    given = [
        f"{flag} {shown[flag]}"
        for flag in flags
        if shown.get(flag) is not None and flag not in without_effect
    ]
    what = f"weights of {settings['weights']}" if trained_with else iterations
    # without epochs no flag is left but those that say which pixels train
    said = "trained with" if shown["epoch"] is not None else "split with"
    library = "scikit-learn" if "scikit-learn" in environment else "torch"
    leaks = split.get("test_patches_with_training_pixels", [])
    leak = (
        [f"{100 * np.mean(leaks):.1f} % of the test patches contain training pixels"]
        if leaks
        else []
    )
    words = {"train": "training", "val": "validation", "test": "test"}
    counts = ", ".join(f"{split_count(split, part)} {word}" for part, word in words.items())
    tested = [f"pixels: {counts}", "; ".join([f"split: {split_name(shown, split)}", *leak])]
    return [
        f"{report['model']}{attention} on {report['dataset']}, {what}{_seeds(report)}",
        *(tested if report["oa"] else ["no ground truth: mapped only"]),
        *report.get("notes", []),
        *inputs_in_words(report),
        f"{said} {', '.join(given)}",
        f"{report['date']}, {environment['device']} ({environment['device_name']}, "
        f"{environment['threads']} threads), {environment.get('precision', 'fp32')}, "
        f"{library} {environment[library]}, "
        f"commit {(environment['commit'] or 'unknown')[:12]}",
    ]


def _seeds(report: dict) -> str:
    """Name the first seed, or all that follow no rule; none where no split was drawn."""
    seeds = report.get("seeds") or [report["settings"]["seed"]]
    if "notes" in report and not report["split"]["train"]:
        return ""
    return f", seed{'s' * (len(seeds) > 1)} {' and '.join(map(str, seeds))}"


def split_count(split: dict, part: str) -> str:
    """How many pixels train, validate or test: one number, or the least and the most."""
    counts = [sum(count) for count in split[f"{part}_per_class"]]
    return f"{counts[0]}" if len(set(counts)) == 1 else f"{min(counts)}–{max(counts)}"


def split_name(settings: dict, entry: dict) -> str:
    """How the pixels were split, in words; `entry` is the report's entry "split"."""
    if not entry["train"]:
        return "none, all labelled pixels test"
    split = settings["split"]
    return split if isinstance(split, str) else f"maps {split[0]} (training), {split[1]} (test)"


def percent(mean: float | None, std: float | None = None, undefined: str = "undefined") -> str:
    """Per cent with ± where there is a std to show: one iteration has none.

    A figure may be `undefined`, as kappa is where all test pixels are of one class and found so.
    """
    if mean is None or math.isnan(mean):
        return undefined
    return f"{100 * mean:6.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
