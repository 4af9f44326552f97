"""Programs print to whatever their standard streams are, and go on where nobody reads."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from common.system.files import REPOSITORY

PROGRAM = """
import sys
from common.system.errors import InputError, run_program

def work():
    for n in range(3000):
        print(f"{n} pixels \\u00d7 \\u03ba \\u6c34 \\u00b1")
        print("to stderr \\u2026", file=sys.stderr, flush=True)
    open(sys.argv[1], "w").write("done")
    if len(sys.argv) > 2:
        raise InputError("wrong \\u6c34")

sys.exit(run_program("program", work, ""))
"""


def run(tmp_path, shell, *more, encoding="utf-8", **options) -> subprocess.CompletedProcess:
    """Run the program in a shell line in which $PROGRAM stands for it."""
    (tmp_path / "program.py").write_text(PROGRAM, "utf-8")
    words = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / "done"), *more]
    environment = {"PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": encoding}
    line = shell.replace("$PROGRAM", " ".join(words))
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env=os.environ | environment,
        capture_output=True,
        timeout=60,
        **options,
    )


@pytest.mark.parametrize("encoding", ["cp1252", "cp1251", "ascii", "latin-1", "utf-8"])
def test_a_terminal_that_is_no_utf8_gets_replacements(tmp_path, encoding):
    done = run(tmp_path, "$PROGRAM", "wrong", encoding=encoding)
    assert done.returncode == 2
    first = done.stdout.decode(encoding).splitlines()[0]
    expected = "0 pixels × κ 水 ±".encode(encoding, "replace").decode(encoding)
    assert first == expected
    last = done.stderr.decode(encoding).splitlines()[-1]
    assert last == f"program: error: wrong {'水' if encoding == 'utf-8' else '?'}"


CLOSED = ["2>&-", "2>&- 1>&-", "1>&-", "0<&- 1>&- 2>&-", "2>&1 | head -1", "| head -1", "2>&1 | :"]


@pytest.mark.parametrize("how", CLOSED)
def test_a_closed_stream_or_a_reader_that_goes_away_stops_nothing(tmp_path, how):
    done = run(tmp_path, f"$PROGRAM {how}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "done").read_text("utf-8") == "done"


def test_wrong_input_keeps_its_status_without_a_reader(tmp_path):
    assert run(tmp_path, "$PROGRAM 2>&-", "wrong").returncode == 2
    assert run(tmp_path, "$PROGRAM 2>&1 | :", "wrong").returncode == 2


def test_what_is_printed_never_lands_in_a_file(tmp_path):
    """The next file opened after a closed stderr would get its number."""
    script = tmp_path / "next.py"
    script.write_text(
        "import os, sys\n"
        "from common.system.streams import make_streams_tolerant\n"
        "make_streams_tolerant()\n"
        "file = open(sys.argv[1], 'w')\n"
        "assert file.fileno() > 2\n"
        "print('to stderr', file=sys.stderr)\n"
        "os.write(2, b'from a library in C')\n",
        "utf-8",
    )
    line = f"{sys.executable} {script} {tmp_path / 'file'} 0<&- 1>&- 2>&-"
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    subprocess.run(["bash", "-c", line], env=environment, check=True)
    assert (tmp_path / "file").read_text("utf-8") == ""


def test_a_full_disk_is_no_reader_that_went_away(tmp_path):
    done = run(tmp_path, "$PROGRAM > /dev/full")
    assert done.returncode != 0


@pytest.mark.slow
def test_a_training_goes_on(tmp_path, toy_data):
    out = tmp_path / "out"
    words = [sys.executable, "baselines/SVM.py", "-d", "UP", "-i", "1", "--data-dir", str(toy_data)]
    line = f"{' '.join(words)} --out {out} 2>&1 | head -1"
    shell = ["bash", "-o", "pipefail", "-c", line]
    assert subprocess.run(shell, cwd=REPOSITORY, stdout=subprocess.DEVNULL).returncode == 0
    assert (out / "report.html").is_file()
    assert np.load(out / "run_0" / "map.npy").any()


@pytest.mark.parametrize("words", [["--help"], ["table", "--help"], ["nothing"]])
def test_help_on_a_terminal_that_is_no_utf8(words):
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "common", *words],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
    )
    assert done.returncode == (2 if words == ["nothing"] else 0), done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("unbuffered", "stream"), [("", "stderr"), ("1", "stderr"), ("1", "stdout")]
)
def test_what_a_program_says_is_there_before_it_goes_on(unbuffered, stream):
    program = (
        "import sys; from common.system.streams import make_streams_tolerant as tolerant; "
        f"tolerant(); print('at work', file=sys.{stream}); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
        **{stream: subprocess.PIPE},
    ) as process:
        timer = threading.Timer(20, process.kill)
        timer.start()
        line = getattr(process, stream).readline()
        timer.cancel()
        process.stdin.close()
    assert line.strip() == b"at work"
