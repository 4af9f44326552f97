"""The tables of README and docs/ are made from what was run and measured."""

import dataclasses
import importlib
import json
import re
import shutil
import subprocess

import pytest

from common.reporting.read_results import read_outcome
from common.reporting.report_text import report_text
from common.reporting.resume import WITHOUT_EFFECT
from common.run.cli import read_settings
from common.system.files import REPOSITORY
from common.tables import readme_tables
from figs.make_figures import RESULTS
from tests.docs.pages import page

PUBLISHED = REPOSITORY / "results" / "published"


def test_tables_are_made_from_the_reports():
    assert readme_tables.main(["--check"]) == 0


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the repository, as far as tables need it."""
    for folder in ("results/published", "benchmarks/results", "docs", "studies"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    for name in ("README.md", "common/fast/README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / name)
    monkeypatch.setattr(readme_tables, "REPOSITORY", tmp_path)
    return tmp_path


@pytest.mark.parametrize("table", readme_tables.FILES)
def test_an_old_table_is_noticed(table, copy, capsys):
    file, end = readme_tables.FILES[table], readme_tables.END.format(table)
    old = page(file).replace(end, "| made up |\n" + end)
    assert old != page(file)
    (copy / file).write_text(old, "utf-8")
    assert readme_tables.main(["--check"]) == 1
    assert f"{file}: its tables are old" in capsys.readouterr().err
    assert readme_tables.main([]) == 0
    assert (copy / file).read_text("utf-8") == page(file)


def test_a_missing_mark_or_page_is_told_in_one_line(copy, capsys):
    readme = copy / "README.md"
    readme.write_text(page("README.md").replace(readme_tables.END.format("headline"), ""), "utf-8")
    assert readme_tables.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "README.md" in line and "headline" in line
    readme.unlink()
    assert readme_tables.main([]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "README.md: no such file" in line


@pytest.mark.parametrize(
    "path", sorted(PUBLISHED.glob("*/report.json")), ids=lambda p: p.parent.name
)
def test_published_texts_say_what_the_reports_hold(path):
    assert path.with_name("report.txt").read_text("utf-8") == report_text(
        json.loads(path.read_text("utf-8"))
    )


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/")), ids=lambda p: p.name)
def test_published_results_are_whole_enough_for_a_page(path):
    outcome = read_outcome(path)
    assert outcome.ground_truth is not None
    assert all(it.split is not None for it in outcome.iterations)
    if path == RESULTS:  # the run of the README's picture
        assert outcome.false_colour is not None
        assert all(it.history and it.attention for it in outcome.iterations)


def test_nothing_that_is_ignored_is_kept():
    command = ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git repository")
    assert done.stdout == ""


def test_every_published_run_is_in_a_table():
    tables = page("docs/results.md") + page("docs/splits.md")
    linked = set(re.findall(r"\(\.\./results/published/(\w+)/report\.txt\)", tables))
    assert linked == {path.parent.name for path in PUBLISHED.glob("*/report.json")}


@pytest.mark.parametrize("name", readme_tables.HEADLINE)
def test_commands_of_the_readme_are_those_of_the_published_runs(name):
    _, command = readme_tables.HEADLINE[name]
    script, *flags = command.split()
    module = importlib.import_module(script.removesuffix(".py").replace("/", "."))
    meant = dataclasses.asdict(read_settings(module.DEFAULTS, flags))
    run = json.loads((PUBLISHED / name / "report.json").read_text("utf-8"))["settings"]
    left_out = {*WITHOUT_EFFECT, "map"}
    assert {k: v for k, v in meant.items() if k in run.keys() - left_out} == {
        k: v for k, v in run.items() if k not in left_out
    }


def test_one_row_of_the_readme_is_the_papers():
    table = page("README.md").partition("<!-- headline: end")[0]
    (row,) = [line for line in table.splitlines() if line.startswith("| **")]
    assert "as in its paper" in row
    assert row.endswith("| `python A2S2KResNet/A2S2KResNet.py -d IN -i 5` |")
