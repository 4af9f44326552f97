"""README and docs/: short enough, with links that lead somewhere and paths that exist."""

import re

import pytest

from common.__main__ import PROGRAMS
from common.system.files import REPOSITORY
from tests.docs.pages import PAGES, name_of, page

FOLDERS = "A2S2KResNet|SSRN|baselines|benchmarks|common|docs|figs|results|studies|tests"
OTHERS = [path for f in ("benchmarks", "common") for path in (REPOSITORY / f).rglob("*.md")]
every_page = pytest.mark.parametrize("path", PAGES, ids=name_of)


def test_readme_is_read_in_one_sitting():
    assert len(page("README.md").splitlines()) <= 200


def test_readme_links_every_page():
    linked = set(re.findall(r"\((docs/[\w-]+\.md|\w+\.md)\)", page("README.md")))
    assert linked >= {name_of(path) for path in PAGES} - {"README.md"}


def without_code(text: str) -> str:
    return re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)


def anchors(text: str) -> set[str]:
    """What GitHub calls the headings."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", [*PAGES, *OTHERS], ids=name_of)
def test_relative_links_lead_somewhere(path):
    for link in re.findall(r"\]\(((?!https?:)[^)]+)\)", without_code(path.read_text("utf-8"))):
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert target.is_relative_to(REPOSITORY), link
        if anchor:
            assert anchor in anchors(target.read_text("utf-8")), link


@every_page
def test_paths_in_the_text_exist(path):
    for name in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", path.read_text("utf-8")):
        one_s_own = name.startswith("results/") and not name.startswith("results/published")
        assert one_s_own or (REPOSITORY / name).exists() or name == "SVM/SVM.py", name


@every_page
def test_programs_that_the_text_names_exist(path):
    named = set(re.findall(r"python -m common (\w+)", path.read_text("utf-8")))
    assert named <= {*PROGRAMS, "COMMAND"}


@every_page
def test_tables_have_as_many_cells_in_every_row(path):
    text = re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)
    for table in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        head, rule, *_ = lines = table.splitlines()
        assert re.fullmatch(r"\|( *:?-+:? *\|)+", rule), head
        assert len({line.count("|") for line in lines}) == 1, head


@every_page
def test_every_page_has_one_title_and_closes_its_code(path):
    text = path.read_text("utf-8")
    assert text.startswith("# ")
    assert len(re.findall(r"^# ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)) == 1
    assert len(re.findall(r"^```", text, re.MULTILINE)) % 2 == 0
