"""The results directory: one for each run, and what is said of it where a run ends."""

import multiprocessing
from pathlib import Path

import pytest

from baselines.SVM import DEFAULTS, SVM
from common.reporting import results_folder
from common.reporting.results_folder import output_directory, sole_writer
from common.run.cli import run_script
from common.settings import Settings
from common.system.errors import InputError, run_program


def made(out: Path, gate, found) -> None:
    gate.wait()
    with sole_writer(out, numbered=True) as folder:
        found.put(folder.name)
        gate.wait()


def test_runs_started_in_the_same_second_get_a_folder_each(tmp_path):
    context = multiprocessing.get_context("fork")
    gate, found = context.Barrier(4), context.Queue()
    runs = [context.Process(target=made, args=(tmp_path / "a/UP", gate, found)) for _ in range(4)]
    for run in runs:
        run.start()
    names = {found.get(timeout=30) for _ in runs}
    for run in runs:
        run.join()
    assert names == {"UP", "UP_2", "UP_3", "UP_4"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names


def test_without_out_an_existing_folder_is_no_hindrance(tmp_path, monkeypatch):
    monkeypatch.setattr(results_folder, "REPOSITORY", tmp_path)
    out = output_directory(Settings("SSRN"))
    out.mkdir(parents=True)
    (out / "report.json").write_text("")
    assert output_directory(Settings("SSRN")).parent == tmp_path / "results"
    with sole_writer(out, numbered=True) as folder:
        assert folder == out.with_name(f"{out.name}_2")
    with pytest.raises(InputError, match="already exists"):
        output_directory(Settings("SSRN", out=str(out)))


ENDS = {
    "program: error: diverged; results so far: ": InputError("diverged"),
    "program: interrupted, go on; results so far: ": KeyboardInterrupt(),
}


@pytest.mark.parametrize("line", ENDS)
def test_a_run_that_ends_by_itself_says_last_where_its_results_are(tmp_path, capsys, line):
    def work(begun: bool) -> None:
        with sole_writer(tmp_path / "out", numbered=True) as out:
            if begun:
                (out / "run.json").write_text("{}")
            raise ENDS[line]

    run_program("program", lambda: work(begun=False), ", go on")
    assert "results so far" not in capsys.readouterr().err
    run_program("program", lambda: work(begun=True), ", go on")
    assert capsys.readouterr().err.strip() == f"{line}{tmp_path / 'out_2'}"


def test_a_run_that_is_done_says_it_last(tmp_path, toy_data, capsys):
    flags = ["-d", "UP", "-i", "1", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    assert run_script(SVM, DEFAULTS, flags) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Results: {tmp_path / 'out'}, to look at: report.html"
