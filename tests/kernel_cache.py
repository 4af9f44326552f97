"""Numba's cache for several processes: no two compile the same function at the same time.

Importing this module sees to it.  The training scripts have `common.fast.prepare` for that;
tests call functions one by one, and the workers of pytest-xdist would each compile all of them.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from numba.core.compiler_lock import global_compiler_lock
from numba.core.dispatcher import Dispatcher

from common.system.files import one_process_at_a_time

_compile, _held = Dispatcher.compile, set()


@contextlib.contextmanager
def _alone(cache_file: Path) -> Iterator[None]:
    """Be the only process that reads and writes a function's cache; within itself, at once."""
    if cache_file in _held:
        yield
        return
    cache_file.parent.mkdir(parents=True, exist_ok=True)
    with one_process_at_a_time(str(cache_file)):
        _held.add(cache_file)
        try:
            yield
        finally:
            _held.remove(cache_file)


def _compile_alone(dispatcher: Dispatcher, signature):
    """Compile as ever; who waited for another process finds what it wants in the cache."""
    kept = getattr(dispatcher._cache, "_cache_file", None)
    if kept is None:
        return _compile(dispatcher, signature)
    with global_compiler_lock, _alone(Path(kept._index_path)):
        return _compile(dispatcher, signature)


Dispatcher.compile = _compile_alone
