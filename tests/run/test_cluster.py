"""On a cluster a run ends in the same bits as in one process, whatever befalls its workers."""

import contextlib
import importlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

import baselines.SVM
import common.run.cluster
import common.run.cluster_local
import common.run.map_scene
import SSRN.SSRN
from common.run.cli import main, run_script
from common.run.study import main as study
from common.system.files import REPOSITORY
from tests.docs.pages import blocks, page
from tests.forked import FORKED
from tests.results import bits

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("distributed") is None, reason="the extra `cluster` is not installed"
)

SHORT = ["-d", "UP", "-p", "2", "-k", "4", "--precision", "fp32"]
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
SCRIPT = str(REPOSITORY / "SSRN" / "SSRN.py")
LONG = ["-i", "2", "-e", "12", "--seed", "5"]  # so that there is time to do harm


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    for name, value in ONE_THREAD.items():
        monkeypatch.setenv(name, value)


def train(toy_data: Path, out: Path, *flags: str) -> subprocess.Popen:
    """Start a training script; what it says is in ``<out>.stderr``."""
    command = [sys.executable, SCRIPT, *SHORT, "--data-dir", str(toy_data), "--out", str(out)]
    with out.with_suffix(".stderr").open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [*command, *flags], stderr=file, stdout=subprocess.DEVNULL, start_new_session=True
        )


def said(out: Path) -> str:
    return out.with_suffix(".stderr").read_text("utf-8")


