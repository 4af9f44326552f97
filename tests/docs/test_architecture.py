"""docs/architecture.md draws the imports that there are, and leads to what there is."""

import re

import pytest

from common.system.files import REPOSITORY
from tests.docs.pages import blocks, code, page, rows
from tests.test_imports import FLOORS, imported

PAGE = page("docs/architecture.md")
NETWORKS = ("A2S2KResNet", "SSRN", "baselines")


def imports() -> dict[str, set[str]]:
    """Which folders, or files at its root, of common/ each of them imports from."""
    found = {"networks": set()}
    for name in NETWORKS:
        for path in (REPOSITORY / name).rglob("*.py"):
            found["networks"] |= imported(path)
    for name in FLOORS:
        folder = REPOSITORY / "common" / name
        paths = folder.rglob("*.py") if folder.is_dir() else [folder.with_suffix(".py")]
        found[name] = set().union(*map(imported, paths)) - {name}
    return found


def without_what_follows(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """The edges of a graph without circles that no path of others stands for."""

    def reached(start: str) -> set[str]:
        return edges[start].union(*map(reached, edges[start]))

    return {
        (start, end)
        for start, ends in edges.items()
        for end in ends
        if not any(end in reached(other) for other in ends - {end})
    }


def test_the_drawing_is_of_the_imports():
    (drawing,) = blocks(PAGE, "mermaid")
    assert drawing.startswith("flowchart TD\n")
    drawn = set(re.findall(r"^ +(\w+) --> (\w+)", drawing, flags=re.MULTILINE))
    real = without_what_follows(imports())
    lines = "\n".join(f"    {start} --> {end}" for start, end in sorted(real))
    assert drawn == real, f"these are the arrows of docs/architecture.md now:\n{lines}"


def test_every_line_of_the_drawing_is_an_arrow_or_a_name():
    (drawing,) = blocks(PAGE, "mermaid")
    node = r'\w+(\["[\w./ ]+"\])?'
    for line in drawing.splitlines()[1:]:
        assert re.fullmatch(rf"    {node}( --> {node})?", line), line


def test_every_folder_is_told_of():
    told = {name for row in rows(PAGE) if len(row) == 2 for name in code(row[0])}
    folders = {f"common/{n}/" for n in FLOORS if (REPOSITORY / "common" / n).is_dir()}
    assert told == folders | {
        f"{n}/" for n in (*NETWORKS, "studies", "benchmarks", "figs", "weights", "tests")
    }


WHERE = [row for row in rows(PAGE) if len(row) == 3 and "](" in row[1]]


@pytest.mark.parametrize("row", WHERE, ids=lambda row: row[0])
def test_what_is_to_be_changed_is_there(row):
    links, (name,) = re.findall(r"\]\(\.\./([^)]+)\)", row[1]), code(row[2])
    assert any(name in (REPOSITORY / link).read_text("utf-8") for link in links), (links, name)


def test_what_a_pixel_goes_through_is_there():
    steps = re.findall(r"`([\w.]+)`\s+in\s+\[[^\]]+\]\(\.\./([^)]+)\)", PAGE)
    assert len(steps) > 8
    for name, file in steps:
        text = (REPOSITORY / file).read_text("utf-8")
        assert re.search(rf"(def|class) {name.split('.')[-1]}\b", text), (name, file)
