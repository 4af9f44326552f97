"""Where the repository lies, files written whole or not at all, and turns between processes."""

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from common.system.errors import InputError

try:
    import fcntl
except ImportError:
    import msvcrt  # Windows

    fcntl = None

UNFINISHED = ".unfinished_"  # how names begin of files and folders until they are whole
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # as on Lustre
REPOSITORY = Path(__file__).resolve().parents[2]


def check_is_file(path: Path, name: str | None = None, largest: int | None = None) -> None:
    """Raise InputError, which begins with `name`, unless there is a file, of so many bytes at most.

    Pipes and devices are none: they may never end, nor even begin.
    """
    name = name or str(path)
    if not os.path.isfile(path):  # unlike Path.is_file, it takes any name whatsoever
        kind = "no such file"
        if os.path.exists(path):
            kind = "a folder, not a file" if os.path.isdir(path) else "not a file"
        raise InputError(f"{name}: {kind}")
    if largest is not None and os.path.getsize(path) > largest:
        raise InputError(f"{name}: larger than {largest >> 10} KiB; is this the right file?")


def write_file(path: Path, content: bytes | str) -> None:
    """Write `content` under `path` in one step: a reader sees the old file or the new one."""
    data = content.encode() if isinstance(content, str) else content
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{UNFINISHED}{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)  # gone if interrupted just after the replacement
        raise


def file_sha256(path: Path) -> str:
    """Checksum of a file's content, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a finished file its name, when its content has reached the disk: power may fail."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed had not finished writing: see `UNFINISHED`."""
    for path in folder.glob(f"{UNFINISHED}*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold a lock file, or say False where another process holds it; it goes with the block."""
    with open(path, "ab") as file:
        if not _lock(file):
            yield False
            return
        try:
            yield True
        finally:
            if fcntl is None:  # where no open file can be removed
                file.close()
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def one_process_at_a_time(name: str) -> Iterator[None]:
    """Wait until no other process of this user is in a block of that name, which may be a path."""
    user = os.getuid() if hasattr(os, "getuid") else ""  # Windows has a folder for each user
    with open(Path(tempfile.gettempdir(), f"{name}-{user}.lock"), "ab") as file:
        while not _lock(file):
            time.sleep(0.02)
        yield


def _lock(file: BinaryIO) -> bool:
    """Lock a file until it is closed; False where another process has locked it."""
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        else:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        _tell_of_no_locks(Path(file.name).parent)
    return True


@functools.cache
def _tell_of_no_locks(folder: Path) -> None:
    """Say once that the folder's file system has none."""
    print(
        f"note: {folder}: this file system has no locks; see to it that no other run writes there",
        file=sys.stderr,
    )
