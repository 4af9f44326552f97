"""``report.html``: one self-contained page about a run, and its figures as files."""

import base64
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from common.reporting.figures import (
    CONFUSION_TITLE,
    draw_figures,
    encoded,
    row_shares,
    write_figures,
)
from common.reporting.map_figures import BLACK, KEYS, map_panels, shade_ranges
from common.reporting.pictures import png
from common.reporting.read_results import Outcome, read_outcome
from common.reporting.report_text import (
    costs,
    inputs_in_words,
    intervals,
    is_known,
    numbers_in_maps,
    percent,
    split_count,
    split_name,
)
from common.system.files import write_file

TEMPLATE = Path(__file__).with_name("report.html.jinja")
MODEL_NAMES = {
    "A2S2KResNet": "A2S2K-ResNet",
    "SSRNKeras": "SSRN, Keras form",
    "SSRNLeaky": "SSRN, later PyTorch form",
}
SCORES = {
    "oa": "overall accuracy, %",
    "aa": "average accuracy, %",
    "kappa": "Cohen's κ × 100",
    "aa_users": "average user's accuracy, %",
    "f1_macro": "macro F1, %",
}
MAP_NOTES = {
    "classification": "",
    "errors": "labelled pixels",
    "confidence": "largest softmax",
    "second class": "second most probable",
    "margin": "largest softmax less the second",
    "disagreement": "share of iterations outvoted",
    "split": "",
}
DRAWINGS = {
    "learning_curves": ("Learning curves", "One line per iteration."),
    "attention": (
        "What the attention does",
        "Weights averaged over up to 50 test patches of each class. The kernel attention gives "
        "each kernel's two branches weights that add up to 1; an EFR gates each kernel between 0 "
        "and 1.",
    ),
}
FIRST_OF_SEVERAL = ("attention", *MAP_NOTES)  # of which one iteration is shown


def write_page(out: Path) -> None:
    """Write ``report.html`` and ``figures/`` of a results directory from its other files.

    Raises
    ------
    InputError
        It is no results directory, or a file there is damaged.
    """
    outcome = read_outcome(out)
    figures = draw_figures(outcome)
    write_figures(out / "figures", figures)
    write_file(out / "report.html", page(outcome, figures))


