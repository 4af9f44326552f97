"""The programs beside the training scripts: ``python -m common --help``."""

import importlib
import sys

from common.system.streams import make_streams_tolerant

PROGRAMS = {  # command → (module, what it does)
    "download": (
        "common.scenes.download",
        "fetch scenes, or released weights, into the data directory",
    ),
    "page": (
        "common.run.page_command",
        "write report.html and figures/ of a results directory anew",
    ),
    "table": ("common.tables.paper_table", "a paper's table of several results directories"),
    "study": ("common.run.study", "a paper's table and figure: many runs by one command"),
    "rerun": ("common.reporting.rerun", "the command that repeats a run, from its report.json"),
    "export": ("common.run.export_command", "a trained network as a checked ONNX file"),
    "readme": ("common.tables.readme_tables", "write this repository's own tables anew"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one of the programs; return its exit status, 2 where there is none of that name."""
    make_streams_tolerant()
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if command in ("-h", "--help"):
        print("usage: python -m common COMMAND …\n")
        print("\n".join(f"  {name:10}{what}" for name, (_, what) in PROGRAMS.items()))
        print("\npython -m common COMMAND --help tells each one's arguments.")
        return 0
    if command not in PROGRAMS:
        names = ", ".join(PROGRAMS)
        print(f"python -m common: error: {command!r}: the commands are {names}", file=sys.stderr)
        return 2
    return importlib.import_module(PROGRAMS[command][0]).main(rest)


if __name__ == "__main__":
    sys.exit(main())
