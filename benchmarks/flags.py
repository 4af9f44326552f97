"""The flags that all benchmarks have."""

import argparse
import os
from pathlib import Path

from common.system.errors import InputError
from common.system.files import REPOSITORY
from common.system.flags import file_name


def add_device_and_out(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--out``."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    add_out(parser)


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add ``--out``."""
    results = str(REPOSITORY / "benchmarks" / "results")
    parser.add_argument(
        "--out", type=file_name, default=results, help="folder (default: benchmarks/results)"
    )


def check_peak_memory_is_told() -> None:
    """Raise InputError on Windows, where the system does not tell a process's peak memory so."""
    if not hasattr(os, "wait4"):
        raise InputError("peak memory is measured as Unix tells it; run this on Linux or macOS")


def output_folder(name: str) -> Path:
    """Make the folder that ``--out`` names, before hours are spent on measuring."""
    out = Path(name)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: cannot be made ({error.strerror})") from error
    return out
