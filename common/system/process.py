"""The process of a training script: what must be set before PyTorch is loaded."""

import gc
import os
import signal
from collections.abc import MutableMapping

# How waiting threads are told to sleep: GNU's OpenMP, which PyTorch's wheels for Linux bring,
# counts turns of its loop; LLVM's and Intel's, in those for macOS and in conda's, milliseconds.
WAITING_THREADS = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
USERS_OWN = {"OMP_WAIT_POLICY", *WAITING_THREADS}


def set_up() -> None:
    """Prepare the process of a training script for all that follows."""
    end_silently_until_main()
    collect_garbage_rarely()
    let_waiting_threads_sleep(os.environ)


def end_silently_until_main() -> None:
    """Let Ctrl-C end the process as SIGTERM does: at once, for nothing has been done yet.

    PyTorch's import takes seconds.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not so in the background
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def collect_garbage_rarely() -> None:
    """Let Python search for circles of objects less often.

    The searches go through the several 100,000 objects of the packages again and again, which
    takes a second of a short run, and here nothing large is in a circle.
    """
    gc.set_threshold(50_000, 20, 20)


def let_waiting_threads_sleep(environment: MutableMapping[str, str]) -> None:
    """Let threads that wait for others give their processor away soon, unless the user decided.

    It is the environment of a process that is yet to load PyTorch.

    By default they go round in a loop, for seconds on a busy machine, and take from the very
    threads that they wait for what these need.
    """
    if not USERS_OWN & environment.keys():
        environment.update(WAITING_THREADS)
