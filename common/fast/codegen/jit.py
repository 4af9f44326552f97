"""Numba's compiler as this project uses it: without Python's lock, and kept between runs.

Each library that Numba compiles holds all that its function calls, optimised once more.  So what
Python calls are functions with one loop over the threads, or small ones; what stands around these
is Python, and what stands within is `helper`s, of which the smallest are `inlined`.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from pathlib import Path

import numba
from numba.core.caching import FunctionCache

from common.system.files import one_process_at_a_time

# PyTorch's threads are OpenMP's.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]

SOURCES = [Path(__file__).parent, Path(__file__).parents[1] / "cpu"]  # folders


def content_hash(folders: Iterable[Path]) -> str:
    """What tells whether a file with compiled code has changed, wherever and whenever written."""
    content = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        content.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return content.hexdigest()


STAMP = content_hash(SOURCES)


def compiled(function, parallel: bool = False):
    """Compile a function when it is first called; the result is kept for the next process.

    No fastmath: code from Numba's cache is optimised otherwise than code compiled just now, and
    with fastmath the two would round differently.
    """
    try:
        dispatcher = numba.njit(parallel=parallel, nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside its file nor in the user's cache can it be kept
        return numba.njit(parallel=parallel, nogil=True)(function)
    # Numba looks only whether the function's own file has been written to, not at those it calls
    # into.  Its version it reads first: what follows may name classes that are no more.
    file = dispatcher._cache._cache_file
    file._source_stamp, file._version = STAMP, f"{numba.__version__} {STAMP}"
    dispatcher._cache = SharedCache(dispatcher._cache)
    return dispatcher


class SharedCache:
    """Numba's cache of one function, for several processes that compile at the same time.

    Which of them looks for code that is not there is alone with the function until it has compiled
    and kept it; others that want it wait.  Numba's own cache is not made for two writers: both may
    keep their code in a file of the same name.
    """

    def __init__(self, cache: FunctionCache) -> None:
        path = cache._cache_file._index_path
        self._lock = f"hsi-{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        self._cache, self._alone = cache, contextlib.ExitStack()

    def __getattr__(self, name: str) -> object:
        return getattr(self._cache, name)

    def load_overload(self, signature: tuple, target: object) -> object | None:
        """Return what has been compiled for a signature; with None it is to be compiled now."""
        self._alone.close()  # of one that could not be compiled
        self._alone.enter_context(one_process_at_a_time(self._lock))
        found = self._cache.load_overload(signature, target)
        if found is not None:
            self._alone.close()
        return found

    def save_overload(self, signature: tuple, compiled: object) -> None:
        """Keep what has been compiled."""
        try:
            self._cache.save_overload(signature, compiled)
        finally:
            self._alone.close()


def on_all_threads(function):
    """Compile a function whose `numba.prange` loops are shared out among the threads."""
    return compiled(function, parallel=True)


def helper(function):
    """Compile a function that compiled code alone calls, as part of that."""
    return numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function):
    """Have a few lines stand wherever compiled code calls them, which costs no call."""
    return numba.njit(inline="always")(function)
