"""What would go wrong on Windows: Unix's modules, an encoding left to the system, its terminal."""

import ast
import io
import subprocess
import sys

import pytest

from common.system.errors import run_program
from common.system.files import REPOSITORY

UNIX_ONLY = {"fcntl", "grp", "pty", "pwd", "resource", "termios", "tty"}
PROGRAMS = ["A2S2KResNet", "SSRN", "baselines", "benchmarks", "common", "figs"]
FILES = [path for folder in PROGRAMS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def test_modules_of_unix_are_imported_where_their_absence_is_caught():
    for path in FILES:
        for node in ast.parse(path.read_text("utf-8")).body:  # not what stands in a `try`
            names = {alias.name for alias in getattr(node, "names", ())} | {
                getattr(node, "module", None)
            }
            assert not (isinstance(node, ast.Import | ast.ImportFrom) and names & UNIX_ONLY), path


def test_texts_are_read_and_written_in_an_encoding_that_is_named():
    """Of `open` the linter sees to it (PLW1514); of these it knows not whether they are paths."""
    for path in FILES + TESTS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                positional = {"read_text": 0, "write_text": 1}.get(node.func.attr)
                named = any(keyword.arg == "encoding" for keyword in node.keywords)
                enough = positional is None or named or len(node.args) > positional
                assert enough, f"{path}, line {node.lineno}"


def test_characters_that_a_terminal_lacks_are_replaced(monkeypatch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    for name in ("stdout", "__stdout__"):
        monkeypatch.setattr(sys, name, terminal)
    assert run_program("x", lambda: print("κ of Mühle"), interrupted="") == 0
    terminal.flush()
    assert terminal.buffer.getvalue().decode("cp1252").strip() == "? of Mühle"


@pytest.mark.skipif(sys.platform == "win32", reason="hides Unix's modules; here there are none")
def test_a_lock_without_fcntl(tmp_path):
    """The way of Windows, with a stand-in for its module: one process at a time."""
    (tmp_path / "msvcrt.py").write_text(
        "LK_NBLCK, taken = 2, []\n"
        "def locking(descriptor, mode, size):\n"
        "    if taken:\n"
        "        raise PermissionError(13, 'Permission denied')\n"
        "    taken.append(descriptor)\n",
        "utf-8",
    )
    code = """
import sys
from pathlib import Path
sys.modules["fcntl"] = None
from common.system.files import locked
with locked(Path(sys.argv[1])) as first, locked(Path(sys.argv[1])) as second:
    print(first, second)
print(Path(sys.argv[1]).exists())
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "lock")],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "False", "False"], done.stderr
