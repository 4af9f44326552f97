"""Many short runs in one process: memory flat, no files left open, no threads left."""

import dataclasses
import functools
import gc
import os
import sys
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

import common.reporting.page
import common.run.experiment
from A2S2KResNet import A2S2KResNet
from common.system.memory import give_back_memory
from common.training.network_classifier import NetworkClassifier
from SSRN import SSRN
from tests.forked import FORKED
from tests.reliability.reader import memory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells in /proc")
WARM_UP = 4  # runs until all packages are loaded and the heap has its size
LARGEST_GROWTH = 10  # MiB


def one_run(number: int, toy_data: Path, folder: Path) -> None:
    """Train and test a network, every fifth time with a page; resume what is finished."""
    module, name = [(SSRN, "SSRN"), (A2S2KResNet, "A2S2KResNet")][number % 2]
    make = functools.partial(NetworkClassifier, getattr(module, name))
    settings = dataclasses.replace(
        module.DEFAULTS,
        dataset="UP",
        data_dir=str(toy_data),
        out=str(folder / str(number)),
        iter=1,
        epoch=1,
        patch=2,
        kernel=4,
        precision="fp32",
    )
    common.run.experiment.add_page = (
        common.reporting.page.write_page if number % 5 == 0 else lambda out: None
    )
    common.run.experiment.train_and_test(make, settings)


def soak(runs: int, toy_data: Path, folder: Path, answers: Connection) -> None:
    """Send to `answers`, after the warm-up and at the end: memory in MiB, open files, threads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    for number in range(WARM_UP + runs):
        one_run(number, toy_data, folder)
        if number in (WARM_UP - 1, WARM_UP + runs - 1):
            gc.collect()
            give_back_memory()  # so that what is left is in use
            answers.send((memory("VmRSS"), os.listdir("/proc/self/fd"), threading.active_count()))


def test_many_runs_in_one_process(toy_data, tmp_path, often, tried):
    runs, (answers, sender) = often(4, 50), FORKED.Pipe(duplex=False)
    process = FORKED.Process(target=soak, args=(runs, toy_data, tmp_path, sender))
    process.start()
    sender.close()
    before, after = (answers.recv() for _ in range(2))
    process.join()
    assert process.exitcode == 0
    print(f"memory grew by {after[0] - before[0]:.1f} MiB in {runs} runs")
    assert after[0] - before[0] < LARGEST_GROWTH
    assert after[1:] == before[1:]
    how = f"memory grew by less than {LARGEST_GROWTH} MiB, no file or thread was left open"
    tried("many runs in one process", how, runs)
