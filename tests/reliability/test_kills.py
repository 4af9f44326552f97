"""A training process that is killed, at any moment, goes on to the same bits."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.system.errors import run_program
from common.system.files import REPOSITORY, UNFINISHED
from common.system.interrupts import EXCEPTIONS
from tests.reliability.processes import SCRIPTS, said, start
from tests.results import bits

STATUS = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
NAMES = {
    signal.SIGKILL: "process killed (SIGKILL)",
    signal.SIGTERM: "process asked to end (SIGTERM)",
    signal.SIGINT: "Ctrl-C",
}


@pytest.fixture(scope="module")
def starting(often, toy_data):
    """A function that starts a run of a network in a directory, or goes on with it."""

    def started(model: str, out: Path):
        length = ["-i", "2", "-e", str(often(4, 20))]
        return start(model, toy_data, out, *length, "--resume", page=bool(often(0, 1)))

    return started


@pytest.fixture(scope="module")
def undisturbed(starting, often, tmp_path_factory):
    """Of each network: what a run leaves that nothing disturbed, and the seconds it took."""
    found = {}
    for model in SCRIPTS[: often(1, 2)]:
        out, begin = tmp_path_factory.mktemp("undisturbed") / "out", time.monotonic()
        finish(starting(model, out))
        found[model] = bits(out), time.monotonic() - begin
    return found


def finish(process) -> None:
    """Let a run come to its end."""
    process.join()
    assert process.exitcode == 0


def test_killed_at_random_moments(undisturbed, starting, tmp_path, often, tried):
    kills, generator = {number: 0 for number in STATUS}, random.Random(1)
    for model, (expected, seconds) in undisturbed.items():
        goal, runs, out = sum(kills.values()) + often(3, 16), 0, tmp_path / model
        while sum(kills.values()) < goal:
            number = min(kills, key=kills.get)
            process = starting(model, out)
            process.join(generator.uniform(0, 0.4 * seconds))
            if process.exitcode is None:
                os.kill(process.pid, number)
                process.join()
            if process.exitcode == 0:  # it was done before
                assert bits(out) == expected
                runs, out = runs + 1, tmp_path / f"{model}{runs}"
                seconds *= 0.8  # the machine has become faster
            else:
                before_main = -number
                assert process.exitcode in (STATUS[number], before_main), said(out)
                assert "Traceback" not in "\n".join(said(out))
                kills[number] += process.exitcode == STATUS[number]
        finish(starting(model, out))
        assert bits(out) == expected
    assert not list(tmp_path.rglob(".*"))
    how = "at random moments, again and again, each time resumed: the same bits in the end"
    for number, times in kills.items():
        tried(NAMES[number], how, times)


def test_killed_while_it_writes_a_checkpoint(undisturbed, starting, tmp_path, often, tried):
    generator, total = random.Random(2), 0
    for model, (expected, _) in undisturbed.items():
        kills, runs, out = 0, 0, tmp_path / model
        while kills < often(2, 6):
            process = starting(model, out)
            if killed_within_a_checkpoint(process, out, epochs=generator.randrange(often(3, 8))):
                kills += 1
            else:
                assert process.exitcode == 0
                assert bits(out) == expected
                runs, out = runs + 1, tmp_path / f"{model}{runs}"
        finish(starting(model, out))
        assert bits(out) == expected
        total += kills
    assert not list(tmp_path.rglob(".*"))
    how = "held up and killed before the new file was in place, each time resumed: the same bits"
    tried("process killed while it writes a checkpoint", how, total)


def killed_within_a_checkpoint(process, out: Path, epochs: int) -> bool:
    """Kill the process in the middle of a checkpoint, some `epochs` on; False if it ends before."""
    seen = set()
    while process.exitcode is None:
        unfinished = set(out.glob(f"run_*/{UNFINISHED}checkpoint.pt.*"))
        seen |= unfinished
        if unfinished and len(seen) > epochs:
            os.kill(process.pid, signal.SIGSTOP)
            while process.exitcode is None and not is_stopped(process.pid):
                time.sleep(0.001)
            if any(path.exists() for path in unfinished):
                process.kill()
                process.join()
                return True
            os.kill(process.pid, signal.SIGCONT)
    return False


def is_stopped(pid: int) -> bool:
    """Whether a process has come to a halt after SIGSTOP."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] == "T"
    except FileNotFoundError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the right moment")
def test_ctrl_c_while_python_loads_its_packages(tmp_path, often):
    command = [sys.executable, REPOSITORY / "SSRN" / "SSRN.py", "-d", "IN", "--out", tmp_path / "o"]
    for delay in np.linspace(0, 0.2, often(1, 8)):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text("utf-8"):
            assert process.poll() is None
            time.sleep(0.001)
        time.sleep(delay)  # loading what is in it takes longer
        process.send_signal(signal.SIGINT)
        assert process.communicate()[1] == ""
        assert process.returncode == -signal.SIGINT
        assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("number", EXCEPTIONS)
def test_interrupted_in_a_package_that_makes_another_error_of_it(number):
    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(1)
        except KeyboardInterrupt as interruption:  # as Numba does
            raise SystemError("returned a result with an exception set") from interruption

    assert run_program("SSRN.py", work, interrupted="") == STATUS[number]
