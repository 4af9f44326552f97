"""``python -m common page RESULTS_DIRECTORY``: a run's page and figures, from its other files."""

from pathlib import Path

from common.system.errors import OneLineParser, damage_in_one_line, run_program
from common.system.flags import file_name


def main(arguments: list[str] | None = None) -> int:
    """Write the page of a results directory; return the exit status."""
    description = "Write report.html and figures/ of a results directory anew."
    parser = OneLineParser(prog="python -m common page", description=description)
    parser.add_argument("results", type=file_name, metavar="RESULTS_DIRECTORY")

    def work() -> None:
        out = Path(parser.parse_args(arguments).results)
        from common.reporting.page import write_page  # Matplotlib takes a second to load

        with damage_in_one_line(out, "results directory"):
            write_page(out)
        print(out / "report.html")

    return run_program(parser.prog, work, interrupted="")
