"""Numba's compiler as this project uses it: without Python's lock, and kept between runs."""

from pathlib import Path

import numba

# PyTorch's threads are OpenMP's.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

SOURCES = [Path(__file__).parent, Path(__file__).parents[1] / "cpu"]  # folders


def compiled(function, parallel: bool = False):
    """Compile a function when it is first called; the result is kept for the next process.

    No fastmath: code from Numba's cache is optimised otherwise than code compiled just now, and
    with fastmath the two would round differently.
    """
    try:
        dispatcher = numba.njit(parallel=parallel, nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside its file nor in the user's cache can it be kept
        return numba.njit(parallel=parallel, nogil=True)(function)
    # Numba looks only whether the function's own file has changed, not those it calls into.
    dispatcher._cache._cache_file._source_stamp = _stamp()
    return dispatcher


def on_all_threads(function):
    """Compile a function whose `numba.prange` loops are shared out among the threads."""
    return compiled(function, parallel=True)


def _stamp() -> tuple:
    """What tells whether a file with compiled code has changed."""
    states = [path.stat() for folder in SOURCES for path in sorted(folder.glob("*.py"))]
    return tuple((state.st_mtime, state.st_size) for state in states)
