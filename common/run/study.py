"""A paper's table and figure by one command: ``python -m common study FILE.yaml``.

A study is a YAML file that names training scripts with their flags, and scenes::

    name: The systems of the SSRN paper
    flags: --map labelled            # of every run
    scenes: {IN: -vs 0.8, UP: -vs 0.9}
    methods:
      SVM: baselines/SVM.py --input patch
      SSRN: SSRN/SSRN.py --recipe authors
    published:                       # OA, AA and kappa in per cent; null where there is none
      source: where they are from
      pixels: labelled               # all of them; without it, those tested on
      IN: {SVM: [84.17, 70.51, 81.69]}

Every run is a process of its own, with results in a directory named after what it does: a run that
is finished is not made again, one that was interrupted goes on, and studies share their runs.  With
``--cluster`` the runs are shared out among workers.
"""

import argparse
import contextlib
import ctypes
import dataclasses
import hashlib
import importlib
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from common.reporting.resume import WITHOUT_EFFECT, finished_report
from common.run.cli import read_settings
from common.run.cluster import opened
from common.scenes.scene import data_directory, missing_files
from common.settings import Settings
from common.system.errors import InputError, OneLineParser, run_program
from common.system.files import REPOSITORY, check_is_file, file_sha256, locked
from common.system.flags import file_name, workers_or_address
from common.system.provenance import typed_command
from common.tables.study_table import PIXELS, Published, Row, write_study

KEYS = ("name", "flags", "scenes", "methods", "published")
LARGEST_FILE = 1 << 17  # bytes
WAIT = 1.0  # seconds between two looks at a run that another process is making
STOPPED = (130, 143, -2, -9, -15)  # exit status of a run that was interrupted, or killed
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


@dataclass(frozen=True)
class Run:
    """One training script on one scene."""

    method: str
    scene: str
    script: str
    flags: tuple[str, ...]
    settings: Settings

    def directory(self, runs: Path) -> Path:
        """Where its results go: named after all that has an effect on them."""
        flags = dataclasses.asdict(self.settings)
        flags = {name: value for name, value in flags.items() if name not in WITHOUT_EFFECT}
        if flags["start_from"] and Path(flags["start_from"]).is_file():
            flags["start_from"] = file_sha256(Path(flags["start_from"]))
        digest = hashlib.sha256(json.dumps(flags, sort_keys=True).encode()).hexdigest()[:12]
        return runs / f"{self.settings.model}_{Path(self.scene).stem}_{digest}"


@dataclass(frozen=True)
class Study:
    """What a study's file says; `figures`, the published ones, by scene and method."""

    name: str
    runs: tuple[Run, ...]
    figures: dict[str, dict[str, tuple]]
    published: Published


def read_study(path: Path) -> Study:
    """Read a study's file; raises InputError where it says what cannot be run."""
    check_is_file(path, largest=LARGEST_FILE)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not {"scenes", "methods"} <= content.keys():
        raise InputError(f"{path}: must hold 'scenes: …' and 'methods: …'")
    if unknown := [key for key in content if key not in KEYS]:
        raise InputError(f"{path}: unknown key {unknown[0]!r}; the keys are {', '.join(KEYS)}")
    scenes, methods = content["scenes"], content["methods"]
    for key, entry in (("scenes", scenes), ("methods", methods)):
        if not isinstance(entry, dict) or not entry:
            raise InputError(f"{path}: '{key}' must hold lines 'name: flags'")
    entries = content.get("published") or {}
    if not isinstance(entries, dict):
        raise InputError(f"{path}: 'published' must hold scenes, and 'source: …'")
    pixels = entries.get("pixels", "test")
    if pixels not in PIXELS:
        raise InputError(f"{path}: 'pixels' of 'published' must be {' or '.join(PIXELS)}")
    runs = tuple(
        _run(path, method, str(command), str(scene), f"{content.get('flags') or ''} {flags or ''}")
        for scene, flags in scenes.items()
        for method, command in methods.items()
    )
    figures = _published(path, entries, runs)
    published = Published(str(entries.get("source", "")), pixels)
    return Study(str(content.get("name") or path.stem), runs, figures, published)


def _run(path: Path, method: str, command: str, scene: str, flags: str) -> Run:
    """Read one run's flags as its script does."""
    try:
        words, given = shlex.split(command), shlex.split(flags)
    except ValueError as error:  # a quote that is not closed
        raise InputError(f"{path}: {method}: {command} {flags}: {error}") from error
    script, *own = words or [""]
    file = REPOSITORY / script
    module = script.removesuffix(".py").replace("/", ".")
    if not file.is_file() or not script.endswith(".py"):
        raise InputError(f"{path}: {method}: {script}: no training script of this repository")
    if scene.endswith((".yaml", ".yml")):
        scene = str(path.parent / scene)
    given = ("-d", scene, *given, *own)
    defaults = getattr(importlib.import_module(module), "DEFAULTS", None)
    if defaults is None:
        raise InputError(f"{path}: {method}: {script}: trains nothing")
    try:
        settings = read_settings(defaults, list(given))
    except InputError as error:
        raise InputError(f"{path}: {method} on {scene}: {error}") from error
    if settings.out or settings.weights or settings.cluster:
        raise InputError(
            f"{path}: {method}: leave --out, --weights and --cluster out; a study says them"
        )
    return Run(method, scene, script, given, settings)


