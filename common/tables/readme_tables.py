"""The tables of the README and of docs/, made from the published results and the benchmarks.

Run as ``python -m common readme``: it rewrites the lines between the marks of each file, and the
`report.txt` beside each `report.json`.  With ``--check`` it writes nothing and fails where a table
is not up to date.
"""

import json
import statistics
import sys
from pathlib import Path

import yaml

from common.recipe import with_recipe
from common.reporting.report_text import report_text, split_count
from common.settings import Settings
from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import REPOSITORY, check_is_file, write_file
from common.tables.curve_points import read_points
from common.tables.learning_curves import curves_tables
from common.tables.speed_tables import steps_table, training_times
from common.tables.study_table import Published, Row, comparison_table
from common.tables.table_formats import markdown

FILES = {  # the file that holds each table, or passage with figures
    "headline": "README.md",
    "warning": "README.md",
    "results": "docs/results.md",
    "learning curves": "docs/results.md",
    "preprocessing": "docs/splits.md",
    "class weights": "docs/flags.md",
    "start from": "docs/flags.md",
    "splits": "docs/splits.md",
    "compared": "docs/compared-systems.md",
    "speed": "docs/speed.md",
    "speed with AVX2": "docs/speed.md",
    "speed held to AVX2": "docs/speed.md",
    "speed of the compared": "docs/speed.md",
    "steps": "common/fast/README.md",
    "first contact": "docs/speed.md",
    "rounding": "docs/fidelity.md",
    "reliability": "docs/reliability.md",
}
A2S2K, SSRN = "A2S2KResNet/A2S2KResNet.py -d IN -i 5", "SSRN/SSRN.py -d IN -i 5"
HEADLINE = {  # results directory → what the README calls it, and its command
    "IN_A2S2KResNet_paper_bf16": (
        "**A2S2K-ResNet, attention as in its paper** (98.66 in its code's README)",
        A2S2K,
    ),
    "IN_A2S2KResNet_paper_fast": ("A2S2K-ResNet, fast", f"{A2S2K} --recipe fast"),
    "IN_SSRN_bf16": ("SSRN, the same protocol", SSRN),
    "IN_SSRN_fast": ("SSRN, fast", f"{SSRN} --recipe fast"),
    "IN_SVM": ("SVM on single spectra", "baselines/SVM.py -d IN"),
}
COMPARED = {  # method of studies/ssrn_paper_fast.yaml → results directory
    "SVM": "IN_SVM_patch_20",
    "SAE": "IN_SAE_20",
    **{name: f"IN_{name}_fast_20" for name in ("CNN", "CNNL", "SPA", "SPC", "SSRN")},
}
STUDIES = ("learning curves", "preprocessing", "class weights", "start from")
AUTHORS_TITLE = "SSRN by the protocol of its authors"
AUTHORS = {"SSRN, Keras form": "IN_SSRNKeras_authors", "SSRN": "IN_SSRN_authors"}
BEGIN = "<!-- {}: written by python -m common readme -->"
END = "<!-- {}: end -->"
COLUMNS = (
    "network",
    "scene",
    "training pixels",
    "precision",
    "seeds",
    "OA %",
    "AA %",
    "κ × 100",
    "AA % (user's)",
    "epochs",
    "report",
)
SPLIT_COLUMNS = (
    "split",
    "network",
    "training pixels",
    "test patches with training pixels",
    "seeds",
    "OA %",
    "AA %",
    "κ × 100",
    "report",
)


def read_reports(results: Path) -> dict[str, dict]:
    """Every ``report.json`` one folder below `results`, by the folder's name."""
    paths = sorted(results.glob("*/report.json"))
    return {path.parent.name: json.loads(path.read_text("utf-8")) for path in paths}


