"""Numba's compiler as this project uses it: without Python's lock, and kept between runs.

Each library that Numba compiles holds all that its function calls, optimised once more.  So what
Python calls are functions with one loop over the threads (`threads.py`), or small ones; what stands
around these is Python, and what stands within is `helper`s, of which the smallest are `inlined`.
Arithmetic on whole arrays, as NumPy's, takes a second to compile wherever it comes first: small
arrays too are gone through by loops.
"""

import functools
import glob
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numba
from numba.core.caching import IndexDataCacheFile
from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from common.system.files import one_process_at_a_time

# PyTorch's threads are OpenMP's.
numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]
# The loops are vector code already: LLVM's first level makes them as fast as its third, or faster,
# to the same bits, and in three quarters of the time.
if "NUMBA_OPT" not in os.environ:
    numba.config.OPT = type(numba.config.OPT)("1")

SOURCES = [Path(__file__).parent, Path(__file__).parents[1] / "cpu"]  # folders


def content_hash(folders: Iterable[Path]) -> str:
    """What tells whether a file with compiled code has changed, wherever and whenever written."""
    content = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.glob("*.py")):
        content.update(f"{path.name} {path.stat().st_size} ".encode() + path.read_bytes())
    return content.hexdigest()


STAMP = content_hash(SOURCES)


def compiled(function):
    """Compile a function when it is first called; the result is kept for the next process.

    No fastmath: code from Numba's cache is optimised otherwise than code compiled just now, and
    with fastmath the two would round differently.
    """
    try:
        dispatcher = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside its file nor in the user's cache can it be kept
        return numba.njit(nogil=True)(function)
    # Numba looks only whether the function's own file has been written to, not at those it calls
    # into.  Its version it reads first: what follows may name classes that are no more.
    file = dispatcher._cache._cache_file
    file._source_stamp, file._version = STAMP, f"{numba.__version__} {STAMP}"
    dispatcher.compile = functools.partial(_alone, dispatcher, dispatcher.compile)
    return dispatcher


def _alone(dispatcher: Dispatcher, compile_now: Callable, signature):
    """Compile for a signature, while no other process compiles the same function or reads it.

    Who has waited for another process finds what it wants in Numba's cache.  That is not made for
    two writers, which may both keep their code in a file of the same name.
    """
    file = dispatcher._cache._cache_file
    numba.get_num_threads()  # starts the pool of threads, which what is read from the cache calls
    with global_compiler_lock:  # the threads of this process
        if file._index_path in _HELD:
            return compile_now(signature)
        Path(file._cache_path).mkdir(parents=True, exist_ok=True)
        with one_process_at_a_time(file._index_path):
            _HELD.add(file._index_path)
            try:
                if not file._load_index():
                    _remove_code_of_other_versions(file)
                return compile_now(signature)
            finally:
                _HELD.remove(file._index_path)


_HELD: set[str] = set()  # index files that this process is alone with


def _remove_code_of_other_versions(file: IndexDataCacheFile) -> None:
    """Numba writes the index first: an old file would stand for new code until that is written."""
    name = glob.escape(Path(file._index_name).stem)
    for path in Path(file._cache_path).glob(f"{name}.*.nbc"):
        path.unlink(missing_ok=True)


def helper(function):
    """Compile a function that compiled code alone calls, as part of that."""
    return numba.njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function):
    """Have a few lines stand wherever compiled code calls them, which costs no call."""
    return numba.njit(inline="always")(function)
