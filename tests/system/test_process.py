"""What a script's process is set up with before PyTorch comes."""

import gc
import io
import os
import signal

import pytest

from common.system import process


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Leave this process as it was."""
    for name in process.USERS_OWN:
        monkeypatch.setenv(name, "set")  # so that it is put back
        monkeypatch.delenv(name)
    thresholds, handler = gc.get_threshold(), signal.getsignal(signal.SIGINT)
    yield
    gc.set_threshold(*thresholds)
    signal.signal(signal.SIGINT, handler)


def test_a_script_is_set_up():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process.set_up()
    assert process.USERS_OWN & os.environ.keys() == set(process.WHERE_ALONE)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert gc.get_threshold()[0] == 50_000


@pytest.mark.parametrize(("idle", "turns"), [(0, "10000"), (14, "10000"), (16, "40000")])
def test_waiting_threads_sleep_sooner_where_others_work(idle, turns, monkeypatch):
    later = f"cpu 100 0 50 {800 + idle - 5} 5 0 0 {20 + 20 - idle}"  # idle, disk, stolen of 20 more
    stat = [io.StringIO(f"{line}\ncpu0 1\n") for line in ("cpu 100 0 50 800 0 0 0 20", later)]
    monkeypatch.setattr(process, "open", lambda *_, **__: stat.pop(0), raising=False)
    process.let_waiting_threads_sleep(environment := {})
    assert environment["GOMP_SPINCOUNT"] == turns


def test_waiting_threads_where_the_system_does_not_say_what_others_do(monkeypatch):
    def absent(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(process, "open", absent, raising=False)
    process.let_waiting_threads_sleep(environment := {})
    assert environment == process.WHERE_ALONE


@pytest.mark.parametrize("name", sorted(process.USERS_OWN))
def test_what_the_user_says_of_waiting_threads_wins(name, monkeypatch):
    monkeypatch.setenv(name, "active")
    process.set_up()
    assert {n: os.environ[n] for n in process.USERS_OWN & os.environ.keys()} == {name: "active"}


def test_ctrl_c_stays_ignored_in_the_background():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.set_up()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
