"""A paper's table and figure by one command: ``python -m common study FILE.yaml``.

A study is a YAML file that names training scripts with their flags, and scenes: see `study_file`.
Every run is a process of its own, with results in a directory named after what it does: a run that
is finished is not made again, one that was interrupted goes on, and studies share their runs.  With
``--cluster`` the runs are shared out among workers.
"""

import argparse
import contextlib
import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common.reporting.resume import finished_report
from common.run.cluster import opened
from common.run.study_file import Run, Study, read_study
from common.scenes.scene import data_directory, missing_files
from common.system.errors import OneLineParser, run_program
from common.system.files import REPOSITORY, locked
from common.system.flags import file_name, workers_or_address
from common.system.provenance import typed_command
from common.tables.curve_points import Point
from common.tables.learning_curves import write_curves
from common.tables.study_table import Row, write_study

WAIT = 1.0  # seconds between two looks at a run that another process is making
STOPPED = (130, 143, -2, -9, -15)  # exit status of a run that was interrupted, or killed
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def carry_out(study: Study, runs: Path, out: Path, where: str | None = None) -> None:
    """Make all runs that are not finished, then write the study's tables, figures and page.

    `where` is what ``--cluster`` says.
    """
    calls = []
    for number, run in enumerate(study.runs, 1):
        title = f"[{number}/{len(study.runs)} {run.title}]"
        calls.append((title, (run, run.directory(runs), title)))
    with opened(where) as cluster, contextlib.ExitStack() as stack:
        if cluster is None:
            reasons = (make(*arguments) for _, arguments in calls)
        else:
            runs.mkdir(parents=True, exist_ok=True)
            stack.enter_context(cluster.sharing([], runs))
            reasons = cluster.results(make_on_worker, calls)
        found = zip(study.runs, reasons, strict=True)
        absent = {run: reason for run, reason in found if reason}
    write_results(study, runs, out, absent)


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


def write_results(study: Study, runs: Path, out: Path, absent: dict[Run, str]) -> None:
    """Write the study's tables, figures and page; `absent` says why runs gave nothing."""
    if study.varies:
        points = [_point(run, run.directory(runs), absent.get(run, "")) for run in study.runs]
        write_curves(out, study.name, points, study.pairs)
    else:
        scenes: dict[str, list[Row]] = {}
        for run in study.runs:
            figures = study.figures.get(run.scene, {}).get(run.method, (None, None, None))
            reason = absent.get(run, "")
            row = Row(run.method, run.command(), run.directory(runs), reason, figures)
            scenes.setdefault(run.scene, []).append(row)
        write_study(out, study.name, study.published, scenes)
    print(f"Results: {out}, to look at: study.html")


def unfinished(study: Study, runs: Path) -> dict[Run, str]:
    """Which runs are not finished, each with these words as the reason why it gives nothing."""
    return {
        run: "not finished"
        for run in study.runs
        if not finished_report(run.directory(runs), run.settings.iter)
    }


def _point(run: Run, directory: Path, absent: str) -> Point:
    """One point of the learning curves, with what its run gave."""
    split, series, name, _ = run.varied
    scene = Path(run.scene).stem
    point = Point(scene, run.method, split, series, name, run.command(), absent)
    return point if absent else point.with_results(directory)


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
    print(f"{title} python {run.command()}", file=sys.stderr, flush=True)
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
    only_help = "make no runs: write what those that are finished gave"
    parser.add_argument("--tables-only", action="store_true", help=only_help)

    def work() -> None:
        flags = parser.parse_args(arguments)
        path = Path(flags.study)
        runs = Path(flags.runs) if flags.runs else results / "runs"
        out = Path(flags.out) if flags.out else results / path.stem
        study, runs = read_study(path), runs.resolve()
        out.mkdir(parents=True, exist_ok=True)  # now, not when all runs are made
        if flags.tables_only:
            write_results(study, runs, out, unfinished(study, runs))
        else:
            carry_out(study, runs, out, flags.cluster)

    return run_program(parser.prog, work, f"; go on with: {typed_command()}")
