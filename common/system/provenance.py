"""What a result was made with: the command, the packages, the files."""

import contextlib
import functools
import os
import shlex
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from common.system.files import file_sha256

try:
    TYPED_IN = os.getcwd()
except OSError:  # it has been removed
    TYPED_IN = ""


def typed_command() -> str:
    """The command line that started this process, quoted for a shell."""
    return shlex.join(sys.orig_argv)


def with_output(command: str, out: str | None, flag: str = "") -> str:
    """A typed command with results going to `out`, and ``--resume``, or another flag, or none.

    Where `out` is None results go where they went.
    """
    words = shlex.split(command)
    kept = [word for word in words if word not in ("--resume", "--overwrite")]
    if out is not None:
        kept = [*_without_value(kept, "--out"), "--out", out]
    return shlex.join(kept + ([flag] if flag else []))


def _without_value(words: list[str], flag: str) -> list[str]:
    """Leave out a flag and what it says, ``--out X`` or ``--out=X``."""
    return [
        word
        for before, word in zip(["", *words], words, strict=False)
        if flag not in (before, word) and not word.startswith(f"{flag}=")
    ]


def loaded_packages() -> dict[str, str]:
    """Versions, by name, of the installed packages of which this process has loaded something.

    Those are left out that are installed in a way that cannot be read.
    """
    loaded = {name.partition(".")[0] for name in list(sys.modules)}
    names = {name for module in loaded for name in _packages_of_modules().get(module, ())}
    versions = {}
    for name in sorted(names, key=str.lower):
        with contextlib.suppress(Exception):  # no result is lost for a damaged installation
            versions[name] = metadata.version(name)
    return versions


@functools.cache
def _packages_of_modules() -> dict[str, list[str]]:
    with contextlib.suppress(Exception):
        return dict(metadata.packages_distributions())
    return {}


def sha256_of_files(paths: Iterable[Path]) -> dict[str, str]:
    """Checksum of each file's content by its path; files that cannot be read are left out."""
    found = {}
    for path in paths:
        try:
            status = os.stat(path)
            found[str(path)] = _sha256(path, status.st_size, status.st_mtime_ns)
        except OSError:
            continue
    return found


@functools.cache
def _sha256(path: Path, _size: int, _time: int) -> str:
    """Checksum of a file, read once for as long as its size and time stay what they are."""
    return file_sha256(path)
