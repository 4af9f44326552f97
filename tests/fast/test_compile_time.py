"""What compiling takes is counted, and nothing else."""

import time
from types import SimpleNamespace

import numba

from common.fast import compile_time
from common.fast.compile_time import compile_seconds, told_of_each


def test_numbas_compilations_are_counted_once():
    @numba.njit
    def inner(x):
        return x + 1

    @numba.njit
    def outer(x):
        return inner(x) * 2

    told = []
    before, start = compile_seconds(), time.perf_counter()
    with told_of_each(lambda: told.append("compiled")):
        assert outer(3) == 8
    assert told == ["compiled"]
    taken = compile_seconds() - before
    assert 0 < taken <= time.perf_counter() - start
    before = compile_seconds()
    assert outer(4) == 10
    assert compile_seconds() == before


def test_tritons_are_counted_in_seconds():
    before = compile_seconds()
    compile_time._add_triton(src=None, times=SimpleNamespace(total=2_500_000), cache_hit=False)
    assert compile_seconds() - before == 2.5
