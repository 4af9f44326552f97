"""The README's results table, made from the published `report.json` files.

Run as ``python -m common.results_table``: it rewrites the lines of README.md between the two
marks, and the `report.txt` beside each `report.json`.  With ``--check`` it writes nothing and
fails where the table is not up to date.
"""

import argparse
import json
import sys
from pathlib import Path

from common.files import REPOSITORY, write_file
from common.report import report_text
from common.settings import Settings

BEGIN = "<!-- results: written by python -m common.results_table -->"
END = "<!-- results: end -->"
COLUMNS = (
    "network",
    "scene",
    "training pixels",
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
    rule = ["---"] * 3 + ["---:"] * (len(COLUMNS) - 4) + ["---"]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [COLUMNS, rule, *rows])


def _row(path: Path) -> list[str]:
    report = json.loads(path.read_text())
    settings, split = report["settings"], report["split"]
    usual = Settings(model=report["model"])
    flags = " ".join(
        f"--{name.replace('_', '-')} {settings[name]}"
        for name in ("attention", "optimizer", "lr", "lr_decay")
        if settings[name] != getattr(usual, name)
    )
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
        str(len(report["oa"])),
        *scores,
        ", ".join(map(str, report["epochs_run"])),
        f"[report.txt](results/published/{path.parent.name}/report.txt)",
    ]


def main(arguments: list[str] | None = None) -> int:
    """Rewrite the README's table, or with ``--check`` compare it; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the results table into README.md.")
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args(arguments).check
    readme = REPOSITORY / "README.md"
    text = readme.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    new = f"{before}{BEGIN}\n{table(REPOSITORY / 'results' / 'published')}\n{END}{after}"
    if check and new != text:
        print("README.md: its table is old; run: python -m common.results_table", file=sys.stderr)
        return 1
    if not check:
        write_file(readme, new)
        for path in (REPOSITORY / "results" / "published").glob("*/report.json"):
            write_file(path.with_name("report.txt"), report_text(json.loads(path.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
