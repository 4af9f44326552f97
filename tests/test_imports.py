"""Data flows one way: a module imports only from those that common/__init__.py names before it."""

import ast
import re

import common
from common.files import REPOSITORY

FOLDER = REPOSITORY / "common"
ORDER = re.findall(r"\w+", "".join(re.findall(r"^    (.*)$", common.__doc__, flags=re.MULTILINE)))


def test_every_module_is_named_once():
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def test_modules_import_only_from_those_before_them():
    for position, module in enumerate(ORDER):
        tree = ast.parse((FOLDER / f"{module}.py").read_text())
        imported = {
            node.module.removeprefix("common.")
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module.startswith("common.")
        }
        assert imported <= set(ORDER[:position]), module
