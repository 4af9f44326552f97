"""Every command that a reader would type is one that there is, with flags that it takes."""

import ast
import importlib
import importlib.util
import re
import shlex

import pytest
import yaml

from A2S2KResNet import A2S2KResNet
from baselines import CNN, SAE, SVM
from common.__main__ import PROGRAMS
from common.run.cli import read_settings
from common.system.files import REPOSITORY
from SSRN import CNNL, SPA, SPC, SSRN, SSRNKeras, SSRNLeaky
from tests.docs.pages import PAGES, blocks, name_of, page

MODULES = (A2S2KResNet, CNN, SAE, SVM, CNNL, SPA, SPC, SSRN, SSRNKeras, SSRNLeaky)
SCRIPTS = {f"{module.__name__.replace('.', '/')}.py": module.DEFAULTS for module in MODULES}
WINDOWS_ONLY = (r".venv\Scripts\Activate.ps1", "$env:PYTHONUTF8 = 1")
MODES = ([], ["demo"], ["test"])


def commands(text: str) -> list[str]:
    """Commands of the blocks for a shell, one per line, without comments."""
    lines = []
    for language in ("sh", "powershell"):
        for block in blocks(text, language):
            lines += block.replace("\\\n", " ").replace("&&", "\n").splitlines()
    return [line.partition("  #")[0].strip() for line in lines]


COMMANDS = sorted({(name_of(path), c) for path in PAGES for c in commands(path.read_text("utf-8"))})


@pytest.mark.parametrize(("where", "command"), COMMANDS)
def test_command(where, command, capsys, monkeypatch):
    if command in WINDOWS_ONLY:
        return
    # there may be no GPU
    monkeypatch.setattr("common.system.device.choose_device", lambda name: None)
    program, *words = shlex.split(command.removeprefix(".venv/bin/"))
    if program == "python" and words[0] in SCRIPTS:
        read_settings(SCRIPTS[words[0]], words[1:])
    elif program == "python" and words[0] == "-m":
        check_module(words[1], words[2:], capsys)
    elif program == "python" and words[0] == "-c":
        ast.parse(words[1])
    elif program == "python":
        assert (REPOSITORY / words[0]).is_file()
    elif program == "bash":
        assert words[0] == "setup_script.sh" and words[1:2] in MODES
        check_paths(words[2:])
    elif program == "conda":
        check_conda(words)
    elif program == "py":
        assert words == ["-3.11", "-m", "venv", ".venv"]
    else:
        assert program in ("ruff", "source"), f"{where}: how is this command to be checked?"


def check_module(module: str, words: list[str], capsys) -> None:
    """Check what follows ``python -m``."""
    if module == "pip":
        assert words[0] == "install"
        pinned = "".join(
            (REPOSITORY / f"requirements{n}.txt").read_text("utf-8") for n in ("", "-test")
        )
        if words[1] == "-r":
            assert (REPOSITORY / words[2]).is_file()
        else:
            assert set(words[1:]) <= set(pinned.split())
    elif module == "common" and words != ["--help"]:
        program = importlib.import_module(PROGRAMS[words[0]][0])
        with pytest.raises(SystemExit) as end:
            program.main(["--help"])
        assert end.value.code == 0
        flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {word for word in words if word.startswith("--")} <= flags
    elif module == "pytest":
        check_paths(words)
    else:
        assert importlib.util.find_spec(module) is not None


def check_paths(words: list[str]) -> None:
    """What is no flag, nor a flag's value, is a path."""
    for word in words:
        of_a_flag = word.startswith("-") or word in ("slow", "auto")
        assert of_a_flag or (REPOSITORY / word).exists(), word


def check_conda(words: list[str]) -> None:
    """The environment is made from its file, and activated by its name."""
    if words[0] == "env":
        assert words == ["env", "create", "-f", "environment.yml"]
    else:
        environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text("utf-8"))
        assert words == ["activate", environment["name"]]


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 40
    assert {"sh", "powershell"} <= set(re.findall(r"^```(\w+)", page("docs/install.md"), re.M))


def test_the_demo_without_bash_is_that_of_the_setup_script():
    (flags,) = re.findall(
        r"DEMO_FLAGS=\((.*)\)", (REPOSITORY / "setup_script.sh").read_text("utf-8")
    )
    assert f"python A2S2KResNet/A2S2KResNet.py {flags}\n" in page("docs/install.md")


@pytest.mark.parametrize("out", sorted((REPOSITORY / "results" / "published").glob("*/")))
def test_runs_on_random_splits_are_listed_with_their_command(out):
    listed = out.name.endswith(("_disjoint", "_dase"))  # told in words
    assert listed or f"--out results/published/{out.name}\n" in page("docs/results.md")
