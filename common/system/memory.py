"""Memory: what does not fit refused, shortage told, and freed memory kept for the training loop."""

import contextlib
import ctypes
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.system.errors import InputError

SHARE_OF_CUBE = 0.4  # of the machine's memory
LARGEST_ROW = 1 << 30  # bytes in float32
SAID = (
    "DefaultCPUAllocator",
    "CUDA out of memory",
    "could not create a primitive",
    "cannot map zero-fill pages",
    "failed to map segment",
)  # PyTorch on a CPU, on a GPU, oneDNN, a package that is loaded (both): memory is short
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8  # <malloc.h>


def memory_of_machine() -> float:
    """Bytes; infinite where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return math.inf


def is_held_in_memory(shape: tuple[int, ...]) -> bool:
    """Whether a cube (rows, cols, bands) to be trained on is; else it is read by rows.

    Beside it there is what training sees, the cube in float32: that must fit `SHARE_OF_CUBE`.  What
    has rows of more than `LARGEST_ROW` is no image, and cannot be read by them.
    """
    size = math.prod(shape) * np.dtype(np.float32).itemsize
    return size <= SHARE_OF_CUBE * memory_of_machine() or size > LARGEST_ROW * shape[0]


def check_fits(path: Path, shape: tuple[int, ...], dtype: np.dtype, cure: str = "") -> None:
    """Raise InputError where an array that a file announces is larger than the machine's memory.

    `cure` ends the message.
    """
    needed, memory = math.prod(shape) * dtype.itemsize, memory_of_machine()
    if needed > memory:
        raise InputError(
            f"{path}: an array of {'×'.join(map(str, shape))} takes {needed / 2**30:.4g} GiB, but "
            f"this machine has {memory / 2**30:.4g} GiB of memory{cure}"
        )


def keep_freed_memory() -> None:
    """Tell glibc's malloc to hold on to freed memory; call it before the first large tensor.

    By default a large tensor is a mapping of its own, and the free end of the heap goes back to the
    system: each training step then pays for its memory page by page again, about a tenth of its
    time.  The price: the process keeps its size until `give_back_memory`.  What is larger than the
    feature maps of usual batches still is a mapping: blocks of a scene would not always find a hole
    that fits, and the heap would grow by one of them now and then.  Elsewhere than on glibc this
    does nothing.
    """
    if libc := _glibc():
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)  # the most that glibc takes
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # whose free end is never given back
        libc.mallopt(M_TOP_PAD, 64 << 20)  # and which grows by 64 MiB at a time
        libc.mallopt(M_ARENA_MAX, 1)  # one heap: a thread can use what another one freed


def give_back_memory() -> None:
    """Return to the system what has been freed, when no more tensors are to come."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc, else None."""
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "gnu_get_libc_version") else None


def peak_of_process() -> float:
    """Most memory that this process has taken so far, in MB; NaN where the system does not tell.

    Linux tells two numbers: ``ru_maxrss`` would be that of the process that started this one,
    where that was larger.
    """
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text("utf-8", "replace")
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how Python, PyTorch or oneDNN says that there is not enough memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in SAID)


@contextlib.contextmanager
def told_if_memory_is_short() -> Iterator[None]:
    """Turn every error that says so into an `InputError`."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "out of memory; use a smaller --batch-size, -k or -p, or close other programs"
        ) from error
