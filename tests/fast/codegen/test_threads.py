"""A loop on all threads: every part once, and what happens where one fails."""

import os
import subprocess
import sys
from typing import NamedTuple

import numba
import numpy as np
import pytest

from common.fast.codegen.jit import helper
from common.fast.codegen.threads import on_all_threads, share
from common.system.files import REPOSITORY


class Work(NamedTuple):
    numbers: np.ndarray
    sums: tuple[np.ndarray, np.ndarray]


@helper
def add_up_part(thread, threads, work, factor):
    for i in share(len(work.numbers), thread, threads):
        work.sums[0][thread] += factor * work.numbers[i]
        work.sums[1][thread] += 1


@numba.njit
def add_up(threads, work, factor):
    on_all_threads(add_up_part, threads, work, factor)


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [0, 5, 21])
def test_each_part_runs_once(threads, count):
    work = Work(np.arange(count), (np.zeros(threads), np.zeros(threads, np.int64)))
    add_up(threads, work, 2.0)
    parts = np.array_split(work.numbers, threads)
    assert work.sums[0].sum() == 2 * work.numbers.sum()
    assert sorted(work.sums[1]) == sorted(map(len, parts))


@helper
def name_part(thread, threads, names):
    names[thread] = numba.get_thread_id()


@numba.njit
def name(threads, names):
    on_all_threads(name_part, threads, names)


def test_the_parts_run_on_all_threads():
    names = np.full(numba.get_num_threads(), -1)
    name(len(names), names)
    assert [*names] == [*range(len(names))]


@helper
def fail_part(thread, threads, which):
    if thread == which:
        raise ValueError("of any kind")


@numba.njit
def fail(threads, which):
    on_all_threads(fail_part, threads, which)


def test_what_a_part_raises_is_not_lost():
    for which in range(3):
        with pytest.raises(MemoryError, match="out of memory"):
            fail(3, which)
    fail(3, 3)


KEPT = """
import sys
sys.path.insert(0, {repository!r})
import numpy as np
from common.fast.codegen.jit import compiled, helper
from common.fast.codegen.threads import on_all_threads

@helper
def part(thread, threads, out):
    out[thread] = thread

@compiled
def fill(out):
    on_all_threads(part, len(out), out)

out = np.full(3, -1)
fill(out)
print(*out, sum(fill.stats.cache_hits.values()))
"""


def test_code_from_the_cache_finds_the_threads(tmp_path):
    """In a process that has not compiled anything."""
    path = tmp_path / "fill.py"
    path.write_text(KEPT.format(repository=str(REPOSITORY)), "utf-8")
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, str(path)]
    runs = [subprocess.run(command, env=environment, capture_output=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [b"0 1 2 0".split(), b"0 1 2 1".split()]
