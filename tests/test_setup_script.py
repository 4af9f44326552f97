"""setup_script.sh in a copy of the repository, with an interpreter that only notes its calls."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.system.files import REPOSITORY

pytestmark = pytest.mark.skipif(
    sys.platform == "win32",
    reason="a script for bash; docs/install.md has the commands for Windows",
)

# Stands for python3 and for .venv/bin/python: writes its arguments down; "-m venv" puts a copy of
# it into .venv.  $STUB_FAILS names the module that exits with status 1, or "old" for a Python that
# is too old.
STUB = """\
#!/usr/bin/env bash
case "$1 ${2:-}" in
"-c "*) [[ ${STUB_FAILS:-} != old ]] && exit 0 || exit 1 ;;
"--version "*) echo Python 3.11.0; exit ;;
"-m pip") [[ $3 == --version ]] && exit ;;
"-m venv") rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
esac
echo "$@" >> calls.txt
if [[ -n ${STUB_FAILS:-} && $* == *$STUB_FAILS* ]]; then
    echo "ERROR: the stub fails"
    exit 1
fi
"""

PIP = "-m pip install --disable-pip-version-check -r"
TESTS = "-m pytest -n 3 --dist worksteal --durations 10"
DEMO = "A2S2KResNet/A2S2KResNet.py -d IN -i 1"


class Copy:
    """A repository of which only the script and the requirements are there."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a repository"
        self.root.mkdir()
        for name in ["setup_script.sh", "requirements.txt", "requirements-test.txt"]:
            shutil.copy(REPOSITORY / name, self.root)
        self.python = folder / "stub python"
        self.python.write_text(STUB, "utf-8")
        self.python.chmod(0o755)

    def run(self, *arguments: str, cwd: Path | None = None, python: str | None = None, fails=""):
        """The finished process; what the stub was called with is then in `calls`."""
        environment = os.environ | {"PYTHON": python or str(self.python), "STUB_FAILS": fails}
        calls = self.root / "calls.txt"
        calls.write_text("", "utf-8")
        process = subprocess.run(
            ["bash", str(self.root / "setup_script.sh"), *arguments],
            cwd=cwd or self.root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.calls = calls.read_text("utf-8").splitlines()
        return process


@pytest.fixture
def copy(tmp_path):
    return Copy(tmp_path)


def test_syntax():
    subprocess.run(["bash", "-n", str(REPOSITORY / "setup_script.sh")], check=True)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help(copy, flag):
    process = copy.run(flag)
    assert process.returncode == 0
    assert process.stdout.startswith("usage: ")
    assert copy.calls == []


@pytest.mark.parametrize("arguments", [["trial"], ["IN", "UP"], ["demo", "-e", "3"], ["", "x"]])
def test_unknown_mode(copy, arguments):
    process = copy.run(*arguments)
    assert process.returncode == 2
    assert process.stderr.startswith(f"setup_script.sh: error: '{' '.join(arguments)}': ")
    assert process.stderr.count("\n") == 1
    assert copy.calls == []


def test_no_mode_makes_venv_once_and_fetches_the_scenes(copy, tmp_path):
    process = copy.run(cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert copy.calls == [
        "-m venv --clear .venv",
        f"{PIP} requirements.txt",
        "-m common download",
    ]
    assert process.stdout.endswith(
        "\n.venv is ready, with Python 3.11.0: source .venv/bin/activate\n"
    )
    process = copy.run(cwd=Path("/"))
    assert copy.calls == ["-m common download"]
    assert f"it was there already, so PYTHON={copy.python} was not used" in process.stdout


def test_python_relative_to_the_working_directory(copy, tmp_path):
    process = copy.run(cwd=tmp_path, python="./stub python")
    assert process.returncode == 0, process.stderr


def test_status_of_the_download_is_passed_on(copy):
    assert copy.run(fails="common download").returncode == 1


def test_demo(copy):
    process = copy.run("demo")
    assert process.returncode == 0, process.stderr
    assert copy.calls[-1].startswith(DEMO)
    assert "--out results/demo" in copy.calls[-1]
    assert process.stdout.splitlines()[-1].startswith("Look at results/demo/report.html")


def test_demo_that_fails_points_nowhere(copy):
    process = copy.run("demo", fails="A2S2KResNet.py")
    assert process.returncode == 1
    assert "Look at" not in process.stdout


def test_test_mode(copy):
    process = copy.run("test", "-k", "a or b")
    assert process.returncode == 0, process.stderr
    checks = ["-m ruff check .", "-m ruff format --check .", f"{TESTS} -k a or b"]
    assert copy.calls[1:] == [f"{PIP} requirements-test.txt", *checks]
    copy.run("demo")  # what the tests need holds what the demo needs
    assert len(copy.calls) == 1


@pytest.mark.parametrize("step", ["ruff check", "ruff format", "pytest"])
def test_test_mode_fails_where_one_step_does(copy, step):
    assert copy.run("test", fails=step).returncode == 1
    assert copy.calls[-1].startswith(f"-m {step}")


def test_tests_after_the_demo_install_what_they_need(copy):
    copy.run("demo")
    copy.run("test")
    assert copy.calls[0] == f"{PIP} requirements-test.txt"


def test_changed_requirements_are_installed(copy):
    copy.run()
    with (copy.root / "requirements.txt").open("a", encoding="utf-8") as file:
        file.write("another==1.0\n")
    copy.run()
    assert copy.calls == [f"{PIP} requirements.txt", "-m common download"]


def test_failed_installation_is_told_and_finished_by_the_next_call(copy):
    process = copy.run(fails="pip install")
    assert process.returncode == 1
    assert process.stderr.startswith(
        "setup_script.sh: pip could not install requirements.txt: ERROR: the stub fails"
    )
    assert process.stderr.count("\n") == 1
    assert copy.run().returncode == 0
    assert copy.calls == [f"{PIP} requirements.txt", "-m common download"]


def test_half_made_venv_is_made_anew(copy):
    (copy.root / ".venv/bin").mkdir(parents=True)
    (copy.root / ".venv/bin/python").symlink_to("/nowhere/python3")
    assert copy.run().returncode == 0
    assert copy.calls[0] == "-m venv --clear .venv"


def test_python_that_is_too_old(copy):
    process = copy.run(fails="old")
    assert process.returncode == 1
    assert "no Python >= 3.11" in process.stderr
    assert process.stderr.count("\n") == 1