def page(outcome: Outcome, figures: dict[str, Figure]) -> str:
    """Return the page as HTML; it needs no other file and no network."""
    report, panels = outcome.report, map_panels(outcome)
    template = jinja2.Template(
        TEMPLATE.read_text("utf-8"),
        autoescape=True,
        trim_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    rows, cols = report["shape"][:2]
    model = MODEL_NAMES.get(report["model"], report["model"])
    return template.render(
        title=f"{model} on {report['scene_name']}",
        subtitle=_subtitle(report),
        headline=[_score(report, name, title) for name, title in SCORES.items()]
        if report["oa"]
        else [],
        warnings=report.get("notes", []) + _leak_warning(report["split"]),
        intervals=_intervals(report),
        map_width="15rem" if cols <= rows * 2 else "24rem",
        maps=_maps(outcome, panels),
        legend=_legend(report),
        black=BLACK,
        class_columns=_class_columns(report),
        classes=_classes(report),
        confusion=_confusion(report),
        confusion_title=CONFUSION_TITLE,
        drawings=[_drawing(name, figures[name], report) for name in DRAWINGS if name in figures],
        tables=_tables(report),
    )


def _subtitle(report: dict) -> list[str]:
    settings, split = report.get("trained_with") or report["settings"], report["split"]
    rows, cols, bands = report["shape"]
    done, asked = len(report["test_seconds"]), report["settings"]["iter"]
    iterations = f"{done} iteration{'s' * (done != 1)}"
    if done < asked:
        iterations = f"{done} of {asked} iterations, the run was interrupted"
    lines = [f"{rows} × {cols} pixels, {bands} bands, {len(report['class_names'])} classes"]
    if report["oa"]:
        lines += [
            f"{split_count(split, 'train')} training, {split_count(split, 'val')} validation, "
            f"{split_count(split, 'test')} test pixels; split: {split_name(settings, split)}",
            f"{iterations}, seeds {_seeds(report, settings)}; {report['date'][:10]}",
        ]
    else:
        lines += [f"no ground truth: mapped only; {report['date'][:10]}"]
    return lines + inputs_in_words(report)


def _seeds(report: dict, settings: dict) -> str:
    seeds = report.get("seeds")  # where they are not one after the other
    return " and ".join(map(str, seeds)) if seeds else f"from {settings['seed']}"


def _score(report: dict, name: str, title: str) -> dict:
    several = len(report[name]) > 1
    return {
        "name": title,
        "mean": percent(report[f"{name}_mean"]).strip(),
        "std": f"± {percent(report[f'{name}_std']).strip()}" if several else "one iteration",
        "each": "  ".join(percent(value).strip() for value in report[name]) if several else "",
    }


def _leak_warning(split: dict) -> list[str]:
    shares = split.get("test_patches_with_training_pixels")
    if not shares:
        return []
    share = 100 * float(np.mean(shares))
    if share == 0:
        return ["No test patch contains a training pixel."]
    return [
        f"{share:.1f} % of the test patches contain training pixels: these figures compare methods "
        f"on the same split, and say little about new ground."
    ]


def _intervals(report: dict) -> str:
    """The 95 % intervals of the mean OA in one sentence; empty where there is none."""
    found = [f"{ends} % over {over} ({what})" for over, ends, what in intervals(report)]
    return f"95 % intervals of the mean OA: {'; '.join(found)}." if found else ""


def _maps(outcome: Outcome, panels: dict[str, np.ndarray]) -> list[dict]:
    shades = shade_ranges(outcome)
    return [
        {
            "title": title,
            "note": _note(title, MAP_NOTES.get(title, ""), outcome.report),
            "png": base64.b64encode(png(picture)).decode(),
            "width": picture.shape[1],
            "height": picture.shape[0],
            "meanings": list(KEYS.get(title, {}).items()),
            "shades": _shades(*shades[title]) if title in shades else None,
        }
        for title, picture in panels.items()
    ]


def _note(name: str, note: str, report: dict) -> str:
    """What is said of a picture; of which iteration it is only where there are several."""
    if name == "disagreement":
        return "share of iterations outvoted"
    several = name in FIRST_OF_SEVERAL and len(report["test_seconds"]) > 1
    return ", ".join(filter(None, [note, "first iteration" if several else ""]))


def _shades(low: float, high: float, unit: str) -> dict[str, str]:
    return {"low": f"{low:.3g}{unit}", "high": f"{high:.3g}{unit}"}


def _legend(report: dict) -> list[dict]:
    named = zip(
        numbers_in_maps(report), report["class_names"], report["class_colours"], strict=True
    )
    return [{"number": n, "name": name, "colour": colour} for n, name, colour in named]


def _class_columns(report: dict) -> list[str]:
    if not report["oa"]:
        return ["mapped pixels", "%"]
    return ["train", "validation", "test", "accuracy, %", "precision, %", "F1, %"]


def _classes(report: dict) -> list[dict]:
    """Rows of the table of classes; a cell is a figure and its spread over iterations."""
    rows = _legend(report)
    if not report["oa"]:
        total = max(sum(report["mapped_per_class"]), 1)
        for row, pixels in zip(rows, report["mapped_per_class"], strict=True):
            share = 100 * pixels / total
            row |= {"cells": [(str(pixels), ""), (f"{share:.2f}", "")], "share": share}
        return rows
    parts = [np.mean(report["split"][f"{p}_per_class"], axis=0) for p in ("train", "val", "test")]
    for c, row in enumerate(rows):
        row["cells"] = [(f"{part[c]:.0f}", "") for part in parts]
        row["cells"] += [_figure(report, name, c) for name in ("per_class", "precision", "f1")]
        mean = report["per_class_mean"][c]
        row["share"] = round(100 * mean, 2) if is_known(mean) else None
    return rows


def _figure(report: dict, name: str, c: int) -> tuple[str, str]:
    """A class's mean in per cent, and ± its standard deviation where there are iterations."""
    mean, std = report[f"{name}_mean"][c], report[f"{name}_std"][c]
    if not is_known(mean):
        return "not tested" if name == "per_class" else "", ""
    return f"{100 * mean:.2f}", f" ± {100 * std:.2f}" if len(report["oa"]) > 1 else ""


def _confusion(report: dict) -> list[dict]:
    if not report["confusion"]:
        return []
    counts = np.sum(report["confusion"], axis=0)
    rows = []
    for entry, pixels, shares in zip(_legend(report), counts, row_shares(counts), strict=True):
        cells = [_cell(*pair) for pair in zip(pixels, shares, strict=True)]
        rows.append({"number": entry["number"], "name": entry["name"], "cells": cells})
    return rows


def _cell(pixels: int, share: float) -> dict:
    shade = 0.0 if np.isnan(share) else share / 100
    red, green, blue = (round(255 - shade * (255 - end)) for end in (0, 90, 156))
    text = f"{share:.0f}" if share >= 99.95 or share < 0.05 else f"{share:.1f}"
    return {
        "title": f"{pixels} pixels",
        "background": f"rgb({red},{green},{blue})",
        "ink": "#fff" if shade > 0.5 else "#1b2631",
        "text": text if pixels else "",
    }


def _drawing(name: str, figure: Figure, report: dict) -> dict:
    title, note = DRAWINGS[name]
    if len(report["test_seconds"]) > 1 and name == "attention":
        note = f"The first iteration. {note}"
    elif len(report["test_seconds"]) == 1 and name == "learning_curves":
        note = ""
    svg = base64.b64encode(encoded(figure, "svg", {"Date": None})).decode()
    files = f"As files: figures/{name}.pdf and .png."
    return {"title": title, "note": f"{note} {files}".strip(), "svg": svg}


def _tables(report: dict) -> list[dict]:
    own, trained = report["settings"], report.get("trained_with")
    split = report["split"]
    used = {
        name: own.get(name)
        for name in (
            *("dataset", "weights", "map", "probabilities", "device", "precision"),
            *("data_dir", "out"),
        )
    }
    tables = {
        "Settings": {"model": report["model"]} | (used if trained else _settings(own, split)),
        "Settings of the training, by the file of weights": _settings(trained or {}, split),
        "How it was made": _origin(report),
        "Machine": report["environment"],
        "Costs": costs(report),
        "Times": _times(report),
        "SHA-256 of the scene's files": report.get("files_sha256", {}),
        "SHA-256 of the split, one per iteration": {
            f"{part} pixels": " ".join(report["split"][f"{part}_sha256"])
            for part in ("train", "val", "test")
        },
    }
    return [
        {"title": title, "rows": [(k, str(v)) for k, v in rows.items() if v is not None]}
        for title, rows in tables.items()
        if rows
    ]


def _settings(settings: dict, split: dict) -> dict:
    return settings | {"split": split_name(settings, split)} if settings else {}


def _origin(report: dict) -> dict[str, str | None]:
    """The command and where it was typed, and what it was made from."""
    packages = [f"{name} {version}" for name, version in report.get("packages", {}).items()]
    return {
        "command": report.get("command"),
        "typed in": report.get("directory"),
        "commit": report["environment"].get("commit"),
        "date": report["date"],
        "scene read from": report["source"],
        "packages": ", ".join(packages) or None,
    }


def _times(report: dict) -> dict[str, str]:
    titles = {
        "train_seconds": "training, s",
        "train_seconds_per_epoch": "training, s per epoch",
        "test_seconds": "testing, s",
    }
    found = {
        title: ", ".join(f"{value:.1f}" for value in report.get(name, []) if is_known(value))
        for name, title in titles.items()
        if name == "test_seconds" or "trained_with" not in report
    }
    if "trained_with" not in report:
        found["epochs"] = ", ".join(map(str, report["epochs_run"]))
    return {title: shown for title, shown in found.items() if shown}
