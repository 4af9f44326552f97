"""A killed run goes on to the same bits; what is damaged or foreign is told and not used."""

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io

import common.run.experiment
import common.training.checkpoint
import common.training.network_classifier
import common.training.train
from baselines import SVM
from common.recipe import OF_NETWORK
from common.run.cli import main, run_script
from common.system.files import locked
from common.training.checkpoint import FILES, Checkpoint
from SSRN import SSRN
from tests.conftest import toy_labels
from tests.results import bits

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-d", "UP", "-p", "2", "-k", "4", "-i", "2", "-e", "4", "--precision", "fp32"]
FLAGS += ["--batch-size", "40"]  # three updates an epoch


def run(toy_data: Path, out: Path, *flags: str) -> int:
    where = ["--data-dir", str(toy_data), "--out", str(out)]
    return main(SSRN.SSRN, SSRN.DEFAULTS, [*FLAGS, *where, *flags])


@pytest.fixture(scope="module")
def uninterrupted(toy_data, tmp_path_factory):
    """What a run leaves that nothing disturbed."""
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    assert run(toy_data, out) == 0
    return bits(out)


class Killed(BaseException):
    """Stands for the end of the process: nothing of the project catches it."""


def killed_after(calls: int, monkeypatch, module, name: str) -> None:
    """Let a function of a module end the process at its n-th call."""
    real, left = getattr(module, name), [calls]

    def counted(*arguments, **named):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(module, name, counted)


