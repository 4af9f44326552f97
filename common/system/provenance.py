"""What a result was made with: the command, the packages, the files."""

import contextlib
import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from common.system.files import REPOSITORY, file_sha256

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


def current_commit() -> str | None:
    """The commit the code is at, "-dirty" where files besides results differ; None outside git."""
    head = ["git", "rev-parse", "HEAD"]
    changes = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", ":!*results/*"]
    try:
        commit, changed = (
            subprocess.run(
                command, cwd=REPOSITORY, capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (head, changes)
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{commit}-dirty" if changed else commit


def processor_name() -> str:
    """What this machine's processor is called."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":")[1].strip() for line in file if line.startswith("model name")]
        return names[0]
    except (OSError, IndexError):  # not Linux, or a processor that does not say
        return platform.processor() or platform.machine()


def loaded_packages() -> dict[str, str]:
    """Versions, by name, of the installed packages of which this process has loaded something.

    Those are left out that are installed in a way that cannot be read.
    """
    loaded = {name.partition(".")[0] for name in list(sys.modules)}
    names = {name for module in loaded for name in _packages_of_modules().get(module, ())}
    versions = {name: _version(name) for name in sorted(names, key=str.lower)}
    return {name: version for name, version in versions.items() if version}


@functools.cache
def _version(package: str) -> str | None:
    with contextlib.suppress(Exception):  # no result is lost for a damaged installation
        return metadata.version(package)
    return None


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
