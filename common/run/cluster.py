"""A run on several processes or machines, by Dask: ``--cluster``.

Tasks are plain functions with plain arguments, each the work of seconds to hours: an iteration, a
run of a study, a block of a map.  A worker does one at a time.  The worker of a task that dies is
no matter: Dask gives the task to another, which goes on from what the first has left on disk.

What a task prints goes to the terminal of the process that asked for it.  Before each, the worker
is checked: it must have the same versions, compute with as many threads as the others, and see the
same files and the folder of results.
"""

import asyncio
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import logging
import os
import platform
import socket
import sys
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from common.system.errors import InputError
from common.system.files import REPOSITORY, UNFINISHED, write_file
from common.system.provenance import sha256_of_files

INSTALL = "pip install distributed==2026.8.0 bokeh==3.9.2"
ANSWER = 10  # seconds within which a scheduler must answer
LOOK = 5  # seconds between two looks at whether there are workers
LARGEST_READ = 1 << 30  # bytes of a file that is read to see whether it is the same
LOOPBACK = "127.0.0.1"
# Ctrl-C reaches all processes of a terminal; workers end when the process that started them does.
UNINTERRUPTED = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
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


class Cluster:
    """Workers that take tasks; made by `opened`."""

    def __init__(self, client: Any, where: str) -> None:
        self.client, self.where = client, where
        self.again = "start it and give the same command again"
        facts = self._on_all(own_facts)
        if not facts:  # workers may come only when there is something to do
            facts = {"": self._result("preparing", client.submit(own_facts, pure=False))}
        _check_agreement(where, facts)
        self.place = Place(
            f"hsi-{uuid.uuid4().hex}",
            os.getcwd(),
            os.environ.get("HSI_DATA_DIR"),
            next(iter(facts.values())),
        )
        client.subscribe_topic(self.place.topic, lambda event: _show(event[1]))

    @contextlib.contextmanager
    def sharing(self, files: Sequence[Path], folder: Path | None = None) -> Iterator[None]:
        """Let tasks use some files, and a folder of results, once all workers see them.

        Raises
        ------
        InputError
            A worker does not.
        """
        contents = tuple((str(path), *_content(path)) for path in files)
        token = folder and folder.resolve() / f"{UNFINISHED}{self.place.topic}"
        before = self.place
        self.place = before._replace(files=contents, token=str(token or ""))
        if token:
            write_file(token, "")
        try:
            self._on_all(_check, self.place)
            yield
        finally:
            self.place = before
            if token:
                token.unlink(missing_ok=True)

    def results(
        self,
        function: Callable,
        calls: Iterable[tuple[str, tuple]],
        ahead: int | None = None,
    ) -> Iterator[Any]:
        """Yield what ``function(*arguments)`` returns for each (title, arguments), in order.

        With `ahead` no more than so many are asked for, or kept, at a time.

        Raises
        ------
        InputError
            The scheduler is gone, or a task's workers died again and again.
        """
        calls = iter(calls)
        pending = deque(self._submit(function, *call) for call in islice(calls, ahead))
        while pending:
            result = self._result(*pending.popleft())
            pending.extend(self._submit(function, *call) for call in islice(calls, 1))
            yield result

    def workers(self) -> int:
        """How many there are at the moment."""
        return len(self.client.ncores())

    def _submit(self, function: Callable, title: str, arguments: tuple) -> tuple[str, Any]:
        key = f"{function.__name__}-{uuid.uuid4().hex}"
        future = self.client.submit(
            _carry_out, self.place, title, function, arguments, key=key, pure=False
        )
        return title, future

    def _result(self, title: str, future: Any) -> Any:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker

        seconds, told = LOOK, False
        while True:
            try:
                return future.result(seconds)
            except TimeoutError:
                if seconds is None:  # the task's own
                    raise
                seconds = None if future.done() else LOOK
                told = told or self._tell_if_there_are_none()
            except CancelledError as error:
                raise self._gone() from error
            except KilledWorker as error:
                raise InputError(
                    f"--cluster {self.where}: {title}: {error.last_worker.address} was the last of "
                    f"several workers that died of it; is their memory too small?"
                ) from None

    def _tell_if_there_are_none(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            if not self.workers():
                print(f"--cluster {self.where}: no worker there; waiting for one", file=sys.stderr)
                return True
        return False

    def _gone(self) -> InputError:
        return InputError(f"--cluster {self.where}: the scheduler is gone; {self.again}")

    def _on_all(self, function: Callable, *arguments) -> dict[str, Any]:
        """Call a function on every worker there is; return what it gives by the address."""
        try:
            found = self.client.run(function, *arguments, on_error="return")
        except OSError as error:
            raise self._gone() from error
        for address, result in found.items():
            if isinstance(result, InputError):
                raise result
            if isinstance(result, ModuleNotFoundError):
                raise InputError(
                    f"--cluster {self.where}: the worker at {address} does not find the module "
                    f"{result.name}; start it in this repository, with its packages installed"
                )
            if isinstance(result, BaseException) and not isinstance(result, OSError):
                raise result
        # A worker that dies just then is no matter: each is checked before its tasks, too.
        return {a: result for a, result in found.items() if not isinstance(result, OSError)}


@contextlib.contextmanager
def opened(where: str | None) -> Iterator[Cluster | None]:
    """Start so many workers on this machine, or connect to a scheduler; None without `where`.

    Workers of this machine listen to nothing but itself.

    Raises
    ------
    InputError
        Dask is not installed, or no scheduler answers.
    """
    if where is None:
        yield None
        return
    try:
        import distributed
    except ImportError as error:
        raise InputError(
            f"--cluster {where}: needs the package distributed; install it with: {INSTALL}"
        ) from error
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silenced())
        address = stack.enter_context(_local(int(where))) if where.isdigit() else where
        try:
            if address is where:
                asyncio.run(_answers(where))
            client = distributed.Client(address, timeout=ANSWER, set_as_default=False)
        except (OSError, TypeError, ValueError, RuntimeError, ImportError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(f"--cluster {where}: no scheduler answers there ({reason})") from error
        stack.enter_context(client)
        cluster = Cluster(client, where)
        _check_one_at_a_time(where, client.ncores())
        _announce(cluster)
        try:
            yield cluster
        finally:
            if client.status == "running":
                with contextlib.suppress(Exception):  # the scheduler may be about to go
                    client.run(_forget)


async def _answers(address: str) -> None:
    """Raise an error unless a scheduler answers: a client that finds none does not end quietly."""
    from distributed import Security, connect

    options = Security().get_connection_args("client")
    (await connect(address, timeout=ANSWER, **options)).abort()


@contextlib.contextmanager
def _local(number: int) -> Iterator[Any]:
    """Start a scheduler in this process, and workers as processes of their own.

    Where there are GPUs each worker sees another one first, as dask-cuda has it.
    """
    import dask
    import torch
    from distributed import Nanny, Scheduler, Security, SpecCluster

    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, threads // number)
    security = Security()
    protocol = "tls://" if security.require_encryption else "tcp://"
    of_both = {"host": LOOPBACK, "protocol": protocol, "security": security}
    of_worker = of_both | {"nthreads": 1, "memory_limit": 0, "silence_logs": logging.CRITICAL + 1}
    of_worker |= {"preload": [UNINTERRUPTED]}
    of_scheduler = of_both | {"dashboard": True, "dashboard_address": f"{LOOPBACK}:8787"}
    gpus = _visible_gpus(torch.cuda.device_count())
    workers = {
        i: {"cls": Nanny, "options": of_worker | {"env": _gpu_of_worker(i, gpus)}}
        for i in range(number)
    }
    config = {
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(THREADS, threads),
        # A worker that died is started anew, which takes long on a busy machine.
        "distributed.deploy.lost-worker-timeout": "1 day",
    }
    with dask.config.set(config):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a dashboard's port that is taken
            cluster = SpecCluster(
                workers=workers,
                scheduler={"cls": Scheduler, "options": of_scheduler},
                security=security,
                silence_logs=logging.CRITICAL + 1,
            )
        with cluster:
            yield cluster


def _visible_gpus(count: int) -> list[str]:
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return chosen.split(",")[:count] if chosen and count else [str(i) for i in range(count)]


def _gpu_of_worker(number: int, gpus: list[str]) -> dict[str, str]:
    """Let a worker's first GPU be its own; the others follow, in a circle."""
    if not gpus:
        return {}
    first = number % len(gpus)
    return {"CUDA_VISIBLE_DEVICES": ",".join(gpus[first:] + gpus[:first])}


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what Dask logs off the terminal: what matters is told in a line of ours."""
    names = ("distributed", "tornado", "bokeh", "asyncio")
    of_dask = [name for name in logging.root.manager.loggerDict if name.startswith(names)]
    loggers = [logging.getLogger(name) for name in of_dask]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _announce(cluster: Cluster) -> None:
    """Say how many workers there are, and where to look at what they do."""
    workers, threads = cluster.workers(), cluster.place.facts["threads"]
    count = f"{workers} worker{'' if workers == 1 else 's'}"
    of_each = f", {threads} thread{'' if threads == 1 else 's'} each" if workers else ""
    print(f"{count}{of_each}; dashboard: {cluster.client.dashboard_link}", file=sys.stderr)


def _check_one_at_a_time(where: str, slots: dict[str, int]) -> None:
    for address, number in slots.items():
        if number != 1:
            raise InputError(
                f"--cluster {where}: the worker at {address} would do {number} tasks at a time; "
                f"start it with --nthreads 1, and OMP_NUM_THREADS for the threads of a task"
            )


def _check_agreement(where: str, facts: dict[str, dict[str, Any]]) -> None:
    """Raise InputError unless all workers have what this process has, and as many threads."""
    wanted = own_facts() | {"threads": next(iter(facts.values()))["threads"]}
    for address, found in facts.items():
        _check_facts(f"--cluster {where}: the worker at {address}", found, wanted)


def _check_facts(who: str, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        if found[name] != value:
            raise InputError(
                f"{who} has {name} {found[name]}, the others {value}; results could be others"
            )


# What follows runs on workers.

_TURN = threading.Lock()  # a worker does one task at a time, whatever Dask gives it
_kept: dict[tuple, Any] = {}
_at_work: list[tuple[Place, Any]] = []  # of the task that is being done, and the worker itself


@functools.cache
def own_facts() -> dict[str, Any]:
    """Versions, commit and threads of this process, on which the bits of results depend."""
    import torch

    from common.system.device import current_commit

    versions = {name: metadata.version(name) for name in PACKAGES}
    facts = {"Python": platform.python_version(), **versions, "commit": current_commit()}
    return facts | {"threads": torch.get_num_threads()}


def _carry_out(place: Place, title: str, function: Callable, arguments: tuple) -> Any:
    """Do a task as the process that asks for it would."""
    from common.fast import set_threads

    with _TURN:
        _check(place)
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


def _check(place: Place, dask_worker: Any = None) -> None:
    """Raise InputError unless this worker can take the run's tasks.

    Outside of tasks Dask says by this argument's name which worker it is.
    """
    who = f"the worker on {socket.gethostname()} ({(dask_worker or _worker()).address})"
    _check_facts(who, own_facts(), place.facts)
    if not os.path.isdir(place.typed_in):
        raise InputError(f"{who} does not see the folder {place.typed_in}, where you are")
    if place.data_dir is not None:
        os.environ["HSI_DATA_DIR"] = place.data_dir
    with contextlib.chdir(place.typed_in):
        for name, *content in place.files:
            there = os.path.isfile(name)
            if not there or [*_content(Path(name))] != content:
                what = "sees another file under" if there else "does not see"
                raise InputError(f"{who} {what} {os.path.abspath(name)}")
    if place.token and not os.path.isfile(place.token):
        raise InputError(
            f"{who} does not see the folder of results {os.path.dirname(place.token)}; it must be "
            f"one that all hosts share, under the same name"
        )


def _content(path: Path) -> tuple[int, str]:
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


def _forget() -> None:
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


def _show(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
