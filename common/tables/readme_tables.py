"""The README's tables, made from the published results and the benchmarks' tables.

Run as ``python -m common readme``: it rewrites the lines of README.md between the marks,
and the `report.txt` beside each `report.json`.  With ``--check`` it writes nothing and fails
where a table is not up to date.
"""

import json
import sys
from pathlib import Path

from common.recipe import with_recipe
from common.reporting.report import report_text, split_count
from common.settings import Settings
from common.system.errors import OneLineParser, run_program
from common.system.files import REPOSITORY, write_file

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
    return {path.parent.name: json.loads(path.read_text()) for path in paths}


def results_table(reports: dict[str, dict]) -> str:
    """Markdown table of the reports on random splits."""
    reports = {name: r for name, r in reports.items() if r["settings"]["split"] == "random"}
    rows = []
    for name, report in reports.items():
        split, epochs = report["split"], report["epochs_run"]
        labelled = split["train"] + split["val"] + split["test"]
        shown = ", ".join(map(str, epochs))
        rows.append(
            [
                _network(report),
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


def splits_table(reports: dict[str, dict]) -> str:
    """Markdown table of the SVM and the networks in the fast recipe, one split after the other."""
    rows = []
    for name, report in reports.items():
        if report["settings"].get("recipe", "paper") in (None, "fast"):
            leaks = report["split"]["test_patches_with_training_pixels"]
            split = report["settings"]["split"]
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


def _network(report: dict) -> str:
    """The network, with the flags that are not its defaults."""
    settings = report["settings"]
    recipe = settings.get("recipe", "paper")
    usual = with_recipe(Settings(model=report["model"]), recipe or "paper")
    flags = [
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("attention", "optimizer", "lr", "lr_decay", "per_class")
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
    return f"[report.txt](results/published/{name}/report.txt)"


def _markdown(columns: tuple[str, ...], rows: list[list[str]], words: int) -> str:
    """Markdown table: the first `words` columns and the last to the left, figures to the right."""
    rule = ["---"] * words + ["---:"] * (len(columns) - words - 1) + ["---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [columns, rule, *rows])


def between_marks(text: str, name: str, content: str) -> str:
    """Put `content` between the marks of the table called `name`."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the README's table, or with ``--check`` compare it; return the exit status."""
    description = "Write the results table into README.md."
    parser = OneLineParser(prog="python -m common readme", description=description)
    parser.add_argument("--check", action="store_true", help="compare only")
    return run_program(
        parser.prog, lambda: write_tables(parser.parse_args(arguments).check), interrupted=""
    )


def write_tables(check: bool) -> int:
    """Write the README's tables, or `check` only; return the exit status, 1 where they are old."""
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    reports = read_reports(REPOSITORY / "results" / "published")
    new = between_marks(text, "results", results_table(reports))
    new = between_marks(new, "splits", splits_table(reports))
    speed = (REPOSITORY / "benchmarks" / "results" / "comparison.md").read_text()
    new = between_marks(new, "speed", speed.strip())
    figures = json.loads((REPOSITORY / "results" / "published" / "reliability.json").read_text())
    new = between_marks(new, "reliability", reliability_table(figures))
    if check and new != text:
        print("README.md: its tables are old; run: python -m common readme", file=sys.stderr)
        return 1
    if not check:
        write_file(readme, new)
        for name, report in reports.items():
            path = REPOSITORY / "results" / "published" / name / "report.txt"
            write_file(path, report_text(report))
    return 0
