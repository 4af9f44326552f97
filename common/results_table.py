"""The README's tables, made from the published `report.json` files and the benchmarks' tables.

Run as ``python -m common.results_table``: it rewrites the lines of README.md between the marks,
and the `report.txt` beside each `report.json`.  With ``--check`` it writes nothing and fails
where a table is not up to date.
"""

import argparse
import json
import sys
from pathlib import Path

from common.files import REPOSITORY, write_file
from common.recipe import with_recipe
from common.report import report_text
from common.settings import Settings

BEGIN = "<!-- {}: written by python -m common.results_table -->"
END = "<!-- {}: end -->"
COLUMNS = (
    "network",
    "scene",
    "training pixels",
    "precision",
    "iterations",
    "OA %",
    "AA %",
    "κ × 100",
    "AA % (user's)",
    "epochs",
    "report",
)


def table(results: Path) -> str:
    """Markdown table of every ``report.json`` one folder below `results`."""
    rows = [_row(path) for path in sorted(results.glob("*/report.json"))]
    rule = ["---"] * 4 + ["---:"] * (len(COLUMNS) - 5) + ["---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [COLUMNS, rule, *rows])


def _row(path: Path) -> list[str]:
    report = json.loads(path.read_text())
    settings, split, epochs = report["settings"], report["split"], report["epochs_run"]
    recipe = settings.get("recipe", "paper")
    usual = with_recipe(Settings(model=report["model"]), recipe or "paper")
    flags = [
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("attention", "optimizer", "lr", "lr_decay", "per_class")
        if settings.get(name) not in (None, getattr(usual, name))  # None: the model has no such
    ]
    if recipe not in (None, "paper"):
        flags.append(f"--recipe {recipe}")
    if settings["split"] not in ("random", ["random"]):
        flags.append(f"--split {' '.join(settings['split'])}")
    flags = " ".join(flags)
    labelled = split["train"] + split["val"] + split["test"]
    scores = [
        f"{100 * report[f'{name}_mean']:.2f}"
        + (f" ± {100 * report[f'{name}_std']:.2f}" if len(report["oa"]) > 1 else "")
        for name in ("oa", "aa", "kappa", "aa_users")
    ]
    return [
        f"{report['model']}, `{flags}`" if flags else report["model"],
        report["dataset"],
        f"{split['train']} of {labelled}",
        report["environment"].get("precision", "fp32"),
        str(len(report["oa"])),
        *scores,
        ", ".join(map(str, epochs if len(set(epochs)) > 1 else epochs[:1])) if any(epochs) else "–",
        f"[report.txt](results/published/{path.parent.name}/report.txt)",
    ]


def between_marks(text: str, name: str, content: str) -> str:
    """Put `content` between the marks of the table called `name`."""
    begin, end = BEGIN.format(name), END.format(name)
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{content}\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the README's table, or with ``--check`` compare it; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the results table into README.md.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    new = between_marks(text, "results", table(REPOSITORY / "results" / "published"))
    speed = (REPOSITORY / "benchmarks" / "results" / "comparison.md").read_text()
    new = between_marks(new, "speed", speed.strip())
    if check and new != text:
        print("README.md: its tables are old; run: python -m common.results_table", file=sys.stderr)
        return 1
    if not check:
        write_file(readme, new)
        for path in (REPOSITORY / "results" / "published").glob("*/report.json"):
            write_file(path.with_name("report.txt"), report_text(json.loads(path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