def run(toy_data: Path, out: Path, *flags: str) -> dict:
    """Let a training script run in this process, with one thread; return what it leaves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        arguments = [*SHORT, "--data-dir", str(toy_data), "--out", str(out), *flags]
        assert main(SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS, arguments) == 0
    finally:
        torch.set_num_threads(threads)
    return bits(out)


@pytest.fixture(scope="module")
def undisturbed(toy_data, tmp_path_factory):
    """What a run of the flags `LONG` leaves that one process makes."""
    return run(toy_data, tmp_path_factory.mktemp("one") / "out", *LONG)


# Flags


@pytest.mark.parametrize(
    "value", ["0", "x", "", "-1", "1001", "tcp://", "tcp://host", "http://h:1"]
)
def test_neither_a_number_nor_an_address(value, toy_data, tmp_path, capsys):
    arguments = [*SHORT, "--out", str(tmp_path / "out"), "--cluster", value]
    assert main(SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS, arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--cluster: '{value}' is neither a number of processes" in line
    assert not (tmp_path / "out").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_nobody_listens(toy_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(common.run.cluster, "ANSWER", 1)
    address = f"tcp://127.0.0.1:{free_port()}"
    arguments = ["-d", "UP", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    status = run_script(
        baselines.SVM.SVM, baselines.SVM.DEFAULTS, [*arguments, "--cluster", address]
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert status == 2 and f"--cluster {address}: no scheduler answers there" in line
    assert not (tmp_path / "out").exists()


def test_without_dask(toy_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    arguments = ["-d", "UP", "--data-dir", str(toy_data), "--out", str(tmp_path / "out")]
    assert (
        run_script(baselines.SVM.SVM, baselines.SVM.DEFAULTS, [*arguments, "--cluster", "2"]) == 2
    )
    (line,) = capsys.readouterr().err.splitlines()
    assert "--cluster 2: needs the package distributed; install it with: pip install" in line


def test_a_gpu_of_its_own_for_every_worker(tmp_path, capsys):
    arguments = [*SHORT, "--cluster", "tcp://127.0.0.1:1", "--device", "cuda:1"]
    assert main(SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS, arguments) == 2
    assert "every worker has a GPU of its own" in capsys.readouterr().err
    found = [common.run.cluster_local._gpu_of_worker(i, ["4", "6", "7"]) for i in range(4)]
    shown = [entry["CUDA_VISIBLE_DEVICES"] for entry in found]
    assert shown == ["4,6,7", "6,7,4", "7,4,6", "4,6,7"]


def _help_without_dask() -> None:
    for module in ("SSRN.SSRN", "common.run.study"):
        importlib.import_module(module)
    with contextlib.suppress(SystemExit):
        main(SSRN.SSRN.SSRN, SSRN.SSRN.DEFAULTS, ["--help"])
    with contextlib.suppress(SystemExit):
        study(["--help"])
    sys.exit(10 + ("dask" in sys.modules or "distributed" in sys.modules))


def test_help_does_not_load_dask():
    process = FORKED.Process(target=_help_without_dask)
    process.start()
    process.join()
    assert process.exitcode == 10


# Two processes of this machine


def test_the_same_bits_as_one_process(toy_data, tmp_path, capfd):
    flags = ["-i", "2", "-e", "2"]
    expected = run(toy_data, tmp_path / "one", *flags)
    capfd.readouterr()
    assert run(toy_data, tmp_path / "two", *flags, "--cluster", "2") == expected
    text = capfd.readouterr().err
    assert text.count("2 workers, 1 thread each; dashboard: http://127.0.0.1:") == 1
    for number in (1, 2):
        assert f"iteration {number}/2: epoch 2/2, val acc" in text
    assert not list((tmp_path / "two").rglob(".*"))


def test_a_map_of_the_same_bits(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(common.run.map_scene, "VALUES_PER_BLOCK", 7 * 36 * 60)
    run(toy_data, tmp_path / "trained", "-i", "1", "-e", "2", "--map", "none")
    flags = ["--weights", str(tmp_path / "trained" / "run_0" / "weights.pt"), "--map", "all"]
    flags += ["--probabilities"]
    expected = run(toy_data, tmp_path / "one", *flags)
    assert run(toy_data, tmp_path / "two", *flags, "--cluster", "2") == expected


@pytest.fixture
def study_of_two(toy_data, tmp_path):
    content = {
        "flags": f"-i 1 --data-dir {toy_data} --map none",
        "scenes": {"UP": None, "KSC": None},
        "methods": {"SVM": "baselines/SVM.py", "SSRN": f"SSRN/SSRN.py {' '.join(SHORT[2:])} -e 2"},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_study_of_the_same_bits(study_of_two):
    def made(name: str, *flags: str) -> tuple[list[dict], str]:
        command = ["-m", "common", "study", str(study_of_two / "study.yaml"), *flags]
        command += ["--out", str(study_of_two / name), "--runs", str(study_of_two / f"{name}_runs")]
        done = subprocess.run(
            [sys.executable, *command], cwd=REPOSITORY, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert (study_of_two / name / "study.html").is_file()
        runs = sorted((study_of_two / f"{name}_runs").glob("*_UP_*"))
        return [bits(run) for run in runs], done.stderr

    expected, _ = made("one")
    found, text = made("two", "--cluster", "2")
    assert found == expected and len(found) == 2
    assert "[2/4 SSRN on UP] iteration 1/1: epoch 2/2" in text
    assert "KSC.mat missing" in (study_of_two / "two" / "table.md").read_text("utf-8")


# What befalls workers and schedulers


def wait_for(path: Path, process: subprocess.Popen) -> None:
    """Wait until there is such a file, while the process lives."""
    while not list(path.parent.parent.glob(f"{path.parent.name}/{path.name}")):
        assert process.poll() is None
        time.sleep(0.02)


def workers_of(process: subprocess.Popen) -> list[int]:
    """Process ids of a process's own workers."""
    found = []
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        for pid in (task / "children").read_text("utf-8").split():
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc for the workers")
def test_a_worker_is_killed(undisturbed, toy_data, tmp_path):
    out = tmp_path / "out"
    process = train(toy_data, out, *LONG, "--cluster", "2")
    wait_for(out / "run_*" / "checkpoint.pt", process)
    workers = workers_of(process)
    assert len(workers) == 2
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    assert process.wait() == 0, said(out)
    assert bits(out) == undisturbed
    assert not list(out.rglob(".*"))
    assert len(said(out).splitlines()) < 20 and "distributed" not in said(out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no groups of processes there")
def test_ctrl_c_reaches_all_processes_of_the_terminal(undisturbed, toy_data, tmp_path):
    out = tmp_path / "out"
    process = train(toy_data, out, *LONG, "--cluster", "2")
    wait_for(out / "run_*" / "checkpoint.pt", process)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait() == 130
    last = said(out).splitlines()[-1]
    assert last.startswith("SSRN.py: interrupted; go on with: ") and last.endswith("--resume")
    assert "Traceback" not in said(out)
    process = train(toy_data, out, *LONG, "--resume")
    assert process.wait() == 0
    assert bits(out) == undisturbed


class Daemons:
    """A scheduler and workers as programs of their own, maybe on another host."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self.stack, self.number = folder, stack, 0

    def start(
        self, *command: str, host: tuple[str, ...] = (), folder: Path = REPOSITORY
    ) -> subprocess.Popen:
        self.number += 1
        environment = os.environ | {
            "DASK_TEMPORARY_DIRECTORY": str(self.folder / f"dask{self.number}"),
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s",
            "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "10s",
        }
        self.log = self.folder / f"daemon{self.number}.log"
        with self.log.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*host, sys.executable, "-m", "dask", *command],
                cwd=folder,
                stdout=log,
                stderr=log,
                env=environment,
            )
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def scheduler(self, address: str, *flags: str, **where) -> subprocess.Popen:
        host, port = address.split("://")[1].split(":")
        return self.start("scheduler", "--host", host, "--port", port, *flags, **where)

    def worker(self, address: str, *flags: str, **where) -> subprocess.Popen:
        """Start one, and wait until the scheduler knows of it."""
        process = self.start("worker", address, "--nthreads", "1", *flags, **where)
        while "Registered to" not in self.log.read_text("utf-8"):
            assert process.poll() is None
            time.sleep(0.1)
        return process


@pytest.fixture
def daemons(tmp_path) -> Iterator[Daemons]:
    with contextlib.ExitStack() as stack:
        yield Daemons(tmp_path, stack)


@pytest.mark.slow
def test_the_scheduler_dies(undisturbed, toy_data, tmp_path, daemons):
    out, address = tmp_path / "out", f"tcp://127.0.0.1:{free_port()}"
    scheduler = daemons.scheduler(address)
    workers = [daemons.worker(address), daemons.worker(address)]
    process = train(toy_data, out, *LONG, "--cluster", address)
    wait_for(out / "run_*" / "checkpoint.pt", process)
    scheduler.kill()
    assert process.wait() == 2
    last = said(out).splitlines()[-1]
    assert f"--cluster {address}: the scheduler is gone; start it again" in last
    assert "Traceback" not in said(out)
    for worker in workers:
        worker.kill()
        worker.wait()
    daemons.scheduler(address)
    daemons.worker(address)
    process = train(toy_data, out, *LONG, "--cluster", address, "--resume")
    assert process.wait() == 0, said(out)
    assert bits(out) == undisturbed


@pytest.mark.slow
def test_a_worker_of_several_tasks_at_a_time_is_refused(toy_data, tmp_path, daemons):
    out, address = tmp_path / "out", f"tcp://127.0.0.1:{free_port()}"
    daemons.scheduler(address)
    daemons.worker(address, "--nthreads", "2")
    process = train(toy_data, out, *LONG, "--cluster", address)
    assert process.wait() == 2
    assert "would do 2 tasks at a time; start it with --nthreads 1" in said(out).splitlines()[-1]
    assert not out.exists()


@pytest.mark.slow
def test_a_scheduler_outside_the_repository(toy_data, tmp_path, daemons):
    out, address = tmp_path / "out", f"tcp://127.0.0.1:{free_port()}"
    daemons.scheduler(address, folder=tmp_path)
    daemons.worker(address)
    process = train(toy_data, out, *LONG, "--cluster", address)
    assert process.wait() == 2
    last = said(out).splitlines()[-1]
    assert (
        f"--cluster {address}: the scheduler does not find the module common; start it in" in last
    )
    assert "Traceback" not in said(out)
    assert not out.exists()


@pytest.mark.slow
def test_tls_as_the_documentation_says(toy_data, tmp_path, daemons, monkeypatch):
    (section,) = re.findall(r"^## TLS\n(.*?)^## ", page("docs/cluster.md"), re.M | re.DOTALL)
    (commands,), (settings,) = blocks(section, "bash"), blocks(section, "yaml")
    subprocess.run(["sh", "-ec", commands], cwd=tmp_path, check=True, capture_output=True)
    config = tmp_path / "config"
    config.mkdir()
    (config / "tls.yaml").write_text(settings.replace("/home/me/tls", str(tmp_path)), "utf-8")
    flags = ["-i", "2", "-e", "1"]
    expected = run(toy_data, tmp_path / "one", *flags)
    out, port = tmp_path / "out", free_port()
    monkeypatch.setenv("DASK_CONFIG", str(config))
    address = f"tls://127.0.0.1:{port}"
    daemons.scheduler(address, "--protocol", "tls")
    daemons.worker(address)
    process = train(toy_data, out, *flags, "--cluster", address)
    assert process.wait() == 0, said(out)
    assert bits(out) == expected
    process = train(toy_data, tmp_path / "local", *flags, "--cluster", "2")
    assert process.wait() == 0, said(tmp_path / "local")
    assert bits(tmp_path / "local") == expected

    monkeypatch.delenv("DASK_CONFIG")  # without a key
    for other in (address, f"tcp://127.0.0.1:{port}"):
        process = train(toy_data, tmp_path / "refused", *flags, "--cluster", other)
        assert process.wait() == 2
        (line,) = said(tmp_path / "refused").splitlines()
        assert f"--cluster {other}: no scheduler answers there" in line


# Two hosts


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """How to start a program on each of two hosts, 10.77.0.1 and 10.77.0.2, joined by a cable."""
    names = [f"hsi{os.getpid()}{letter}" for letter in "ab"]
    with contextlib.ExitStack() as stack:
        try:
            for name in names:
                ip("netns", "add", name)
                stack.callback(ip, "netns", "delete", name)
            ends = ["type", "veth", "peer", "name", "cable", "netns", names[1]]
            ip("-n", names[0], "link", "add", "cable", *ends)
            for number, name in enumerate(names, 1):
                ip("-n", name, "address", "add", f"10.77.0.{number}/24", "dev", "cable")
                ip("-n", name, "link", "set", "cable", "up")
                ip("-n", name, "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield tuple(("ip", "netns", "exec", name) for name in names)


def train_on(host, toy_data: Path, out: Path, *flags: str) -> subprocess.Popen:
    command = [*host, sys.executable, SCRIPT, *SHORT, "--data-dir", str(toy_data)]
    with out.with_suffix(".stderr").open("w", encoding="utf-8") as file:
        return subprocess.Popen(
            [*command, "--out", str(out), *flags], stderr=file, stdout=subprocess.DEVNULL
        )


ADDRESS = "tcp://10.77.0.1:8786"


@pytest.mark.slow
def test_two_hosts_and_the_cable_between_them_is_pulled(
    hosts, undisturbed, toy_data, tmp_path, daemons
):
    here, there = hosts
    out = tmp_path / "out"
    daemons.scheduler(ADDRESS, host=here)
    daemons.worker(ADDRESS, host=here)
    daemons.worker(ADDRESS, host=there)
    process = train_on(here, toy_data, out, *LONG, "--cluster", ADDRESS)
    for number in (0, 1):  # both hosts are at work
        wait_for(out / f"run_{number}" / "checkpoint.pt", process)
    ip("-n", here[-1], "link", "set", "cable", "down")
    assert process.wait() == 0, said(out)
    assert bits(out) == undisturbed
    assert not list(out.rglob(".*"))


@pytest.mark.slow
def test_a_host_that_does_not_see_the_results(hosts, toy_data, tmp_path, daemons):
    here, there = hosts
    out = tmp_path / "results" / "out"
    out.parent.mkdir()
    daemons.scheduler(ADDRESS, host=here)
    hidden = f'mount -t tmpfs none {out.parent} && hostname faraway && exec "$@"'
    elsewhere = (*there, "unshare", "--mount", "--uts", "sh", "-c", hidden, "sh")
    daemons.worker(ADDRESS, host=elsewhere)
    process = train_on(here, toy_data, out, *LONG, "--cluster", ADDRESS)
    assert process.wait() == 2
    last = said(out).splitlines()[-1]
    assert "the worker on faraway (tcp://10.77.0.2:" in last
    assert f"does not see the folder of results {out}" in last
    assert not out.exists()
