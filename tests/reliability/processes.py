"""Training processes to be disturbed: forked from one that has imported PyTorch already."""

import importlib
import multiprocessing
import os
import sys
import time
from pathlib import Path

import pytest
import torch

import common.run.experiment
import common.training.checkpoint
from common.run.cli import main
from common.system.process import end_silently_until_main
from tests.forked import FORKED

resource = pytest.importorskip("resource", reason="signals, limits and disks as Unix has them")

FLAGS = ["-d", "UP", "-p", "2", "-k", "4", "--precision", "fp32"]
SCRIPTS = ("SSRN", "A2S2KResNet")


def start(
    model: str,
    toy_data: Path,
    out: Path,
    *flags: str,
    page: bool = True,
    largest_file: int | None = None,
) -> multiprocessing.Process:
    """Start a training script's `main`; what it says on stderr is in `said(out)`.

    Checkpoints are written after every epoch; `page` says whether report.html is, which takes
    seconds.  No file can grow beyond `largest_file` bytes.
    """
    arguments = [*FLAGS, "--data-dir", str(toy_data), "--out", str(out), *flags]
    process = FORKED.Process(target=_run, args=(model, arguments, _log(out), page, largest_file))
    _log(out).unlink(missing_ok=True)
    process.start()
    while not _log(out).exists():
        time.sleep(0.001)
    return process


def run(model: str, toy_data: Path, out: Path, *flags: str, **others) -> int:
    """Let a training script run to its end; return its exit status."""
    process = start(model, toy_data, out, *flags, **others)
    process.join()
    return process.exitcode


def said(out: Path) -> list[str]:
    """Lines on stderr of the last process that wrote to `out`."""
    return _log(out).read_text("utf-8").splitlines()


def _log(out: Path) -> Path:
    return out.parent / f"{out.name}.stderr"


def _run(model: str, arguments: list[str], log: Path, page: bool, largest_file: int | None) -> None:
    end_silently_until_main()
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), sys.stderr.fileno())
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    torch.set_num_threads(1)
    common.training.checkpoint.LARGEST_COST = 1e9
    if not page:
        common.run.experiment.add_page = lambda out: None
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    module = importlib.import_module(f"{model}.{model}")
    sys.exit(main(getattr(module, model), module.DEFAULTS, arguments))
