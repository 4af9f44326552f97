"""A study makes every run once, goes on where it stopped, and says what it could not run."""

import contextlib
import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import yaml

from common.reporting.read_results import read_outcome
from common.run.study import main, read_study
from common.samples.make_splits import make_splits
from common.samples.random_split import training_count
from common.scenes.scene import load_scene
from common.scenes.scene_file import describe
from common.system.errors import InputError
from common.system.files import REPOSITORY, locked
from common.tables.curve_points import read_points
from common.tables.study_figure import maps_figure
from common.tables.study_table import (
    FIGURES,
    Published,
    Row,
    comparison_table,
    scores_of_maps,
)
from tests.conftest import toy_labels
from tests.results import bits
from tests.tables.test_paper_table import LABELS, change_report, write_results

QUICK = "-e 1 -k 4 -p 2 --precision fp32"
STUDY = {
    "name": "Two systems",
    "flags": "-i 1",
    "scenes": {"UP": None, "KSC": None},
    "methods": {"SVM": "baselines/SVM.py", "SSRN": f"SSRN/SSRN.py {QUICK}"},
    "published": {"source": "nowhere", "UP": {"SVM": [88.3, None, 80]}},
}


@pytest.fixture
def study(tmp_path, toy_data):
    content = STUDY | {"flags": f"-i 1 --data-dir {toy_data}"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return tmp_path


@pytest.fixture
def study_of_one(tmp_path, toy_data):
    content = {
        "flags": f"-i 1 --data-dir {toy_data} --map none",
        "scenes": {"UP": None},
        "methods": {"SVM": "baselines/SVM.py"},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content), "utf-8")
    return tmp_path


def command(folder) -> list[str]:
    return [
        str(folder / "study.yaml"),
        "--out",
        str(folder / "out"),
        "--runs",
        str(folder / "runs"),
    ]


