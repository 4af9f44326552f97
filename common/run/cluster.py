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
import logging
import os
import sys
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from common.run.cluster_local import local_cluster
from common.run.cluster_worker import (
    Place,
    carry_out,
    check,
    check_facts,
    content_of,
    forget,
    own_facts,
)
from common.system.errors import InputError
from common.system.files import UNFINISHED, write_file

INSTALL = "pip install distributed==2026.8.0 bokeh==3.9.2"
ANSWER = 10  # seconds within which a scheduler must answer
LOOK = 5  # seconds between two looks at whether there are workers


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
        contents = tuple((str(path), *content_of(path)) for path in files)
        token = folder and folder.resolve() / f"{UNFINISHED}{self.place.topic}"
        before = self.place
        self.place = before._replace(files=contents, token=str(token or ""))
        if token:
            write_file(token, "")
        try:
            self._on_all(check, self.place)
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
            carry_out, self.place, title, function, arguments, key=key, pure=False
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
            except RuntimeError as error:  # the scheduler reads tasks, too
                if not isinstance(error.__cause__, ModuleNotFoundError):
                    raise
                raise self._not_found("the scheduler", error.__cause__) from None
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

    def _not_found(self, who: str, error: ModuleNotFoundError) -> InputError:
        return InputError(
            f"--cluster {self.where}: {who} does not find the module {error.name}; start it in "
            f"this repository, with its packages installed"
        )

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
                raise self._not_found(f"the worker at {address}", result)
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
        address = stack.enter_context(local_cluster(int(where))) if where.isdigit() else where
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
                    client.run(forget)


async def _answers(address: str) -> None:
    """Raise an error unless a scheduler answers: a client that finds none does not end quietly."""
    from distributed import Security, connect

    options = Security().get_connection_args("client")
    (await connect(address, timeout=ANSWER, **options)).abort()


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep what Dask logs off the terminal: what matters is told in a line of ours."""
    names = ("distributed", "tornado", "bokeh", "asyncio")
    of_dask = [name for name in logging.root.manager.loggerDict if name.startswith(names)]
    loggers = [logging.getLogger(name) for name in of_dask]
    levels = [logger.level for logger in loggers]
    # Python's own process that frees what killed processes leave tells how much that was.
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before
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
        check_facts(f"--cluster {where}: the worker at {address}", found, wanted)


def _show(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
