"""The results directory: one for each run, and what is said of it where a run ends."""

import multiprocessing
from pathlib import Path

import pytest

from baselines.SVM import DEFAULTS, SVM
from common.reporting import results_folder
from common.reporting.results_folder import cleared_if_in_vain, output_directory, sole_writer
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
    (out / "report.json").write_text("", "utf-8")
    assert output_directory(Settings("SSRN")).parent == tmp_path / "results"
    with sole_writer(out, numbered=True) as folder:
        assert folder == out.with_name(f"{out.name}_2")
    with pytest.raises(InputError, match="already exists"):
        output_directory(Settings("SSRN", out=str(out)))


def ended_by(error: BaseException, out: Path, *files: str) -> None:
    """A run that leaves some files, and then ends."""
    with sole_writer(out) as folder:
        for name in files:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text("{}", "utf-8")
        raise error


def test_a_run_that_ends_by_itself_says_last_where_its_results_are(tmp_path, capsys):
    run_program("program", lambda: ended_by(InputError("bad"), tmp_path / "out"), "")
    assert "results so far" not in capsys.readouterr().err
    run_program("program", lambda: ended_by(InputError("bad"), tmp_path / "out", "run.json"), "")
    line = capsys.readouterr().err.strip()
    assert line == f"program: error: bad; results so far: {tmp_path / 'out'}"


def test_an_interrupted_run_says_what_to_type(tmp_path, capsys, monkeypatch):
    typed = ["python", "SSRN/SSRN.py", "-d", "my field.yaml", "--resume", "--out=a", "--out", "b"]
    monkeypatch.setattr("sys.orig_argv", typed)
    out, command = tmp_path / "out", "python SSRN/SSRN.py -d 'my field.yaml'"
    run_program("p", lambda: ended_by(KeyboardInterrupt(), out, "run.json"), "; again")
    line = capsys.readouterr().err.strip()
    assert line == f"p: interrupted; go on with: {command} --out {out} --resume"
    (out / "run.json").unlink()
    run_program("p", lambda: ended_by(KeyboardInterrupt(), out, "gt.png"), "; again")
    line = capsys.readouterr().err.strip()
    assert line == f"p: interrupted; start again with: {command} --out {out} --overwrite"


def test_a_refusal_leaves_nothing_in_the_way_of_the_next_try(tmp_path):
    def refused(out: Path, *files: str) -> None:
        with pytest.raises(InputError), sole_writer(out) as folder, cleared_if_in_vain(folder):
            for name in files:
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text("{}", "utf-8")
            raise InputError("too far")

    refused(tmp_path / "out", "run.json", "gt.png", "run_0/split.npy")
    assert not (tmp_path / "out").exists()
    refused(tmp_path / "own", "run.json", "notes.txt")
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["notes.txt"]
    for name in ("run_0/weights.pt", "run_1/checkpoint.pt", "run_0/iteration.npz", "report.json"):
        refused(tmp_path / name.replace("/", "_"), "run.json", name)
        assert (tmp_path / name.replace("/", "_") / "run.json").is_file()


def test_an_empty_folder_of_the_users_own_stays(tmp_path):
    with pytest.raises(InputError), sole_writer(tmp_path):
        raise InputError("too far")
    assert tmp_path.is_dir()


def test_a_run_that_is_done_says_it_last(tmp_path, toy_data, capsys):
    flags = ["-d", "UP", "-i", "1", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    assert run_script(SVM, DEFAULTS, flags) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Results: {tmp_path / 'out'}, to look at: report.html"