def test_a_study_from_start_to_end(study, capsys):
    assert main(command(study)) == 0
    said = capsys.readouterr().err
    assert "[1/4 SVM on UP]" in said
    with (study / "out" / "table.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["scene"], row["method"]) for row in rows] == [
        ("UP", "SVM"),
        ("UP", "SSRN"),
        ("KSC", "SVM"),
        ("KSC", "SSRN"),
    ]
    runs = {path.name.split("_")[0]: path for path in (study / "runs").iterdir()}
    report = json.loads((runs["SVM"] / "report.json").read_text("utf-8"))
    assert float(rows[0]["oa"]) == pytest.approx(100 * report["oa_mean"], abs=1e-4)
    assert rows[0]["oa_published"] == "88.3"
    assert rows[0]["aa_published"] == ""
    assert rows[2]["not_run"] == "KSC.mat missing"
    table = (study / "out" / "table.md").read_text("utf-8")
    difference = 100 * report["oa_mean"] - 88.3
    assert f"{difference:+.2f}".replace("-", "−") in table
    assert "SVM: not run: KSC.mat missing" in table
    for name in ("table.tex", "UP_maps.png", "UP_maps.pdf", "study.html"):
        assert (study / "out" / name).stat().st_size > 1000
    assert not (study / "out" / "KSC_maps.png").exists()

    before = {path: path.stat().st_mtime_ns for path in (study / "runs").rglob("*")}
    assert main(command(study)) == 0  # nothing is left to do
    assert "finished already" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (study / "runs").rglob("*")} == before


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_an_interrupted_study_goes_on(study_of_one):
    study = study_of_one
    with subprocess.Popen(
        [sys.executable, "-m", "common", "study", *command(study)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "[1/1" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        *_, last = process.stderr.read().splitlines()
        assert process.wait() == 143
    assert last.endswith(
        "interrupted; go on with: "
        + shlex.join([sys.executable, "-m", "common", "study", *command(study)])
    )
    assert main(command(study)) == 0
    assert (study / "out" / "study.html").is_file()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("with_its_run", [True, False])
def test_a_study_killed_anywhere_goes_on_to_the_same_bits(tmp_path, toy_data, with_its_run):
    content = {
        "flags": f"-i 2 --data-dir {toy_data}",
        "scenes": {"UP": None},
        "methods": {"SSRN": f"SSRN/SSRN.py {QUICK.replace('-e 1', '-e 4')}"},
    }
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content), "utf-8")
    whole = [*command(tmp_path)[:-1], str(tmp_path / "whole")]
    assert main(whole) == 0
    for seconds in np.random.default_rng(0).uniform(1, 8, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "common", "study", *command(tmp_path)],
            cwd=REPOSITORY,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        (os.killpg if with_its_run else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
    assert main(command(tmp_path)) == 0  # if need be after the run that was left behind
    (run,) = (tmp_path / "runs").iterdir()
    assert bits(run) == bits(tmp_path / "whole" / run.name)


@pytest.mark.slow
def test_waits_for_another_process_that_makes_the_same_run(study_of_one, capsys, monkeypatch):
    study = study_of_one
    monkeypatch.setattr("common.run.study.WAIT", 0.05)
    directory = read_study(study / "study.yaml").runs[0].directory(study / "runs")
    directory.mkdir(parents=True)
    with contextlib.ExitStack() as other:
        assert other.enter_context(locked(directory / ".lock"))
        threading.Timer(0.5, other.close).start()
        assert main(command(study)) == 0
    said = capsys.readouterr().err
    assert said.count("[1/1 SVM on UP] waits for another process") == 1
    assert (directory / "report.json").is_file()


@pytest.fixture
def mapped(tmp_path):
    """A results directory that misses 3 and 1 of the 20 labelled pixels in its two iterations."""
    out = write_results(tmp_path / "mapped", [[0, 1, 9], [5]])
    colours, shape = ["#ff0000", "#00ff00", "#0000ff"], [*LABELS.shape, 7]
    change_report(out, class_colours=colours, shape=shape, test_seconds=[1, 1], train_seconds=[])
    return out


def test_published_figures_of_all_labelled_pixels_stand_beside_ours_of_the_same(mapped):
    assert [result.oa for result in scores_of_maps(read_outcome(mapped))] == [0.85, 0.95]
    rows = [Row("SSRN", "", mapped, published=(89.5, None, None))]
    for pixels, oa, difference in (
        ("test", "87.50 ± 6.25", "−2.00"),
        ("labelled", "90.00 ± 5.00", "+0.50"),
    ):
        table = comparison_table("Both", "UP", rows, Published("a map", pixels))
        assert table.rows[0][1:4] == [oa, "89.50", difference]
        assert f"{pixels} pixels" in table.caption and table.notes == ["Published: a map."]


def test_maps_that_leave_labelled_pixels_out_give_no_figures_of_them(mapped):
    label_map = np.load(mapped / "run_1" / "map.npy")
    label_map[0, 0] = 0
    np.save(mapped / "run_1" / "map.npy", label_map)
    assert scores_of_maps(read_outcome(mapped)) == []


def test_the_figure_shows_labels_with_gaps(mapped):
    change_report(mapped, labels_in_maps=[1, 10, 14])
    values = np.array([0, 1, 10, 14])
    for path in (mapped / "gt.npy", *mapped.glob("run_*/map.npy")):
        np.save(path, values[np.load(path)])
    assert [result.oa for result in scores_of_maps(read_outcome(mapped))] == [0.85, 0.95]
    figure = maps_figure({"SSRN": mapped})
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["ground truth", "SSRN, 81.25 %"]  # it has no false_color.png
    truth = figure.axes[0].images[0].get_array()
    assert (truth[LABELS == 2] == (0, 255, 0)).all()
    (legend,) = figure.legends
    assert legend.get_texts()[1].get_text().startswith("10 ")


def test_the_ssrn_papers_study_is_its_authors_protocol():
    runs = read_study(REPOSITORY / "studies" / "ssrn_paper.yaml").runs
    methods = ["SVM", "SAE", "CNN", "CNNL", "SPA", "SPC", "SSRN"]
    assert [(run.scene, run.method) for run in runs] == [
        (s, m) for s in ("IN", "UP") for m in methods
    ]
    for run in runs:
        settings = run.settings
        assert (settings.split, settings.seed) == ("authors", 1334)
        expected = (0.8, 0.1) if run.scene == "IN" else (0.9, None)
        assert (settings.valid_split, settings.validation) == expected
        assert settings.recipe == (None if run.method == "SVM" else "authors")


def test_studies_share_a_run(study):
    one = {run.directory(study) for run in read_study(study / "study.yaml").runs}
    other = STUDY | {"scenes": {"UP": "--seed 1331"}, "flags": "-i 1", "published": {}}
    (study / "other.yaml").write_text(yaml.safe_dump(other, sort_keys=False), "utf-8")
    assert {run.directory(study) for run in read_study(study / "other.yaml").runs} < one


def test_a_run_is_another_where_its_initial_weights_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = {"SSRN": "SSRN/SSRN.py --start-from w.pt"}
    study = STUDY | {"methods": methods, "scenes": {"UP": None}, "published": {}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), "utf-8")
    found = set()
    for content in (b"", b"1", b"2", b"1"):
        (tmp_path / "w.pt").write_bytes(content)
        (run,) = read_study(tmp_path / "study.yaml").runs
        found.add(run.directory(tmp_path))
    assert len(found) == 3


