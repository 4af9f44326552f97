"""What a script's process is set up with before PyTorch comes."""

import gc
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
    assert os.environ.items() >= process.WAITING_THREADS.items()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert gc.get_threshold()[0] == 50_000


@pytest.mark.parametrize("name", sorted(process.USERS_OWN))
def test_what_the_user_says_of_waiting_threads_wins(name, monkeypatch):
    monkeypatch.setenv(name, "active")
    process.set_up()
    assert {n: os.environ[n] for n in process.USERS_OWN & os.environ.keys()} == {name: "active"}


def test_ctrl_c_stays_ignored_in_the_background():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.set_up()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
