"""Data flows one way: a folder of common/ imports only from those that stand below it."""

import ast
import re

import pytest

import common
from common.system.files import REPOSITORY

FOLDERS = re.findall(r"^    (\w+) ", common.__doc__, flags=re.MULTILINE)
# What is read first serves every folder, and needs none but the lowest.
FLOORS = [*FOLDERS[:-1], "recipe", "layers", "settings", FOLDERS[-1]]


def imported(path) -> set[str]:
    """The folders, or files at the root, of common/ that a file imports from."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
    return {name.split(".")[1] for name in modules if name.startswith("common.")}


def test_every_folder_has_a_floor():
    here = {path.name for path in (REPOSITORY / "common").iterdir() if path.name[0] != "_"}
    assert {name.removesuffix(".py") for name in here} == set(FLOORS)


@pytest.mark.parametrize("floor", FLOORS)
def test_imports_go_down_only(floor):
    folder = REPOSITORY / "common" / floor
    below = FLOORS[FLOORS.index(floor) :] if folder.is_dir() else FLOORS[FLOORS.index(floor) + 1 :]
    for path in folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]:
        assert imported(path) <= set(below), path


def test_the_fast_layers_have_one_door():
    """What the rest may use of fast/ is what its __init__ shows."""
    outside = [p for p in (REPOSITORY / "common").rglob("*.py") if "fast" not in p.parts]
    for path in outside:
        assert not re.search(r"common\.fast\.", path.read_text("utf-8")), path
