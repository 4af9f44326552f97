"""How long kernels have been compiled in this process: none of it is training."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from numba.core import event

COMPILE = "numba:compile"


class _Clock(event.Listener):
    """Adds up how long something is compiled; what is compiled within it counts once."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._start = 0.0, 0, 0.0
        self.on_compiled: Callable[[], object] = lambda: None

    def on_start(self, event: event.Event) -> None:
        if self._depth == 0:
            self._start = time.perf_counter()
        self._depth += 1

    def on_end(self, event: event.Event) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.seconds += time.perf_counter() - self._start
            self.on_compiled()


_CLOCK = _Clock()
event.register(COMPILE, _CLOCK)


def compile_seconds() -> float:
    """Seconds that Numba, and where it is watched Triton, have compiled for so far."""
    return _CLOCK.seconds


@contextlib.contextmanager
def told_of_each(call: Callable[[], object]) -> Iterator[None]:
    """Call a function whenever Numba has compiled one, and all within it."""
    before, _CLOCK.on_compiled = _CLOCK.on_compiled, call
    try:
        yield
    finally:
        _CLOCK.on_compiled = before


def watch_triton() -> None:
    """Count from now on what Triton compiles; versions that tell nobody are not counted."""
    with contextlib.suppress(ImportError, AttributeError):
        from triton import knobs

        knobs.compilation.listener = _add_triton


def _add_triton(*, times: Any, **_other: Any) -> None:
    _CLOCK.seconds += 1e-6 * times.total
