"""Names from scene files are text: never a path, a formula or markup, wherever they turn up."""

import csv
import json
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import yaml

import A2S2KResNet.A2S2KResNet
import common.reporting.results_folder
from common.reporting.page import write_page
from common.run.cli import run_script
from common.scenes.array_file import open_array
from common.tables.paper_table import main as paper_table
from common.tables.table_formats import LATEX, csv_text
from tests.reliability.test_flags import Majority
from tests.scenes.test_array_file import save_envi, save_geotiff

FAULT = "hostile names of scenes and classes"
HOW = (
    "paths, markup, LaTeX, formulas, very long names: where results, pages, maps and tables go, "
    "and what they hold"
)
NAMES = [
    "../../x", "/etc/x", "a/b", "..", ".", "~", "-rf", "x" * 300, "ж" * 300, "CON", "a\\..\\b",
    "<script>alert(1)</script>", '"; rm -rf /', "$(touch ran)", "`touch ran`", "{{ 7 * 7 }}",
    "</title><img src=x onerror=alert(1)>", r"\input{/etc/passwd}", "50 % & $x_1^2$ #~{}",
    "=cmd|' /C calc'!A0", "+1+cmd", "@SUM(1)", "-2+3", "a|b*c_[d](javascript:x)", "| --- |", "%s%n",
]  # fmt: skip
UNPRINTABLE = ["a\nb", "a\0b", "\x1b[2J", "a\u202eb", "a\rb", "\t", " ", "", "\ud800", "a\u2028b"]
LABELS = np.arange(len(NAMES) * 8).reshape(-1, 16) % len(NAMES) + 1


def run(*arguments: str) -> int:
    return run_script(Majority, A2S2KResNet.A2S2KResNet.DEFAULTS, ["-i", "1", *arguments])


def scene(folder: Path, cube: str = "cube.npy", file: str = "x.yaml", **names) -> Path:
    """A scene file in a folder of its own, so that what lies around it can be watched."""
    folder.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(0).integers(1, 99, (*LABELS.shape, 8)).astype(np.uint8)
    if cube.endswith("npy"):
        np.save(folder / cube, values)
    elif cube.endswith("tif"):
        save_geotiff(folder / cube, values)
    else:
        save_envi(folder / cube.replace("hdr", "img"), values, metadata={"map info": MAP_INFO})
    np.save(folder / "truth.npy", LABELS)
    content = {"name": "Field", "cube": cube, "ground_truth": "truth.npy"} | names
    (folder / file).write_text(yaml.safe_dump(content), "utf-8")
    return folder / file


MAP_INFO = ["UTM", "1", "1", "500000", "5000000", "10", "10", "33", "North", "WGS-84"]


def paths(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A repository deep in a folder, with its results, and what else was there."""
    repository = tmp_path / "a" / "b" / "repository"
    (repository / "results").mkdir(parents=True)
    monkeypatch.setattr(common.reporting.results_folder, "REPOSITORY", repository)
    monkeypatch.chdir(repository)
    return tmp_path


@pytest.mark.parametrize("name", NAMES)
def test_names_make_no_paths(name, place, tried):
    path = scene(place / "scenes", name=name)
    path = path.rename(path.with_name(f"{name.replace('/', '_').encode()[:240].decode()}.yaml"))
    before = paths(place)
    assert run("-d", str(path)) == 0
    [out] = Path("results").iterdir()
    assert out.name.startswith("A2S2KResNet_")
    inside = f"{out.resolve().relative_to(place)}"
    assert all(new == inside or new.startswith(f"{inside}/") for new in paths(place) - before)
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["scene_name"] == name
    assert not set(report["dataset"]) & set("/\\<>&\"'$`;|*? ")
    assert report["dataset"].strip(".")
    tried(FAULT, HOW, 1)


@pytest.mark.parametrize("key", ["name", "classes"])
def test_names_that_cannot_be_printed_are_refused(key, place, capsys, tried):
    for number, name in enumerate(UNPRINTABLE):
        value = name if key == "name" else [name, *NAMES[1:]]
        path = scene(place / f"{number}", **{key: value})
        before = paths(place)
        assert run("-d", str(path)) == 2
        line = capsys.readouterr().err
        assert line.count("\n") == 1 and line[:-1].isprintable() and f"{number}/x.yaml" in line
        assert paths(place) == before
    tried(FAULT, HOW, len(UNPRINTABLE))


class Texts(HTMLParser):
    """The words of a page, its tags and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.tags, self.attributes = "", set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data):
        self.words += data


