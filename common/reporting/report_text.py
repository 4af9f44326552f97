"""A report in words: `report.txt`, and the same words for the page and tables."""

import math

import numpy as np

from common.reporting.report import OF_CLASSES, with_all_figures
from common.scenes.scene_file import SCENES

INTERVALS = {  # over what, and what it says
    "oa_ci95_iterations": (
        "iterations",
        "Student's t: how far other splits and initial weights would move the mean",
    ),
    "oa_ci95_blocks": (
        "ground",
        "bootstrap of blocks of the scene, for neighbours are alike: how far other such ground "
        "would move it",
    ),
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


def scene_title(report: dict) -> str:
    """What the user calls the scene: the key of a benchmark, else the scene file's own name."""
    key = report["dataset"]
    return key if key in SCENES else report.get("scene_name", key)


def report_text(report: dict) -> str:
    """The report in words: per-class and overall accuracies in per cent, mean ± std."""
    if not report["oa"]:
        return _map_text(report)
    report = with_all_figures(report)
    several, split = len(report["oa"]) > 1, report["split"]
    header = (
        f"{'class':<34}{'train':>7}{'test':>8}{'accuracy %':>16}{'precision %':>16}{'F1 %':>16}"
    )
    lines = [*_headline(report), "", header]
    train, test = (np.mean(split[f"{part}_per_class"], axis=0) for part in ("train", "test"))
    numbers = numbers_in_maps(report)
    for c, name in enumerate(report["class_names"]):
        cells = [
            percent(
                report[f"{figure}_mean"][c],
                report[f"{figure}_std"][c] if several else None,
                undefined="not tested",
            )
            for figure in OF_CLASSES
        ]
        figures = "".join(f"{cell.strip():>16}" for cell in cells)
        lines.append(f"{numbers[c]:>3} {name[:30]:<30}{train[c]:>7.0f}{test[c]:>8.0f}{figures}")

    lines += ["", f"{'':<34}{'mean ± std':>14}   each iteration" if several else ""]
    titles = {
        "oa": "OA %",
        "aa": "AA %",
        "kappa": "kappa × 100",
        "aa_users": "AA % (user's accuracy)",
        "f1_macro": "F1 % (macro: mean of the classes)",
    }
    for name, title in titles.items():
        each = "  ".join(percent(value).strip() for value in report[name]) if several else ""
        summary = percent(report[f"{name}_mean"], report[f"{name}_std"] if several else None)
        lines.append(f"{title:<34}{summary:>14}   {each}".rstrip())
    for over, ends, what in intervals(report):
        lines.append(f"{f'OA %, 95 % interval over {over}':<34}{ends:>14}   {what}")
    lines += _times_text(report, several)
    lines += [f"{title:<34}{value:>14}" for title, value in costs(report).items()]
    return "\n".join(lines) + "\n"


def intervals(report: dict) -> list[tuple[str, str, str]]:
    """95 % intervals of the mean OA: over what, from where to where in per cent, what it says."""
    found = []
    for key, (over, what) in INTERVALS.items():
        if ends := report.get(key):
            low, high = (f"{100 * end:.2f}" for end in ends)
            found.append((over, f"{low}–{high}", what))
    return found


def costs(report: dict) -> dict[str, str]:
    """What the classifier costs, by title in words: those figures that the report has."""
    on_gpu = report["environment"]["device"].startswith("cuda")
    titles = {
        "parameters": ("learned parameters", "{:,}"),
        "macs_per_pixel": ("multiply-adds per pixel, patches", "{:,}"),
        "macs_per_pixel_dense": ("multiply-adds per pixel, dense", "{:,}"),
        "peak_memory_mb": (f"peak memory{' of the GPU' * on_gpu}, MB", "{:,.0f}"),
    }
    known = {key: titles[key] for key in titles if is_known(report.get(key))}
    return {title: form.format(report[key]) for key, (title, form) in known.items()}


def _times_text(report: dict, several: bool) -> list[str]:
    """Seconds and epochs, a line each."""
    lines, trained = [], "trained_with" not in report
    titles = {
        "train_seconds": "training, s",
        "train_seconds_per_epoch": "training, s per epoch",
        "test_seconds": "testing, s",
    }
    for name, title in titles.items():
        values = [value for value in report.get(name, []) if is_known(value)]
        each = "  ".join(f"{value:.1f}" for value in values) if several else ""
        if values and (trained or name == "test_seconds"):
            lines.append(f"{title:<34}{np.mean(values):>14.1f}   {each}".rstrip())
    if trained and any(report["epochs_run"]):
        lines.append(f"{'epochs':<34}{', '.join(map(str, report['epochs_run'])):>14}")
    return lines


def is_known(figure: float | None) -> bool:
    """Whether there is a figure: None stands for NaN in a file."""
    return figure is not None and not math.isnan(figure)


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
        f"{report['model']}{attention} on {scene_title(report)}, {what}{_seeds(report)}",
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
    if not is_known(mean):
        return undefined
    return f"{100 * mean:6.2f}" + ("" if std is None else f" ± {100 * std:.2f}")