@pytest.mark.parametrize("writes", [1, 2, 3, 4, 6, 7])
def test_goes_on_after_any_checkpoint(writes, uninterrupted, toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(common.training.checkpoint, "LARGEST_COST", 1e9)  # one after every epoch
    with monkeypatch.context() as patch:
        killed_after(writes, patch, common.training.checkpoint, "write_file")
        with pytest.raises(Killed):
            run(toy_data, tmp_path / "out")
    assert run(toy_data, tmp_path / "out", "--resume") == 0
    assert bits(tmp_path / "out") == uninterrupted


@pytest.mark.parametrize(
    ("function", "calls"),
    [
        ("write_identity", 0),
        ("write_scene", 0),
        ("announce", 0),
        ("test_and_map", 0),
        ("write_finished", 0),
        ("write_finished", 1),
        ("write_report", 1),
    ],
)
def test_goes_on_from_anywhere_else(
    function, calls, uninterrupted, toy_data, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        killed_after(calls, patch, common.run.experiment, function)
        with pytest.raises(Killed):
            run(toy_data, tmp_path / "out")
    assert run(toy_data, tmp_path / "out", "--resume") == 0
    assert bits(tmp_path / "out") == uninterrupted


OF_FAST = ["--recipe", "fast", "-p", "3", "-i", "1", "-e", "5"]  # patches of 5, 5, 7, 7, 7


@pytest.fixture(scope="module")
def uninterrupted_fast(toy_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("fast") / "out"
    assert run(toy_data, out, *OF_FAST) == 0
    return bits(out)


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_fast_recipe_goes_on_around_its_change_of_patches(
    writes, uninterrupted_fast, toy_data, tmp_path, monkeypatch
):
    monkeypatch.setattr(common.training.checkpoint, "LARGEST_COST", 1e9)
    with monkeypatch.context() as patch:
        killed_after(writes, patch, common.training.checkpoint, "write_file")
        with pytest.raises(Killed):
            run(toy_data, tmp_path / "out", *OF_FAST)
    assert run(toy_data, tmp_path / "out", "--resume", *OF_FAST) == 0
    assert bits(tmp_path / "out") == uninterrupted_fast


def test_a_recipe_that_has_changed_is_refused(toy_data, tmp_path, monkeypatch, capsys):
    flags = ["--recipe", "fast", "-i", "1", "-e", "2"]
    assert run(toy_data, tmp_path / "out", *flags) == 0
    changed = dataclasses.replace(OF_NETWORK["fast", "SSRN"], label_smoothing=0.2)
    monkeypatch.setitem(OF_NETWORK, ("fast", "SSRN"), changed)
    assert run(toy_data, tmp_path / "out", "--resume", *flags) == 2
    assert "what the recipe does was" in capsys.readouterr().err


def test_finished_iterations_are_not_trained_again(uninterrupted, toy_data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        killed_after(1, patch, common.training.network_classifier, "run")
        with pytest.raises(Killed):
            run(toy_data, tmp_path / "out")
    with monkeypatch.context() as patch:
        killed_after(1, patch, common.training.network_classifier, "run")  # once is allowed
        assert run(toy_data, tmp_path / "out", "--resume") == 0
    assert bits(tmp_path / "out") == uninterrupted


def test_a_finished_run_says_so_and_does_nothing(toy_data, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    assert run(toy_data, out, "-i", "1", "-e", "1") == 0
    (out / "report.html").write_text("page", "utf-8")  # which tests do not write
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    assert run(toy_data, out, "-i", "1", "-e", "1", "--resume") == 0
    assert "finished already, nothing to do" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


def test_a_finished_run_takes_further_iterations(uninterrupted, toy_data, tmp_path, monkeypatch):
    assert run(toy_data, tmp_path / "out", "-i", "1") == 0
    first = (tmp_path / "out" / "run_0" / "weights.pt").stat().st_mtime_ns
    with monkeypatch.context() as patch:  # interrupted in the second
        killed_after(0, patch, common.run.experiment, "write_finished")
        with pytest.raises(Killed):
            run(toy_data, tmp_path / "out", "-i", "2", "--resume")
    assert run(toy_data, tmp_path / "out", "-i", "2", "--resume") == 0
    assert (tmp_path / "out" / "run_0" / "weights.pt").stat().st_mtime_ns == first
    assert bits(tmp_path / "out") == uninterrupted


def test_fewer_iterations_are_refused(toy_data, tmp_path, capsys):
    assert run(toy_data, tmp_path / "out", "-i", "2", "-e", "1") == 0
    assert run(toy_data, tmp_path / "out", "-i", "1", "-e", "1", "--resume") == 2
    assert "iter was 2" in capsys.readouterr().err.splitlines()[-1]


def test_seconds_of_training_add_up_over_an_interruption(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(common.training.checkpoint, "LARGEST_COST", 1e9)
    real = common.training.train.time.perf_counter
    slow = SimpleNamespace(perf_counter=lambda: 1000 * real())
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(common.training.train, "time", slow)
        killed_after(3, patch, common.training.checkpoint, "write_file")  # after two epochs
        with pytest.raises(Killed):
            run(toy_data, out, "-i", "1")
    assert run(toy_data, out, "-i", "1", "--resume") == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    history = np.genfromtxt(out / "run_0" / "history.csv", delimiter=",", names=True)
    before, after = history["seconds"][:2], history["seconds"][-1]
    assert before.min() > 20 * after
    assert report["train_seconds"] == [pytest.approx(history["seconds"].sum())]


def test_seconds_of_training_leave_compilation_out(toy_data, tmp_path, monkeypatch):
    clock, compiled = itertools.count(step=3), itertools.count()  # of 3 s one is compilation
    slow = SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(common.training.train, "time", slow)
    monkeypatch.setattr(common.training.train, "compile_seconds", lambda: next(compiled))
    assert run(toy_data, tmp_path / "out", "-i", "1") == 0
    history = np.genfromtxt(tmp_path / "out" / "run_0" / "history.csv", delimiter=",", names=True)
    assert history["seconds"].tolist() == [2, 2, 2, 2]


def test_resume_of_nothing_starts_anew(uninterrupted, toy_data, tmp_path):
    assert run(toy_data, tmp_path / "out", "--resume") == 0
    assert bits(tmp_path / "out") == uninterrupted


def test_what_cannot_go_on_is_refused_in_one_line(toy_data, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(toy_data, out, "-i", "1", "-e", "1") == 0
    for flags, message in {
        ("--resume", "-e", "3"): "--resume: epoch was 1 in",
        ("--resume", "--overwrite"): "--resume and --overwrite do not go together",
        ("--resume", "--weights", "w.pt"): "--weights w.pt: no such file",
    }.items():
        capsys.readouterr()
        assert run(toy_data, out, "-i", "1", "-e", "1", *flags) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert message in line
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine", "utf-8")
    assert run(toy_data, tmp_path / "other", "--resume") == 2
    assert "holds no run that can go on" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["notes.txt"]


def test_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, capsys):
    checkpoint = Checkpoint(tmp_path, "mine")
    checkpoint.write(lambda: {"epoch": 1})
    checkpoint.next_time = 0
    checkpoint.write(lambda: {"epoch": 2})
    assert checkpoint.read() == {"epoch": 2}
    latest, previous = (tmp_path / name for name in FILES[:2])
    whole = latest.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", b"x" + whole[1:], whole[:80] + b"?" + whole[81:]):
        latest.write_bytes(damaged)
        assert checkpoint.read() == {"epoch": 1}
        assert "checkpoint.pt: damaged, not used" in capsys.readouterr().err
    previous.write_bytes(b"too")
    assert checkpoint.read() is None


def test_foreign_checkpoint_is_not_used(tmp_path, capsys):
    Checkpoint(tmp_path, "theirs").write(lambda: {"epoch": 1})
    assert Checkpoint(tmp_path, "mine").read() is None
    assert "of another training, not used" in capsys.readouterr().err


def test_checkpoints_are_rare_enough_to_cost_little(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(common.training.checkpoint.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(
        common.training.checkpoint,
        "write_file",
        lambda path, data: clock.__setitem__(0, clock[0] + 0.5),
    )
    checkpoint, written = Checkpoint(tmp_path, "mine"), []
    for _ in range(1000):
        clock[0] += 1.0  # an epoch
        checkpoint.write(lambda: written.append(clock[0]) or {})
    assert 0.5 * len(written) < 0.02 * clock[0]
    assert len(written) > 10


def test_second_process_on_the_same_directory_is_refused(toy_data, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    with locked(out / ".lock") as alone:
        assert alone
        assert run(toy_data, out, "--overwrite") == 2
    assert "another process is writing there" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_keeps_what_is_whole(toy_data, tmp_path, monkeypatch, capsys):
    def full(*arguments):
        raise OSError(28, "No space left on device", str(tmp_path / "out" / "run_1" / "map.npy"))

    with monkeypatch.context() as patch:
        patch.setattr(common.training.network_classifier, "write_history", full)
        assert run(toy_data, tmp_path / "out") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be written (No space left on device)" in line


def test_svm_goes_on_too(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(SVM, "C", (10, 1000))
    monkeypatch.setattr(SVM, "GAMMA", (0.003, 0.03))
    where = ["-d", "UP", "--data-dir", str(toy_data), "-i", "2"]
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    assert run_script(SVM.SVM, SVM.DEFAULTS, [*where, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        killed_after(1, patch, common.run.experiment, "test_and_map")
        with pytest.raises(Killed):
            run_script(SVM.SVM, SVM.DEFAULTS, [*where, "--out", str(halves)])
    assert run_script(SVM.SVM, SVM.DEFAULTS, [*where, "--out", str(halves), "--resume"]) == 0
    assert bits(halves) == bits(whole)


@pytest.mark.slow
@pytest.mark.parametrize("script", ["SSRN/SSRN.py", "A2S2KResNet/A2S2KResNet.py"])
def test_kernels_compiled_just_now_and_read_from_the_cache_give_the_same_bits(
    script, toy_data, tmp_path
):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    for name in ("compiled", "cached"):
        command = [sys.executable, str(ROOT / script), *FLAGS, "--data-dir", str(toy_data)]
        command += ["--out", str(tmp_path / name)]
        subprocess.run(command, env=environment, check=True, stderr=subprocess.DEVNULL)
    assert bits(tmp_path / "compiled") == bits(tmp_path / "cached")


def test_the_same_files_named_from_another_folder(tmp_path, monkeypatch, capsys):
    train, test = toy_labels(), toy_labels()
    train[:, 12:], test[:, :20] = 0, 0
    for folder in ("here", "elsewhere"):
        (tmp_path / folder).mkdir()
    cube = np.random.default_rng(0).normal(size=(40, 36, 9)) + toy_labels()[..., None]
    np.save(tmp_path / "here" / "cube.npy", cube)
    scipy.io.savemat(tmp_path / "here" / "maps.mat", {"train": train, "test": test})
    (tmp_path / "here" / "field.yaml").write_text("name: Field\ncube: cube.npy\n", "utf-8")

    def run(folder: str, prefix: str) -> int:
        monkeypatch.chdir(tmp_path / folder)
        maps = [f"{prefix}maps.mat:{name}" for name in ("train", "test")]
        flags = ["-d", f"{prefix}field.yaml", "--split", *maps, "-i", "1", "-p", "2"]
        return run_script(SVM.SVM, SVM.DEFAULTS, [*flags, "--out", f"{tmp_path}/out", "--resume"])

    assert run("here", "") == 0
    (tmp_path / "out" / "report.html").touch()
    capsys.readouterr()
    assert run("elsewhere", "../here/") == 0
    assert "finished already" in capsys.readouterr().err
    assert run("elsewhere", "../elsewhere/../here/") == 0
    shutil.copy(tmp_path / "here" / "field.yaml", tmp_path / "here" / "other.yaml")
    shutil.copy(tmp_path / "here" / "maps.mat", tmp_path / "elsewhere" / "maps.mat")
    shutil.copy(tmp_path / "here" / "cube.npy", tmp_path / "elsewhere" / "cube.npy")
    shutil.copy(tmp_path / "here" / "field.yaml", tmp_path / "elsewhere" / "field.yaml")
    assert run("elsewhere", "./") == 2
    assert "--resume: dataset was field.yaml in" in capsys.readouterr().err