def headline_table(reports: dict[str, dict]) -> str:
    """Markdown table of the README: the reports of `HEADLINE`, and no more of each than fits."""
    rows = []
    for name, (title, command) in HEADLINE.items():
        report, epochs = reports[name], statistics.mean(reports[name]["epochs_run"])
        scores = _scores(report, ("oa", "aa", "kappa"))
        counts = [f"{epochs:.0f}" if epochs else "–", str(len(report["oa"]))]
        rows.append([title, *scores, *counts, f"`python {command}`"])
    columns = ("Indian Pines, 10 % for training", *COLUMNS[5:8], "epochs", "seeds", "command")
    rule = ["---", *["---:"] * 5, "---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def warning(reports: dict[str, dict]) -> str:
    """Say what a random split's figures do not, and what those of a disjoint one are."""
    random, disjoint = (
        [reports[f"IN_{name}{kind}"] for name in ("A2S2KResNet_paper_fast", "SSRN_fast", "SVM")]
        for kind in ("", "_disjoint")
    )
    leaks = [share for r in random for share in r["split"]["test_patches_with_training_pixels"]]
    a2s2k, ssrn, svm = (f"{100 * report['oa_mean']:.1f}" for report in disjoint)
    return (
        f"> **What these figures do not say.** Patches of neighbouring pixels overlap: with the "
        f"field's usual random split, {100 * min(leaks):.0f} to {100 * max(leaks):.0f} % of the "
        f"test patches contain training pixels. On ground away from these (`--split disjoint`, "
        f"three seeds) the OA of A2S2K-ResNet is {a2s2k} %, of SSRN {ssrn} % and of the SVM "
        f"{svm} %: see [docs/splits.md](docs/splits.md)."
    )


def results_table(reports: dict[str, dict]) -> str:
    """Markdown table of the reports on random splits, those by the rule of SSRN's authors last."""
    rows = []
    for name, report in _on_splits(reports, "random", "authors"):
        split, epochs = report["split"], report["epochs_run"]
        labelled = split["train"] + split["val"] + split["test"]
        shown = ", ".join(map(str, epochs))
        rows.append(
            [
                _network(report, ("input", "split")),
                report["dataset"],
                f"{split_count(split, 'train')} of {labelled}",
                report["environment"].get("precision", "fp32"),
                _seeds(report),
                *_scores(report, ("oa", "aa", "kappa", "aa_users")),
                shown if any(epochs) else "–",
                _link(name),
            ]
        )
    return _markdown(COLUMNS, rows, words=4)


def _on_splits(reports: dict[str, dict], *splits: str) -> list[tuple[str, dict]]:
    """Names and reports of the runs on these splits, one split after the other."""
    return [
        (name, report)
        for split in splits
        for name, report in reports.items()
        if report["settings"]["split"] == split
    ]


def compared_tables(published: Path) -> str:
    """Markdown tables of the systems of the SSRN paper beside its figures, and its authors' run."""
    study = yaml.safe_load((REPOSITORY / "studies" / "ssrn_paper_fast.yaml").read_text("utf-8"))
    figures = study["published"]["IN"]
    maps = Published(study["published"]["source"], study["published"]["pixels"])
    record = Published("the authors' record of one run")
    tables = [
        (study["name"], maps, {name: (of, tuple(figures[name])) for name, of in COMPARED.items()}),
        (AUTHORS_TITLE, record, {name: (of, (99.44, None, None)) for name, of in AUTHORS.items()}),
    ]
    made = []
    for title, source, methods in tables:
        rows = [
            Row(name, "", published / of, published=theirs)
            for name, (of, theirs) in methods.items()
            if (published / of / "report.json").is_file()
        ]
        if rows:
            made.append(comparison_table(title, "IN", rows, source))
    return markdown(made).strip()


def splits_table(reports: dict[str, dict]) -> str:
    """Markdown table of the SVM and the networks in the fast recipe, one split after the other."""
    rows = []
    for name, report in reports.items():
        split = report["settings"]["split"]
        if report["settings"].get("recipe", "paper") in (None, "fast") and split != "authors":
            leaks = report["split"]["test_patches_with_training_pixels"]
            row = [
                f"`{split if isinstance(split, str) else ' '.join(split)}`",
                _network(report),
                split_count(report["split"], "train"),
                f"{100 * sum(leaks) / len(leaks):.1f} %",
                _seeds(report),
                *_scores(report, ("oa", "aa", "kappa")),
                _link(name),
            ]
            rows.append(row)
    rows.sort(key=lambda row: {"`random`": 0, "`disjoint`": 1}.get(row[0], 2))
    return _markdown(SPLIT_COLUMNS, rows, words=2)


def reliability_table(figures: dict) -> str:
    """Markdown table of the faults that ``pytest tests/reliability --full`` has tried."""
    columns = ("fault", "how it was tried", "times", "what was lost")
    lines = [["---", "---", "---:", "---"]]
    for fault, figure in figures["faults"].items():
        lines.append([fault, figure["how"], f"{figure['times']:,}", figure["lost"]])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, *lines])


