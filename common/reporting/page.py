"""``report.html``: one self-contained page about a run, and its figures as files.

``python -m common page RESULTS_DIRECTORY`` writes both anew from the other files there.
"""

import base64
from pathlib import Path

import jinja2
import numpy as np
from matplotlib.figure import Figure

from common.reporting.figures import (
    draw_figures,
    encoded,
    map_keys,
    map_panels,
    most_disagreement,
    row_shares,
    write_figures,
)
from common.reporting.pictures import png
from common.reporting.read_results import Outcome, read_outcome
from common.reporting.report import (
    inputs_in_words,
    numbers_in_maps,
    percent,
    split_count,
    split_name,
)
from common.system.errors import OneLineParser, damage_in_one_line, run_program
from common.system.files import write_file
from common.system.flags import file_name

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
}
MAP_NOTES = {
    "classification": "first iteration",
    "errors": "first iteration, labelled pixels",
    "confidence": "largest softmax, first iteration",
    "second class": "second most probable, first iteration",
    "margin": "largest softmax less the second, first iteration",
    "disagreement": "share of iterations outvoted",
    "split": "first iteration",
}
DRAWINGS = {
    "learning_curves": ("Learning curves", "One line per iteration."),
    "attention": (
        "What the attention does",
        "The first iteration's weights, averaged over up to 50 test patches of each class. The "
        "kernel attention gives each kernel's two branches weights that add up to 1; an EFR gates "
        "each kernel between 0 and 1.",
    ),
}


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
        map_width="15rem" if cols <= rows * 2 else "24rem",
        maps=_maps(panels),
        legend=_legend(report),
        keys=_keys(outcome, panels),
        class_columns=_class_columns(report),
        classes=_classes(report),
        confusion=_confusion(report),
        drawings=[_drawing(name, figures[name]) for name in DRAWINGS if name in figures],
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


def _maps(panels: dict[str, np.ndarray]) -> list[dict]:
    return [
        {
            "title": title,
            "note": MAP_NOTES.get(title, ""),
            "png": base64.b64encode(png(picture)).decode(),
            "width": picture.shape[1],
            "height": picture.shape[0],
        }
        for title, picture in panels.items()
    ]


def _legend(report: dict) -> list[dict]:
    named = zip(
        numbers_in_maps(report), report["class_names"], report["class_colours"], strict=True
    )
    return [{"number": n, "name": name, "colour": colour} for n, name, colour in named]


def _keys(outcome: Outcome, panels: dict[str, np.ndarray]) -> list[dict]:
    """Keys to the maps that do not show classes."""
    keys = [
        {"kind": "swatch", "colour": colour, "name": name}
        for name, colour in map_keys(panels).items()
    ]
    low = "linear-gradient(90deg, #00224e, #7d7c78, #fee838)"
    if "confidence" in panels:
        name = f"confidence: {1 / len(outcome.colours):.2f} to 1"
        keys.append({"kind": "shade", "colour": low, "name": name})
    if "margin" in panels:
        keys.append({"kind": "shade", "colour": low, "name": "margin: 0 to 1"})
    if "disagreement" in panels:
        name = f"disagreement: 0 to {100 * most_disagreement(outcome):.0f} %"
        keys.append({"kind": "shade", "colour": low, "name": name})
    return keys


def _class_columns(report: dict) -> list[str]:
    if not report["oa"]:
        return ["mapped pixels", "%"]
    return ["train", "validation", "test", "accuracy, %"]


def _classes(report: dict) -> list[dict]:
    rows = _legend(report)
    if not report["oa"]:
        total = max(sum(report["mapped_per_class"]), 1)
        for row, pixels in zip(rows, report["mapped_per_class"], strict=True):
            row |= {"cells": [pixels, f"{100 * pixels / total:.2f}"], "share": 100 * pixels / total}
        return rows
    parts = [np.mean(report["split"][f"{p}_per_class"], axis=0) for p in ("train", "val", "test")]
    for c, row in enumerate(rows):
        mean, std = report["per_class_mean"][c], report["per_class_std"][c]
        tested = mean is not None
        spread = f" ± {100 * std:.2f}" if tested and len(report["oa"]) > 1 else ""
        accuracy = f"{100 * mean:.2f}{spread}" if tested else "not tested"
        row["cells"] = [*(f"{part[c]:.0f}" for part in parts), accuracy]
        row["share"] = round(100 * mean, 2) if tested else None
    return rows


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


def _drawing(name: str, figure: Figure) -> dict:
    title, note = DRAWINGS[name]
    svg = base64.b64encode(encoded(figure, "svg", {"Date": None})).decode()
    return {"title": title, "note": f"{note} As files: figures/{name}.pdf and .png.", "svg": svg}


def _tables(report: dict) -> list[dict]:
    settings = {"model": report["model"]} | (report.get("trained_with") or report["settings"])
    if "trained_with" in report:
        settings["weights"] = report["settings"]["weights"]
    settings["split"] = split_name(settings, report["split"])
    times = {
        name.replace("_", " "): ", ".join(f"{value:.1f}" for value in report[name])
        for name in ("train_seconds", "test_seconds")
    }
    times["epochs"] = ", ".join(map(str, report["epochs_run"]))
    checksums = {
        f"{part} pixels": " ".join(report["split"][f"{part}_sha256"])
        for part in ("train", "val", "test")
    }
    tables = {
        "Settings": {name: value for name, value in settings.items() if value is not None},
        "Machine and versions": report["environment"] | {"scene read from": report["source"]},
        "Times, in seconds": times,
        "SHA-256 of the split, one per iteration": checksums,
    }
    return [
        {"title": title, "rows": [(k, str(v)) for k, v in rows.items()]}
        for title, rows in tables.items()
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write the page of a results directory; return the exit status."""
    description = "Write report.html and figures/ of a results directory anew."
    parser = OneLineParser(prog="python -m common page", description=description)
    parser.add_argument("results", type=file_name, metavar="RESULTS_DIRECTORY")

    def work() -> None:
        out = Path(parser.parse_args(arguments).results)
        with damage_in_one_line(out, "results directory"):
            write_page(out)
        print(out / "report.html")

    return run_program(parser.prog, work, interrupted="")
