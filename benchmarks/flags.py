"""The flags that all benchmarks have."""

import argparse
from pathlib import Path

from common.system.errors import InputError
from common.system.files import REPOSITORY
from common.system.flags import file_name


def add_device_and_out(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--out``."""
    results = str(REPOSITORY / "benchmarks" / "results")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--out", type=file_name, default=results, help="folder (default: benchmarks/results)"
    )


def output_folder(name: str) -> Path:
    """Make the folder that ``--out`` names, before hours are spent on measuring."""
    out = Path(name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made ({error.strerror})") from error
    return out