def _network(report: dict, further: tuple[str, ...] = ()) -> str:
    """The network, with the flags that are not its defaults, `further` ones among them."""
    settings = report["settings"]
    recipe = settings.get("recipe", "paper")
    usual = with_recipe(Settings(model=report["model"], input="spectrum"), recipe or "paper")
    flags = [
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("attention", "optimizer", "lr", "lr_decay", "per_class", *further)
        if settings.get(name) not in (None, getattr(usual, name))  # None: the model has no such
    ]
    if recipe not in (None, "paper"):
        flags.append(f"--recipe {recipe}")
    return f"{report['model']}, `{' '.join(flags)}`" if flags else report["model"]


def _seeds(report: dict) -> str:
    """First and last seed: one per iteration."""
    first, count = report["settings"]["seed"], len(report["oa"])
    return f"{first}" if count == 1 else f"{first}–{first + count - 1}"


def _scores(report: dict, names: tuple[str, ...]) -> list[str]:
    """Means in per cent, with ± where there are several iterations."""
    several = len(report["oa"]) > 1
    return [
        f"{100 * report[f'{name}_mean']:.2f}"
        + (f" ± {100 * report[f'{name}_std']:.2f}" if several else "")
        for name in names
    ]


def _link(name: str) -> str:
    return f"[report.txt](../results/published/{name}/report.txt)"


def _markdown(columns: tuple[str, ...], rows: list[list[str]], words: int) -> str:
    """Markdown table: the first `words` columns and the last to the left, figures to the right."""
    rule = ["---"] * words + ["---:"] * (len(columns) - words - 1) + ["---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def between_marks(text: str, name: str, content: str) -> str:
    """Put `content` between the marks of the table called `name`."""
    begin, end = BEGIN.format(name), END.format(name)
    for mark in (begin, end):
        if mark not in text:
            raise InputError(f"the mark {mark} is missing")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the tables, or with ``--check`` compare them; return the exit status."""
    description = "Write the tables of README.md and docs/ anew."
    parser = OneLineParser(prog="python -m common readme", description=description)
    parser.add_argument("--check", action="store_true", help="compare only")
    return run_program(
        parser.prog, lambda: write_tables(parser.parse_args(arguments).check), interrupted=""
    )


def write_tables(check: bool) -> int:
    """Write every table, or `check` only; return the exit status, 1 where one is old."""
    published = REPOSITORY / "results" / "published"
    reports = read_reports(published)
    tables = made_tables(reports)
    status = 0
    for name, file in FILES.items():
        path = REPOSITORY / file
        check_is_file(path)
        text = path.read_text("utf-8")
        try:
            new = between_marks(text, name, tables[name])
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if not check:
            write_file(path, new)
        elif new != text:
            print(f"{file}: its tables are old; run: python -m common readme", file=sys.stderr)
            status = 1
    if not check:
        for name, report in reports.items():
            write_file(published / name / "report.txt", report_text(report))
    return status


def made_tables(reports: dict[str, dict]) -> dict[str, str]:
    """Make every table of `FILES`, from the reports and from what was measured."""
    speed = REPOSITORY / "benchmarks" / "results" / "comparison.md"
    compared = speed.parent / "compared" / "comparison.md"
    with_avx2 = speed.parent / "avx2" / "comparison.md"
    held_to_avx2 = speed.parent / "held_to_avx2" / "comparison.md"
    measured = json.loads(speed.with_suffix(".json").read_text("utf-8"))
    published = REPOSITORY / "results" / "published"
    faults = published / "reliability.json"
    studies = {name: published / f"{name.replace(' ', '_')}.json" for name in STUDIES}
    return {
        **{name: markdown(curves_tables(*read_points(of))).strip() for name, of in studies.items()},
        "headline": f"{headline_table(reports)}\n\n{training_times(measured)}",
        "warning": warning(reports),
        "results": results_table(reports),
        "splits": splits_table(reports),
        "compared": compared_tables(published),
        "speed": speed.read_text("utf-8").strip(),
        "speed with AVX2": with_avx2.read_text("utf-8").strip(),
        "speed held to AVX2": held_to_avx2.read_text("utf-8").strip(),
        "speed of the compared": compared.read_text("utf-8").strip(),
        "steps": steps_table(
            json.loads(with_avx2.with_suffix(".json").read_text("utf-8")), measured
        ),
        "first contact": (speed.parent / "first_contact.md").read_text("utf-8").strip(),
        "rounding": (speed.parent / "rounding.md").read_text("utf-8").strip(),
        "reliability": reliability_table(json.loads(faults.read_text("utf-8"))),
    }
