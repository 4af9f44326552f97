"""What a user sees first comes before PyTorch and the like are loaded, which takes seconds."""

import subprocess
import sys

import pytest

from benchmarks.first_contact import HELP, REFUSED, SCRIPTS
from common.run.cli import build_parser, set_up
from common.settings import Settings
from common.system import process
from common.system.device import PRECISIONS
from common.system.files import REPOSITORY
from common.training.optimizers import OPTIMIZERS

LARGE = ("torch", "numba", "matplotlib", "sklearn", "scipy", "onnx", "rasterio", "tensorly")
WITHOUT_THEM = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({LARGE}))  # so that to import one fails
sys.argv = sys.argv[1:]
if sys.argv[0] == "-m":
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
else:
    runpy.run_path(sys.argv[0], run_name="__main__")
"""


def answer(command: list[str]) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_THEM, *command]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("command", HELP.values(), ids=HELP)
def test_help_loads_nothing_large(command):
    told = answer(command)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("usage: ") and not told.stderr


@pytest.mark.parametrize("command", REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_large_is_loaded(command):
    told = answer(command)
    assert told.returncode == 2, told.stderr
    (line,) = told.stderr.splitlines()
    assert "error: " in line and not told.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_set_up_before_it_imports_packages(script):
    """Even where a package is imported by the project's own modules."""
    path = REPOSITORY / script
    head = path.read_text("utf-8").partition("set_up(__name__, DEFAULTS)")[0]
    lines = [line for line in head.splitlines() if line.startswith(("import ", "from "))]
    modules = {line.split()[1].partition(".")[0] for line in lines}
    assert modules <= {*sys.stdlib_module_names, "common"}


def test_what_is_large_is_needed_to_train():
    """The other tests' way to forbid a package works."""
    told = answer(["A2S2KResNet/A2S2KResNet.py", "-d", "IN"])
    assert told.returncode == 1 and "import of torch halted" in told.stderr


def test_an_import_sets_nothing_up(monkeypatch):
    monkeypatch.setattr(process, "set_up", lambda: pytest.fail("set up"))
    set_up("SSRN.SSRN", Settings("SSRN", dataset="absent.yaml"))


def test_flags_name_all_that_there_is():
    choices = {action.dest: action.choices for action in build_parser(Settings(""))._actions}
    assert choices["optimizer"] == sorted(OPTIMIZERS)
    assert choices["precision"] == list(PRECISIONS)
