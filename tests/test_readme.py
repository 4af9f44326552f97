"""The README says what the project does: its table, its flags, its files."""

import json
import re
import shutil

import pytest

from A2S2KResNet.A2S2KResNet import DEFAULTS
from common import results_table
from common.cli import build_parser
from common.files import REPOSITORY
from common.report import report_text

PUBLISHED = REPOSITORY / "results" / "published"
README = (REPOSITORY / "README.md").read_text()


def test_results_table_is_made_from_the_reports():
    assert results_table.main(["--check"]) == 0


@pytest.mark.parametrize("table", ["results", "speed"])
def test_an_old_table_is_noticed(table, tmp_path, monkeypatch, capsys):
    end = results_table.END.format(table)
    old = README.replace(end, "| made up |\n" + end)
    assert old != README
    (tmp_path / "README.md").write_text(old)
    for folder in ("results/published", "benchmarks/results"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder)
    monkeypatch.setattr(results_table, "REPOSITORY", tmp_path)
    assert results_table.main(["--check"]) == 1
    assert "its tables are old" in capsys.readouterr().err
    assert results_table.main([]) == 0
    assert (tmp_path / "README.md").read_text() == README


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*/report.json")))
def test_published_texts_say_what_the_reports_hold(path):
    assert path.with_name("report.txt").read_text() == report_text(json.loads(path.read_text()))


def test_flag_table_lists_every_flag_and_no_other():
    parser = build_parser(DEFAULTS)
    actual = {flag for action in parser._actions for flag in action.option_strings}
    rows = re.findall(r"^\| `-.*?\|", README, flags=re.MULTILINE)
    listed = {flag for row in rows for flag in re.findall(r"`(--?[a-zA-Z_-]+)", row)}
    assert listed == actual - {"-h", "--help"}


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(((?!http)[^)#]+)\)", README))))
def test_linked_files_exist(path):
    assert (REPOSITORY / path).is_file()
