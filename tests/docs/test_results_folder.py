"""docs/results-folder.md lists the files that a run leaves."""

import re

from common.reporting.results_folder import RUN_FILES, prepare_output
from tests.docs.pages import code, page, rows


def listed_files() -> set[str]:
    """The table's files as paths in a results directory, of ``run_<n>`` those of ``run_0``."""
    files = set()
    for row in rows(page("docs/results-folder.md")):
        folder = ""
        for name in re.findall(r"`((?:run_<n>/)?\w+(?:\.\w+)+)`", " ".join(row)):
            folder = "run_0/" if name.startswith("run_<n>/") else folder
            files.add(folder + name.removeprefix("run_<n>/"))
    return files


def test_files_of_an_iteration_are_listed():
    of_iteration = {name.removeprefix("run_0/") for name in listed_files() if "/" in name}
    assert of_iteration == set(RUN_FILES)


def test_files_of_the_run_are_those_that_overwrite_replaces(tmp_path):
    of_run = {name for name in listed_files() if "/" not in name}
    for name in (*of_run, "one's own"):
        (tmp_path / name).write_text("", "utf-8")
    prepare_output(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one's own"]


def test_figures_are_in_a_folder_of_their_own():
    assert ["figures/"] in [code(row[0]) for row in rows(page("docs/results-folder.md"))]
