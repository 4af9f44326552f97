"""The process of a training script: what must be set before PyTorch is loaded."""

import gc
import os
import signal
import time
from collections.abc import MutableMapping

# How soon waiting threads are told to sleep: GNU's OpenMP, which PyTorch's wheels for Linux bring,
# counts turns of its loop; LLVM's and Intel's, in those for macOS and in conda's, milliseconds.
# 40,000 turns outlast nearly all that a training step does between two parallel loops, so that
# alone it loses no time; beside other processes each turn is taken from those waited for.
WHERE_OTHERS_WORK = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "1"}
WHERE_ALONE = {"GOMP_SPINCOUNT": "40000", "KMP_BLOCKTIME": "1"}
USERS_OWN = {"OMP_WAIT_POLICY", *WHERE_ALONE}


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
        environment.update(WHERE_OTHERS_WORK if others_work() else WHERE_ALONE)


def others_work() -> bool:
    """Look for a tenth of a second whether other processes keep a quarter of the processors busy.

    Only Linux says so; elsewhere it is taken that they do not.
    """
    try:
        idle, total = _processor_time()
        time.sleep(0.1)
        idle_then, total_then = _processor_time()
    except OSError:
        return False
    return idle_then - idle < 0.75 * (total_then - total)


def _processor_time() -> tuple[int, int]:
    """Return the time that all processors were idle, and all there was, since the machine began."""
    with open("/proc/stat", encoding="ascii") as file:
        times = [int(word) for word in file.readline().split()[1:9]]
    return times[3] + times[4], sum(times)  # also one that waits for a disk is free