VARY = {
    "flags": "-i 2 --map none",
    "splits": {"random": "--split random", "disjoint": "--split disjoint"},
    "vary": {
        "share": {"10 %": "-vs 0.9", "20 %": "-vs 0.8"},
        "number": {5: "--per-class 5", "too many": "--per-class 5 --validation 9999"},
    },
    "scenes": {"UP": None},
    "methods": {"SVM": "baselines/SVM.py", "SSRN": f"SSRN/SSRN.py {QUICK}"},
}


@pytest.fixture
def varied(tmp_path, toy_data, monkeypatch):
    """A study of learning curves, whose runs split the scene, and train nothing."""
    started = []

    def split_only(run, directory, title, *_):
        started.append(title)
        scene = load_scene(run.scene, run.settings.data_dir)
        try:
            splits = make_splits(scene, run.settings)
        except InputError as error:
            return str(error)
        counts = [np.bincount(scene.labels.flat[s.train])[1:].tolist() for s in splits]
        directory.mkdir(parents=True)
        report = {
            "split": {
                "train_per_class": counts,
                "test_sha256": [s.sha256()["test"] for s in splits],
            },
            "environment": {"commit": "abc", "python": "3.11"},
            "test_seconds": [1.0] * len(splits),
            "train_seconds": [1.0] * len(splits),
        }
        report |= {figure: [0.5 + 0.1 * n for n in range(len(splits))] for figure in FIGURES}
        (directory / "report.json").write_text(json.dumps(report), "utf-8")
        (directory / "report.html").touch()
        return ""

    monkeypatch.setattr("common.run.study._train", split_only)
    content = VARY | {"flags": f"{VARY['flags']} --data-dir {toy_data}"}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return tmp_path, started


def test_learning_curves_from_start_to_end(varied, capsys):
    study, started = varied
    assert main(command(study)) == 0
    assert len(started) == 2 * 2 * 4  # methods, splits, points
    assert started[:2] == ["[1/16 SVM on UP, random, 10 %]", "[2/16 SVM on UP, random, 20 %]"]
    points = read_points(study / "out" / "curves.json").points
    by_place = {(p.method, p.split, p.name): p for p in points}
    labelled = np.bincount(toy_labels().ravel())[1:]
    a_tenth = sum(training_count(pixels, 0.9, None) for pixels in labelled)
    assert by_place["SVM", "random", "10 %"].train_pixels == [a_tenth] * 2
    assert by_place["SVM", "random", "5"].train_pixels == [5 * len(labelled)] * 2
    assert by_place["SSRN", "disjoint", "5"].oa == [0.5, 0.6]
    assert by_place["SSRN", "disjoint", "5"].environment["commit"] == "abc"
    table = (study / "out" / "table.md").read_text("utf-8")
    assert "- Not run: SVM; random, too many: --validation 9999: " in table
    for name in ("table.tex", "table.csv", "UP_curves.png", "UP_curves.pdf", "study.html"):
        assert (study / "out" / name).stat().st_size > 1000

    capsys.readouterr()
    assert main(command(study)) == 0  # what was refused is tried again, and nothing else
    assert capsys.readouterr().err.count("finished already") == len(started) - 8 == 12


