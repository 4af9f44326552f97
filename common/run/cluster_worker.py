"""A worker of a cluster: what it checks before a task, what it keeps, what it prints.

See `common.run.cluster`, which asks for the tasks.
"""

import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import os
import platform
import socket
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from common.system.errors import InputError
from common.system.files import REPOSITORY
from common.system.provenance import current_commit, sha256_of_files

LARGEST_READ = 1 << 30  # bytes of a file that is read to see whether it is the same
PACKAGES = ("torch", "numpy", "scipy", "numba", "scikit-learn")


class Model(NamedTuple):
    """A class of network, or of classifier, by the file that a worker finds it in."""

    file: str
    name: str

    @classmethod
    def of(cls, kind: type) -> "Model":
        """Where a class is defined."""
        return cls(str(Path(inspect.getfile(kind)).resolve()), kind.__qualname__)

    def load(self) -> type:
        """Import the class: from this repository by its module's name, else from its file."""
        path = Path(self.file)
        if path.is_relative_to(REPOSITORY):
            name = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
            return getattr(importlib.import_module(name), self.name)
        name = f"users_{path.stem}"
        specification = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return getattr(module, self.name)


class Place(NamedTuple):
    """What a task needs to know of the process that asks for it, and checks first.

    Attributes
    ----------
    topic : str
        Under which Dask carries what is printed.
    typed_in : str
        The folder that relative names are relative to.
    data_dir : str or None
        ``$HSI_DATA_DIR``.
    facts : dict
        Versions, commit and threads that all workers must have.
    files : tuple of (name, size in bytes, SHA-256)
        What the scene is read from; no checksum of files beyond `LARGEST_READ`.
    token : str
        A file in the folder of results that is there as long as the run is; or nothing.
    """

    topic: str
    typed_in: str
    data_dir: str | None
    facts: dict[str, Any]
    files: tuple[tuple[str, int, str], ...] = ()
    token: str = ""


_TURN = threading.Lock()  # a worker does one task at a time, whatever Dask gives it
_kept: dict[tuple, Any] = {}
_at_work: list[tuple[Place, Any]] = []  # of the task that is being done, and the worker itself


@functools.cache
def own_facts() -> dict[str, Any]:
    """Versions, commit and threads of this process, on which the bits of results depend."""
    import torch

    versions = {name: metadata.version(name) for name in PACKAGES}
    facts = {"Python": platform.python_version(), **versions, "commit": current_commit()}
    return facts | {"threads": torch.get_num_threads()}


def carry_out(place: Place, title: str, function: Callable, arguments: tuple) -> Any:
    """Do a task as the process that asks for it would."""
    from common.fast import set_threads

    with _TURN:
        check(place)
        set_threads(place.facts["threads"])
        lines = _Lines(place, title)
        _at_work[:] = [(place, _worker())]
        with contextlib.chdir(place.typed_in), contextlib.redirect_stderr(lines):
            try:
                return function(*arguments)
            except InputError as error:  # whatever its kind, one that can be sent
                raise InputError(error) from None
            except KeyboardInterrupt:
                os._exit(1)  # a process of the task's was killed: it is another worker's turn
            finally:
                lines.end()


def check(place: Place, dask_worker: Any = None) -> None:
    """Raise InputError unless this worker can take the run's tasks.

    Outside of tasks Dask says by this argument's name which worker it is.
    """
    who = f"the worker on {socket.gethostname()} ({(dask_worker or _worker()).address})"
    check_facts(who, own_facts(), place.facts)
    if not os.path.isdir(place.typed_in):
        raise InputError(f"{who} does not see the folder {place.typed_in}, where you are")
    if place.data_dir is not None:
        os.environ["HSI_DATA_DIR"] = place.data_dir
    with contextlib.chdir(place.typed_in):
        for name, *content in place.files:
            there = os.path.isfile(name)
            if not there or [*content_of(Path(name))] != content:
                what = "sees another file under" if there else "does not see"
                raise InputError(f"{who} {what} {os.path.abspath(name)}")
    if place.token and not os.path.isfile(place.token):
        raise InputError(
            f"{who} does not see the folder of results {os.path.dirname(place.token)}; it must be "
            f"one that all hosts share, under the same name"
        )


def content_of(path: Path) -> tuple[int, str]:
    """Size of a file, and its checksum unless it is large."""
    size = path.stat().st_size
    return size, sha256_of_files([path]).get(str(path), "") if size <= LARGEST_READ else ""


def kept(make: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let a worker keep what a function makes of a job for further tasks of the same run."""

    @functools.wraps(make)
    def made(job: Any) -> Any:
        key = (_at_work[0][0].topic, job)
        if key not in _kept:
            _kept.clear()
            _kept[key] = make(job)
        return _kept[key]

    return made


def forget() -> None:
    """Free what was kept for a run."""
    _kept.clear()


def check_still_wanted() -> None:
    """Raise InputError where the run of this worker's task has ended, or goes on without it."""
    from distributed import Status

    [(place, worker)] = _at_work
    alive = worker.status not in (Status.closing, Status.closed, Status.failed)
    if not alive or (place.token and not os.path.isfile(place.token)):
        raise InputError(
            f"{socket.gethostname()}: cut off; the run has ended, or goes on elsewhere"
        )


def _worker() -> Any:
    from distributed import get_worker

    return get_worker()


class _Lines(io.TextIOBase):
    """What a task prints, sent line by line to the process that asked for it."""

    def __init__(self, place: Place, title: str) -> None:
        self.topic, self.title, self.worker, self.rest = place.topic, title, _worker(), ""

    def write(self, text: str) -> int:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in filter(str.strip, lines):
            check_still_wanted()
            known = line.startswith(self.title)
            self.worker.log_event(self.topic, line if known else f"{self.title}: {line}")
        return len(text)

    def end(self) -> None:
        """Send what has no line feed after it."""
        if self.rest:
            self.write("\n")


def check_facts(who: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise InputError where a worker, who is named, has something else than is wanted."""
    for name, value in wanted.items():
        if found[name] != value:
            raise InputError(
                f"{who} has {name} {found[name]}, the others {value}; results could be others"
            )
