"""Keep freed memory in the process, for the training loop to use again; tell when it is short."""

import contextlib
import ctypes
from collections.abc import Iterator

import torch

from common.errors import InputError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # <malloc.h>
SAID = ("DefaultCPUAllocator", "could not create a primitive")  # PyTorch, oneDNN: memory is short


def keep_freed_memory() -> None:
    """Tell glibc's malloc to hold on to freed memory; call it before the first large tensor.

    By default every tensor above 32 MiB at most is a mapping of its own, and the free end of the
    heap goes back to the system: each training step then pays for its memory page by page again,
    about a tenth of its time.  The price: the process keeps its largest size to its end.
    Elsewhere than on glibc this does nothing.
    """
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.gnu_get_libc_version  # noqa: B018  (musl has no such function)
        mallopt = libc.mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)  # large blocks too come from the heap
    mallopt(M_TRIM_THRESHOLD, -1)  # whose free end is never given back
    mallopt(M_TOP_PAD, 64 << 20)  # and which grows by 64 MiB at a time


def is_out_of_memory(error: Exception) -> bool:
    """Whether this is how Python, PyTorch or oneDNN says that there is not enough memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID)


@contextlib.contextmanager
def told_if_memory_is_short() -> Iterator[None]:
    """Turn every error that says so into an `InputError`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "out of memory; use a smaller --batch-size, -k or -p, or close other programs"
        ) from error
