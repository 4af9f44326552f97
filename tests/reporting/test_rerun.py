"""``python -m common rerun``: the command that repeats a run, and what is different here."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

import common.reporting.rerun
from common.reporting.rerun import main
from common.system.files import REPOSITORY
from tests.results import bits

FLAGS = ["-d", "UP", "-p", "2", "-k", "4", "-i", "1", "-e", "1", "--precision", "fp32"]


@pytest.fixture(scope="module")
def results(toy_data, tmp_path_factory):
    """A run started as a program, so that it has a command of its own."""
    folder = tmp_path_factory.mktemp("rerun")
    command = [sys.executable, str(REPOSITORY / "SSRN" / "SSRN.py"), *FLAGS]
    command += ["--data-dir", str(toy_data), "--out", "my results"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "my results"


def changed(results, tmp_path, **entries) -> str:
    report = json.loads((results / "report.json").read_text("utf-8")) | entries
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report), "utf-8")
    return str(path)


def test_report_holds_the_command_as_typed(results, toy_data):
    report = json.loads((results / "report.json").read_text("utf-8"))
    typed = [sys.executable, str(REPOSITORY / "SSRN" / "SSRN.py"), *FLAGS]
    typed += ["--data-dir", str(toy_data), "--out", "my results"]
    assert report["command"] == shlex.join(typed)
    assert report["directory"] == str(results.parent)


def test_it_prints_the_command_with_results_beside(results, toy_data, capsys, monkeypatch):
    assert main([str(results / "report.json")]) == 0
    line = capsys.readouterr().out.strip()
    script = str(REPOSITORY / "SSRN" / "SSRN.py")
    words = ["python", script, *FLAGS, "--data-dir", str(toy_data)]
    command = shlex.join([*words, "--out", "my results_rerun"])
    assert line == f"cd {shlex.quote(str(results.parent))} && {command}"
    monkeypatch.chdir(results.parent)
    (results.parent / "my results_rerun").mkdir()
    assert main(["my results"]) == 0
    assert capsys.readouterr().out.strip() == command.replace("_rerun", "_rerun2")
    (results.parent / "my results_rerun").rmdir()


@pytest.mark.slow
def test_run_gives_the_same_bits(results, tmp_path):
    command = [sys.executable, "-m", "common", "rerun", str(results), "--run"]
    command += ["--out", str(tmp_path / "again")]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True)
    assert bits(tmp_path / "again") == bits(results)


def test_what_differs_here_is_told(results, tmp_path, toy_data, capsys):
    files = {str(toy_data / "PaviaU.mat"): "0" * 64, str(toy_data / "gone.mat"): "0" * 64}
    packages = {"numpy": "0.1", "no-such-package": "1.0"}
    path = changed(results, tmp_path, files_sha256=files, packages=packages)
    assert main([path]) == 0
    notes = capsys.readouterr().err
    assert "PaviaU.mat: its content has changed" in notes
    assert "gone.mat: not there" in notes
    assert "numpy: 0.1 then, " in notes
    assert "no-such-package: 1.0 then, not installed now" in notes


@pytest.mark.parametrize(
    "command",
    [
        "python -c 'import os'",
        "python /tmp/SSRN/other.py",
        "bash -c 'true #.py'",
        "python common/__main__.py",
        "python benchmarks/run.py",
    ],
)
def test_no_other_program_is_run(command, results, tmp_path, capsys, monkeypatch):
    not_to_be_run = SimpleNamespace(run=lambda *_, **__: pytest.fail("it was run"))
    monkeypatch.setattr(common.reporting.rerun, "subprocess", not_to_be_run)
    path = changed(results, tmp_path, command=command, directory=str(REPOSITORY))
    assert main([path, "--run"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_folder_of_another_machine(results, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    entries = {"command": "python SSRN.py -d IN", "directory": "/no/such/folder/SSRN"}
    path = changed(results, tmp_path, **entries, settings={"out": None})
    assert main([path]) == 0
    assert capsys.readouterr().out.strip() == "python SSRN/SSRN.py -d IN"


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"command": 3}', '{"command": "a\\u001bb"}'])
def test_what_holds_no_command_is_told_in_one_line(content, tmp_path, capsys):
    path = tmp_path / "report.json"
    path.write_text(content, "utf-8")
    assert main([str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