@pytest.fixture
def results(place):
    path = scene(place / "scenes", name=NAMES[-5], classes=NAMES)
    assert run("-d", str(path), "--out", "results/out") == 0
    return Path("results/out")


def test_page(results, tried):
    report = json.loads((results / "report.json").read_text("utf-8"))
    report["settings"]["data_dir"] = report["environment"]["device_name"] = NAMES[11]
    (results / "report.json").write_text(json.dumps(report), "utf-8")
    with warnings.catch_warnings(action="error"):  # which would stand on stderr
        write_page(results)
    page = Texts((results / "report.html").read_text("utf-8"))
    assert all(name in page.words for name in NAMES)
    assert not page.tags & {"script", "iframe", "object", "link"}
    assert not any(name.startswith("on") for name in page.attributes)
    tried(FAULT, HOW, len(NAMES))


@pytest.mark.parametrize("ending", ["md", "tex", "csv"])
def test_tables(ending, results, capsys, tried):
    before = paths(Path())
    assert paper_table([str(results), "--out", f"table.{ending}"]) == 0
    assert {f"table.{ending}"} == paths(Path()) - before
    text = Path(f"table.{ending}").read_text("utf-8")
    if ending == "csv":
        rows = list(csv.reader(text.splitlines()))
        assert [row[0].removeprefix("'") for row in rows[1 : len(NAMES) + 1]] == NAMES
        for cell in (cell for row in rows for cell in row if cell[:1] in tuple("=+-@")):
            float(cell)
        return
    if ending == "tex":
        bare = text
        for escaped in sorted(LATEX.values(), key=len, reverse=True):
            bare = bare.replace(escaped, "")
        body = bare.partition(r"\midrule")[2].partition(r"\midrule")[0]
        rows = [line.removesuffix(r" \\") for line in body.strip().splitlines()]
        assert len(rows) == len(NAMES)
        assert all(row.count("&") == 2 and not set(row) & set("\\%$#_{}~^") for row in rows)
    else:
        tables = [part for part in text.split("\n\n") if part.startswith("|")]
        accuracies, classes, costs = (table.strip().splitlines() for table in tables)
        assert (len(accuracies), len(classes), len(costs)) == (len(NAMES) + 6, len(NAMES) + 2, 3)
        for table, bars in ((accuracies, 4), (classes, 4), (costs, 9)):
            assert {line.replace(r"\|", "").count("|") for line in table} == {bars}
        assert "<script" not in text.replace(r"\<", "")
    tried(FAULT, HOW, len(NAMES))


def test_numbers_in_csv_stay_numbers():
    row = ["-1.5", "+2", -3, None, "", "=1", "-x", " @a", "1-2"]
    assert csv_text(["-h"], [row]) == "'-h\n-1.5,+2,-3,,,'=1,'-x,' @a,1-2\n"


@pytest.mark.parametrize("cube", ["cube.tif", "cube.hdr"])
def test_maps_at_a_place(cube, place, tried):
    path = scene(place / "scenes", cube=cube, classes=NAMES)
    assert run("-d", str(path), "--out", "results/out", "--map", "all") == 0
    run_0 = Path("results/out/run_0")
    written = open_array(run_0 / f"map.{cube[-3:]}")
    np.testing.assert_array_equal(written.read(), np.load(run_0 / "map.npy"))
    assert written.georeference is not None
    tried(FAULT, HOW, len(NAMES))