def _published(path: Path, entries: dict, runs: tuple[Run, ...]) -> dict[str, dict[str, tuple]]:
    """Check the published figures: three numbers, or null, for methods and scenes that are run."""
    known = {(run.scene, run.method) for run in runs}
    found: dict[str, dict[str, tuple]] = {}
    for scene, methods in entries.items():
        if scene in ("source", "pixels"):
            continue
        if not isinstance(methods, dict):
            raise InputError(f"{path}: 'published' must hold methods for {scene}")
        for method, figures in methods.items():
            if (scene, method) not in known:
                raise InputError(f"{path}: 'published' has {method} on {scene}, which is not run")
            three = isinstance(figures, list) and len(figures) == 3
            if not three or not all(isinstance(f, int | float | None) for f in figures):
                raise InputError(f"{path}: published figures of {method} on {scene} must be three")
            found.setdefault(scene, {})[method] = tuple(figures)
    return found


def carry_out(study: Study, runs: Path, out: Path, where: str | None = None) -> None:
    """Make all runs that are not finished, and write the study's tables after the last.

    `where` is what ``--cluster`` says.
    """
    out.mkdir(parents=True, exist_ok=True)
    titles = [
        f"[{number}/{len(study.runs)} {run.method} on {run.scene}]"
        for number, run in enumerate(study.runs, 1)
    ]
    calls = [
        (title, (run, run.directory(runs), title))
        for title, run in zip(titles, study.runs, strict=True)
    ]
    with opened(where) as cluster, contextlib.ExitStack() as stack:
        if cluster is None:
            reasons = (make(*arguments) for _, arguments in calls)
        else:
            runs.mkdir(parents=True, exist_ok=True)
            stack.enter_context(cluster.sharing([], runs))
            reasons = cluster.results(make_on_worker, calls)
        absent = {
            (run.scene, run.method): reason for run, reason in zip(study.runs, reasons, strict=True)
        }
    scenes: dict[str, list[Row]] = {}
    for run in study.runs:
        figures = study.figures.get(run.scene, {}).get(run.method, (None, None, None))
        command = shlex.join([run.script, *run.flags])
        reason = absent[run.scene, run.method]
        row = Row(run.method, command, run.directory(runs), reason, figures)
        scenes.setdefault(run.scene, []).append(row)
    write_study(out, study.name, study.published, scenes)
    print(f"Results: {out}, to look at: study.html")


def make(run: Run, directory: Path, title: str, end_with_parent: bool = False) -> str:
    """Make a run unless it is finished; return why it gave nothing, or nothing.

    With `end_with_parent` the run ends as if interrupted when this process is killed.
    """
    if missing := missing_files(run.scene, data_directory(run.settings.data_dir)):
        return f"{missing[0].name} missing"
    if _is_finished(run, directory, title):
        print(f"{title} finished already", file=sys.stderr)
        return ""
    return _train(run, directory, title, end_with_parent)


def make_on_worker(run: Run, directory: Path, title: str) -> str:
    """The same as a cluster's task: neither outlives the other."""
    return make(run, directory, title, end_with_parent=True)


def _is_finished(run: Run, directory: Path, title: str) -> bool:
    """Whether there is nothing to do, once no other process is making the same run.

    That may be one of another study's, or one that a study left behind when it was killed.
    """
    told = False
    while directory.is_dir() and not finished_report(directory, run.settings.iter):
        with locked(directory / ".lock") as alone:
            if alone:
                return False
        if not told:
            print(f"{title} waits for another process that is making this run", file=sys.stderr)
        told = True
        time.sleep(WAIT)
    return directory.is_dir()


def _train(run: Run, directory: Path, title: str, end_with_parent: bool) -> str:
    """Run a training script; return why it gave nothing, or nothing."""
    command = [sys.executable, str(REPOSITORY / run.script), *run.flags]
    command += ["--out", str(directory), "--resume"]
    print(f"{title} python {shlex.join([run.script, *run.flags])}", file=sys.stderr, flush=True)
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=_end_with_parent() if end_with_parent else None,
    ) as process:
        try:
            last = ""
            for last in _lines(process):
                print(f"{title} {last}", file=sys.stderr, flush=True)
            status = process.wait()
        except BaseException:
            process.terminate()  # it keeps what it has done
            raise
    if status in STOPPED:
        raise KeyboardInterrupt
    if status:
        return last.partition("error: ")[2] or f"exit status {status}"
    return ""


def _end_with_parent() -> Callable[[], None] | None:
    """What a process must do to get SIGTERM when its parent ends; None where there is no way."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _lines(process: subprocess.Popen) -> Iterator[str]:
    """What a run says, line by line."""
    for line in process.stderr:
        if text := line.decode("utf-8", "replace").strip():
            yield text


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser: argparse.ArgumentParser = OneLineParser(
        prog="python -m common study",
        description="Make the runs of a study, and write its tables, figure and page.",
    )
    parser.add_argument("study", type=file_name, metavar="FILE.yaml")
    results = REPOSITORY / "results"
    parser.add_argument("--out", type=file_name, help="default: results/<name of the file>")
    parser.add_argument("--runs", type=file_name, help="of all studies; default: results/runs")
    cluster_help = "so many runs at a time, or one on each worker of a Dask scheduler, tcp://…"
    parser.add_argument("--cluster", type=workers_or_address, metavar="N", help=cluster_help)

    def work() -> None:
        flags = parser.parse_args(arguments)
        path = Path(flags.study)
        runs = Path(flags.runs) if flags.runs else results / "runs"
        out = Path(flags.out) if flags.out else results / path.stem
        carry_out(read_study(path), runs.resolve(), out, flags.cluster)

    return run_program(parser.prog, work, f"; go on with: {typed_command()}")