def test_tables_of_what_is_finished(varied):
    study, started = varied
    assert main(command(study)) == 0
    points = read_points(study / "out" / "curves.json").points
    made = len(started)
    (unfinished,) = {r.directory(study / "runs") for r in read_study(study / "study.yaml").runs[:1]}
    (unfinished / "report.html").unlink()
    assert main([*command(study), "--tables-only"]) == 0
    assert len(started) == made
    left = read_points(study / "out" / "curves.json").points
    assert [point.absent for point in left[:3]] == ["not finished", "", ""]
    assert left[1:3] == points[1:3]


def test_a_point_is_shared_with_studies_that_do_not_vary(study, varied):
    folder, _ = varied
    points = {run.directory(study) for run in read_study(folder / "study.yaml").runs}
    flags = "-i 2 --map none -vs 0.8"
    other = STUDY | {"scenes": {"UP": None}, "flags": flags, "published": {}}
    (study / "other.yaml").write_text(yaml.safe_dump(other, sort_keys=False), "utf-8")
    assert {run.directory(study) for run in read_study(study / "other.yaml").runs} < points


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "studies").glob("*.yaml")), ids=lambda p: p.name
)
def test_studies_of_this_repository_can_be_run(path):
    if "methods:" not in path.read_text("utf-8"):  # a scene of one of them
        assert describe(str(path)).ground_truth is not None
        return
    runs = read_study(path).runs
    assert len({run.directory(REPOSITORY) for run in runs}) == len(runs) > 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"methods": {"SVM": "baselines/SVM.py '"}}, "SVM: baselines/SVM.py '"),
        ({"methods": {"SVM": ""}}, "SVM: : no training script of this repository"),
        ({"published": [1]}, "'published' must hold scenes"),
        ({"published": {"UP": 5}}, "'published' must hold methods for UP"),
        ({"published": {"UP": {"SVM": 5}}}, "figures of SVM on UP must be three"),
        ({"published": {"pixels": "all"}}, "'pixels' of 'published' must be test or labelled"),
        ({"methods": {"X": "X/X.py"}}, "X: X/X.py: no training script of this repository"),
        ({"methods": {"SSRN": "SSRN/SSRN.py -vs 2"}}, "SSRN on UP: argument -vs"),
        (
            {"methods": {"SSRN": "SSRN/SSRN.py --out x"}},
            "SSRN: leave --out, --weights and --cluster out",
        ),
        ({"methods": {}}, "'methods' must hold lines 'name: flags'"),
        ({"published": {"UP": {"CNN": [1, 2, 3]}}}, "'published' has CNN on UP, which is not run"),
        ({"published": {"UP": {"SVM": [1, 2]}}}, "figures of SVM on UP must be three"),
        ({"scene": {}}, "unknown key 'scene'; the keys are"),
        ({"vary": {"1 %": "-vs 0.99"}}, "'published' does not go with 'vary'; leave one out"),
        ({"splits": {"random": ""}}, "'splits' goes with 'vary' only"),
        ({"pairs": [["SVM", "SSRN"]]}, "'pairs' goes with 'vary' only"),
    ],
)
def test_a_wrong_study_is_one_line(change, line, tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(STUDY | change, sort_keys=False), "utf-8")
    assert main([str(path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"python -m common study: error: {path}: ")
    assert line in said


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"vary": None}, "'vary' must hold lines 'name: flags', or series of such lines"),
        ({"vary": {}}, "'vary' must hold lines 'name: flags', or series of such lines"),
        ({"vary": {"a": {"1 %": ""}, "b": "-vs 0.9"}}, "'vary' must hold lines"),
        ({"vary": {"a": {"1": ""}, "b": {1: ""}}}, "'vary' has '1' twice"),
        ({"pairs": {}}, "'pairs' must list pairs"),
        ({"pairs": [[5, 5]]}, "'pairs' has [5, 5]: neither two methods nor two points"),
        ({"pairs": [["5", "SVM"]]}, "'pairs' has ['5', 'SVM']: neither"),
        ({"splits": ["random"]}, "'splits' must hold lines 'name: flags'"),
        ({"vary": {"all": "-vs 2"}}, "SVM on UP, random, all: argument -vs"),
        ({"flags": "-vs 0.9", "vary": {"5": "--per-class 5"}}, "--per-class and -vs both say"),
    ],
)
def test_wrong_learning_curves_are_one_line(change, line, tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(VARY | change, sort_keys=False), "utf-8")
    assert main([str(path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"python -m common study: error: {path}: ")
    assert line in said
