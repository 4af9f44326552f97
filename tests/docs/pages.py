"""The pages of the documentation, and what stands in them."""

import re
from pathlib import Path

from common.system.files import REPOSITORY

NAMES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
PAGES = [*(REPOSITORY / name for name in NAMES), *sorted((REPOSITORY / "docs").glob("*.md"))]


def page(name: str) -> str:
    """The text of a page, named from the repository's root."""
    return (REPOSITORY / name).read_text("utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """What stands between ```language and ```."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def rows(text: str) -> list[list[str]]:
    """Cells of all rows of all tables, their heads included."""
    lines = re.findall(r"^\|(.*)\|$", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split("|")] for line in lines]


def code(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)
