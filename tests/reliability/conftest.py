"""How often a fault is tried, and what is known once it has been."""

import json
from collections.abc import Callable

import pytest
import torch

from common.system.device import describe_environment
from common.system.files import REPOSITORY, write_file

FIGURES = pytest.StashKey[dict]()


def pytest_configure(config):
    if config.getoption("--full") and hasattr(config, "workerinput"):
        raise pytest.UsageError("--full counts what one process tries: without -n")
    config.stash[FIGURES] = {}


@pytest.fixture(scope="session")
def often(request) -> Callable[[int, int], int]:
    """Choose how often: ``often(in_every_run, in_full)``."""
    return lambda short, full: full if request.config.getoption("--full") else short


@pytest.fixture
def tried(request) -> Callable[..., None]:
    """Note a fault that a test has tried, as its last line, when all it asserts has held.

    ``tried(fault, how, times, lost)``: the fault and how it was brought about, in the
    words of docs/reliability.md, and what was lost.  Notes of the same fault add up.
    """

    def note(fault: str, how: str, times: int, lost: str = "nothing") -> None:
        figures = request.config.stash[FIGURES]
        figure = figures.setdefault(fault, {"how": how, "times": 0, "lost": lost})
        assert (figure["how"], figure["lost"]) == (how, lost)
        figure["times"] += times

    return note


def pytest_sessionfinish(session, exitstatus):
    whole = session.config.args == ["tests/reliability"] and not session.config.option.keyword
    if session.config.getoption("--full") and whole and exitstatus == 0:
        found = {
            "environment": describe_environment(torch.device("cpu")),
            "faults": session.config.stash[FIGURES],
        }
        path = REPOSITORY / "results" / "published" / "reliability.json"
        write_file(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
