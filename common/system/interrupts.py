"""Ctrl-C and a request to end (SIGTERM), at any moment, without a traceback."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Terminated(KeyboardInterrupt):
    """What SIGTERM raises in an `interruptible` block."""


EXCEPTIONS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise `EXCEPTIONS` at the first Ctrl-C or SIGTERM; files are tidied up undisturbed.

    It is what leaves the block, whatever packages make of it on its way: Numba a SystemError.

    Elsewhere than in the main thread this does nothing, for signals do not come there.
    """

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        received.append(signal_number)
        raise EXCEPTIONS[signal_number]

    received: list[int] = []
    in_main_thread = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in EXCEPTIONS if in_main_thread}
    before = {
        n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)
    }
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    except Exception as error:
        if received:
            raise EXCEPTIONS[received[0]] from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
