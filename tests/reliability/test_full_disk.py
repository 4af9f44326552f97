"""A results directory whose disk is full, read-only or gone: one line, and nothing is lost."""

import contextlib
import csv
import hashlib
import json
import math
import random
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from common.run.cli import main
from common.scenes.georeference import GeotiffPosition
from common.scenes.map_file import Legend, map_writer
from SSRN.SSRN import DEFAULTS, SSRN
from tests.reliability.processes import SCRIPTS, run, said, start
from tests.results import bits

LENGTH = ["-i", "1", "-e", "2", "--resume"]
PAGE = 4096  # bytes: what a tmpfs gives at a time
ONE_LINE = r"\S+: error: --out {}: cannot be written \({}\); what is there is whole"
CHECKPOINT = r"{}/run_0/checkpoint.pt: cannot be written \({}\); training goes on, and tries again"
PROGRESS = r"(Pavia University: |iteration 1/1: |testing |mapping ).*"
FULL, NO_GROWTH = "No space left on device", "File too large"


@contextlib.contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[str], None]]:
    """Make a folder a disk of its own, of so many bytes; the function mounts it anew."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or error
        pytest.skip(f"needs a small disk, and mounting a tmpfs is not permitted here: {reason}")
    try:
        yield lambda options: subprocess.run(
            ["mount", "-o", f"remount,{options}", folder], check=True
        )
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def check_told(out: Path, reason: str) -> None:
    """Check that a run that could not write said so in one line, its last."""
    *before, last = said(out)
    assert re.fullmatch(ONE_LINE.format(re.escape(str(out)), reason), last), last
    warnings = [line for line in before if not re.fullmatch(PROGRESS, line)]
    assert len(warnings) <= 1, warnings
    for line in warnings:
        assert re.fullmatch(CHECKPOINT.format(re.escape(str(out)), reason), line), line


def check_whole(out: Path) -> None:
    """Check that all files can be read to their end, and that none is a temporary one."""
    for path in filter(Path.is_file, out.rglob("*")):
        assert not path.name.startswith("."), path
        if path.name.startswith("checkpoint"):
            data = path.read_bytes()
            assert hashlib.sha256(data[64:]).hexdigest().encode() == data[:64]
        elif path.suffix == ".pt":
            torch.load(path, weights_only=True)
        elif path.suffix in (".npy", ".npz"):
            np.load(path)
        elif path.suffix == ".png":
            Image.open(path).load()
        elif path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix == ".csv":
            rows = csv.DictReader(path.read_text("utf-8").splitlines())
            assert [row["epoch"] for row in rows] == ["1", "2"]
        else:
            ends = {".pdf": "%%EOF\n", ".html": "</html>", ".txt": "\n"}
            assert path.read_text("latin1").endswith(ends[path.suffix]), path


@pytest.fixture(scope="module")
def undisturbed(toy_data, often, tmp_path_factory):
    """Of each network: a results directory that nothing disturbed."""
    found = {}
    for model in SCRIPTS[: often(1, 2)]:
        found[model] = tmp_path_factory.mktemp("undisturbed") / "out"
        assert run(model, toy_data, found[model], *LENGTH, page=bool(often(0, 1))) == 0
    return found


def too_small_disks(out: Path, number: int) -> list[int]:
    """Sizes in bytes of disks that are full within one of the files that a run left in `out`.

    Half of them are full within files chosen evenly in the order in which they were written; the
    others, which have room for one, are full within a checkpoint.
    """
    generator = random.Random(3)
    files = sorted(filter(Path.is_file, out.rglob("*")), key=lambda path: path.stat().st_mtime_ns)
    pages = [math.ceil(path.stat().st_size / PAGE) for path in files]
    within = np.linspace(0, len(files) - 1, math.ceil(number / 2)).round().astype(int)
    sizes = [PAGE * max(1, sum(pages[:i]) + generator.randrange(pages[i])) for i in within]
    weights = (out / "run_0" / "weights.pt").stat().st_size
    return sizes + [int(weights * generator.uniform(2, 7)) for _ in range(number // 2)]


def test_full_disk(undisturbed, toy_data, tmp_path, often, tried):
    times = 0
    for model, expected in undisturbed.items():
        for size in too_small_disks(expected, often(4, 12)):
            out = tmp_path / f"{model}_{size}"
            page = bool(often(0, 1))
            with disk(out, size) as remount:
                status = run(model, toy_data, out, *LENGTH, page=page)
                check_whole(out)
                if status:
                    check_told(out, FULL)
                    assert status == 2
                    remount("size=64m")
                    assert run(model, toy_data, out, *LENGTH, page=page) == 0
                else:  # there was room for all but checkpoints
                    assert re.search(CHECKPOINT.format(out, FULL), "\n".join(said(out)))
                assert bits(out) == bits(expected)
                check_whole(out)
            times += 1
    how = "a disk (tmpfs) full within a checkpoint, the weights, a map, the report, the page, …"
    tried("full disk", f"{how}; with room again, resumed: the same bits", times)


def test_full_disk_below_a_geotiff(tmp_path):
    labels = np.random.default_rng(0).integers(1, 6, (200, 400))
    where = GeotiffPosition("EPSG:32632", (1, 0, 0, 0, -1, 0))
    pytest.importorskip("rasterio")
    for size in range(PAGE, 6 * PAGE, PAGE):
        out = tmp_path / str(size)
        with disk(out, size):
            legend = Legend((1, 2, 3, 4, 5), tuple("abcde"), ("red",) * 5)
            written = map_writer(out / "map", labels.shape, where, legend)
            with pytest.raises(OSError, match=FULL), written as write_rows:
                write_rows(0, labels)
            assert not list(out.iterdir())


def test_full_disk_below_a_map_of_weights(undisturbed, toy_data, tmp_path):
    weights = ["--weights", str(undisturbed["SSRN"] / "run_0" / "weights.pt"), "--map", "all"]
    expected, out = tmp_path / "expected", tmp_path / "out"
    assert run("SSRN", toy_data, expected, *weights, page=False) == 0
    written = sum(math.ceil(path.stat().st_size / PAGE) for path in expected.glob("*.*"))
    with disk(out, PAGE * (written - 1)) as remount:
        assert run("SSRN", toy_data, out, *weights, page=False) == 2
        assert re.fullmatch(ONE_LINE.format(out, FULL), said(out)[-1])
        check_whole(out)
        remount("size=64m")
        assert run("SSRN", toy_data, out, *weights, "--overwrite", page=False) == 0


def test_files_that_cannot_grow(undisturbed, toy_data, tmp_path, often, tried):
    """As under a quota; it needs no disk of its own."""
    expected, times = undisturbed["SSRN"], often(1, 6)
    for size in np.geomspace(2**16, 2**9, times).astype(int):
        out = tmp_path / str(size)
        assert run("SSRN", toy_data, out, *LENGTH, page=False, largest_file=int(size)) == 2
        check_told(out, NO_GROWTH)
        check_whole(out)
        assert run("SSRN", toy_data, out, *LENGTH, page=False) == 0
        assert bits(out) == bits(expected)
    how = "a limit on the size of files (RLIMIT_FSIZE); lifted, then resumed: the same bits"
    tried("files that cannot grow any more", how, times)


def test_read_only_disk(undisturbed, toy_data, tmp_path, tried):
    for number, out in enumerate((tmp_path / "new", tmp_path / "begun")):
        with disk(out, 2**26) as remount:
            if number:
                killed_after_a_checkpoint(toy_data, out)
            before = sorted(out.rglob("*"))
            remount("ro")
            assert run("SSRN", toy_data, out, *LENGTH, page=False) == 2
            check_told(out, "Read-only file system")
            assert sorted(out.rglob("*")) == before
            remount("rw")
            assert run("SSRN", toy_data, out, *LENGTH, page=False) == 0
            assert bits(out) == bits(undisturbed["SSRN"])
    how = "a disk mounted read-only, for a new and for a resumed run; then writable: the same bits"
    tried("read-only output directory", how, 2)


def killed_after_a_checkpoint(toy_data: Path, out: Path) -> None:
    """Leave a run that was killed in its training."""
    process = start("SSRN", toy_data, out, *LENGTH, page=False)
    wait_for_a_checkpoint(out)
    process.kill()
    process.join()


def wait_for_a_checkpoint(out: Path) -> None:
    while not (out / "run_0" / "checkpoint.pt").exists():
        time.sleep(0.001)


def test_a_results_directory_that_vanishes(undisturbed, toy_data, tmp_path, often, tried):
    times = often(1, 6)
    for turn in range(times):
        out, elsewhere = tmp_path / f"out{turn}", tmp_path / f"elsewhere{turn}"
        process = start("SSRN", toy_data, out, *LENGTH, page=False)
        wait_for_a_checkpoint(out)
        time.sleep(0.02 * turn)
        out.rename(elsewhere)
        process.join()
        assert process.exitcode == 2
        check_told(out, "No such file or directory")
        assert not out.exists()
        assert run("SSRN", toy_data, elsewhere, *LENGTH, page=False) == 0
        assert bits(elsewhere) == bits(undisturbed["SSRN"])
        check_whole(elsewhere)
    how = "moved away while training writes to it; resumed where it is now: the same bits"
    tried("output directory that vanishes", how, times)


def test_a_results_directory_below_a_file(toy_data, tmp_path, capsys):
    (tmp_path / "file").write_text("mine", "utf-8")
    out = tmp_path / "file" / "out"
    where = ["-d", "UP", "--data-dir", str(toy_data), "--out", str(out)]
    assert main(SSRN, DEFAULTS, where) == 2
    assert re.fullmatch(ONE_LINE.format(out, "Not a directory") + "\n", capsys.readouterr().err)
    assert (tmp_path / "file").read_text("utf-8") == "mine"
