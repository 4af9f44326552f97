"""Results directories from strangers: whatever lies under a name there, no code of it is run."""

import hashlib
import io
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import SSRN.SSRN
from common.reporting import page
from common.run import page_command
from common.run.cli import main
from common.tables import paper_table
from common.training.checkpoint import TRAINING_FILES
from tests.reliability.strangers import MARKER, Pickled

FAULT = "results that would run code"
HOW = (
    "pickles and arrays of objects in place of each file of a results directory, then "
    "resumed, drawn, compared or used as weights"
)


def saved(save: Callable[[io.BytesIO], None]) -> bytes:
    buffer = io.BytesIO()
    save(buffer)
    return buffer.getvalue()


def with_checksum(data: bytes) -> bytes:
    """As a checkpoint begins, so that its content is looked at."""
    return hashlib.sha256(data).hexdigest().encode() + data


def objects(shape: tuple[int, ...] = (1,)) -> np.ndarray:
    array = np.empty(shape, object)
    array.fill(Pickled())
    return array


ARRAYS = ("test", "predicted", "epochs_run", "train_seconds", "test_seconds", "kernel_attention")
HARMFUL: dict[str, bytes] = {
    "pickle": pickle.dumps(Pickled()),
    "PyTorch file": saved(lambda file: torch.save({"state": Pickled()}, file)),
    "old PyTorch file": saved(
        lambda file: torch.save(Pickled(), file, _use_new_zipfile_serialization=False)
    ),
    ".npy of objects": saved(lambda file: np.save(file, objects((40, 36)), allow_pickle=True)),
    ".npz of objects": saved(lambda file: np.savez(file, **{name: objects() for name in ARRAYS})),
}
HARMFUL |= {f"checkpoint of a {kind}": with_checksum(HARMFUL[kind]) for kind in list(HARMFUL)[:3]}


def train(out: Path, toy_data: Path, *flags: str) -> int:
    flags = ["-e", "1", "-i", "1", "-k", "2", "-p", "2", "--device", "cpu", *flags]
    flags += ["--precision", "fp32", "--data-dir", str(toy_data)]
    return main(SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS, ["-d", "UP", "--out", str(out), *flags])


@pytest.fixture(scope="module")
def finished(toy_data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    assert train(out, toy_data) == 0
    shutil.copyfile(out / "run_0" / "iteration.npz", out / "run_0" / "attention.npz")
    return out


@pytest.fixture
def out(finished, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)  # where code that ran would leave its mark
    return Path(shutil.copytree(finished, tmp_path / "out"))


def test_the_files_would_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind in ("pickle", ".npy of objects", ".npz of objects"):
        loaded = np.load(io.BytesIO(HARMFUL[kind]), allow_pickle=True)
        dict(loaded) if kind == ".npz of objects" else loaded
        Path(MARKER).unlink()
    torch.load(io.BytesIO(HARMFUL["PyTorch file"]), weights_only=False)
    Path(MARKER).unlink()


@pytest.mark.parametrize("kind", HARMFUL)
def test_resumed(kind, out, finished, toy_data, capsys, tried):
    (out / "report.json").unlink()  # as if the run had been killed before its end
    for name in ("iteration.npz", *TRAINING_FILES, "weights.pt", "split.npy", "map.npy"):
        (out / "run_0" / name).write_bytes(HARMFUL[kind])
    assert train(out, toy_data, "--resume") == 0
    lines = capsys.readouterr().err.splitlines()
    for name in ("iteration.npz", *TRAINING_FILES):
        [line] = [line for line in lines if f"run_0/{name}: " in line]
        assert "not used" in line
    assert not Path(MARKER).exists()
    before, now = (np.load(folder / "run_0" / "map.npy") for folder in (finished, out))
    np.testing.assert_array_equal(before, now)
    tried(FAULT, HOW, 1 + len(TRAINING_FILES))


def commands(path: Path, out: Path, other: Path, toy_data: Path) -> list[Callable[[], int]]:
    """What reads a file of `out`, and what it may be passed off as."""
    found = [
        lambda: paper_table.main([str(other), str(out)]),
        lambda: train(out / "new", toy_data, "--weights", str(path)),
    ]
    if path.name == "run.json":
        found.append(lambda: train(out, toy_data, "--resume"))
    if path.suffix in (".json", ".npy", ".npz", ".csv") or path.name == "false_color.png":
        found.append(lambda: page_command.main([str(out)]))
    return found


@pytest.mark.parametrize("kind", HARMFUL)
def test_read_by_programs(kind, out, toy_data, capsys, monkeypatch, tried):
    monkeypatch.setattr(page, "write_figures", lambda folder, figures: None)  # takes seconds
    other, times = Path(shutil.copytree(out, out.with_name("other"))), 0
    capsys.readouterr()
    for path in [path for path in out.rglob("*") if path.is_file()]:
        content = path.read_bytes()
        path.write_bytes(HARMFUL[kind])
        for command in commands(path, out, other, toy_data):
            status, errors = command(), capsys.readouterr().err
            assert not Path(MARKER).exists(), path
            assert status == 0 or (status == 2 and errors.count("\n") == 1), (path, errors)
            times += 1
        path.write_bytes(content)
    tried(FAULT, HOW, times)


def test_pictures_of_programs_are_not_opened(out, capsys):
    """PostScript is a program, which Pillow would have Ghostscript run."""
    Image.new("RGB", (36, 40)).save(out / "false_color.png", "EPS")
    assert page_command.main([str(out)]) == 2
    assert "not a readable results directory (cannot identify image" in capsys.readouterr().err
