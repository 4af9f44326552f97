"""Processes forked from one that has imported all packages already, which takes seconds."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

from common.system.files import REPOSITORY

OURS = ("A2S2KResNet", "SSRN", "baselines", "benchmarks", "common", "figs")

if hasattr(os, "fork"):
    FORKED = multiprocessing.get_context("forkserver")
    FORKED.set_forkserver_preload(["tests.preloaded"])
else:  # Windows
    FORKED = multiprocessing.get_context("spawn")


def run_program(
    command: list[str], *, cwd: Path, folder: Path, **environment: str
) -> subprocess.CompletedProcess:
    """Run ``python COMMAND`` in `cwd`; its two outputs go through files in `folder`.

    Only other people's packages are there already: the project's modules are imported anew, from
    where the program finds them.
    """
    outputs = [folder / "stdout.txt", folder / "stderr.txt"]
    process = FORKED.Process(target=_program, args=(command, cwd, outputs, environment))
    process.start()
    process.join()
    texts = (path.read_text("utf-8") for path in outputs)
    return subprocess.CompletedProcess(command, process.exitcode, *texts)


def _program(command: list[str], cwd: Path, outputs: list[Path], environment: dict) -> None:
    for descriptor, path in enumerate(outputs, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    sys.path = [path for path in sys.path if path and Path(path).resolve() != REPOSITORY]
    os.environ.update(environment)
    os.chdir(cwd)
    if command[0] == "-m":
        sys.argv = command[1:]
        sys.path.insert(0, str(cwd))
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = command
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
