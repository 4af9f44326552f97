"""A study makes every run once, goes on where it stopped, and says what it could not run."""

import csv
import json
import signal
import subprocess
import sys
import time

import pytest
import yaml

from common.run.study import main, read_study
from common.scenes.scene_file import describe
from common.system.files import REPOSITORY

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
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(content, sort_keys=False), "utf-8")
    return tmp_path


def command(folder) -> list[str]:
    return [str(folder / "two.yaml"), "--out", str(folder / "out"), "--runs", str(folder / "runs")]


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


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM there")
def test_an_interrupted_study_goes_on(study):
    with subprocess.Popen(
        [sys.executable, "-m", "common", "study", *command(study)],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert "[1/4" in process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        *_, last = process.stderr.read().splitlines()
        assert process.wait() == 143
    assert "go on with the same command" in last
    assert main(command(study)) == 0
    assert (study / "out" / "study.html").is_file()


def test_studies_share_a_run(study):
    one = {run.directory(study) for run in read_study(study / "two.yaml").runs}
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


@pytest.mark.parametrize("path", (REPOSITORY / "studies").glob("*.yaml"), ids=lambda p: p.name)
def test_studies_of_this_repository_can_be_run(path):
    if "methods:" not in path.read_text("utf-8"):  # a scene of one of them
        assert describe(str(path)).ground_truth is not None
        return
    runs = read_study(path).runs
    assert len({run.directory(REPOSITORY) for run in runs}) == len(runs) > 1


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"methods": {"X": "X/X.py"}}, "X: X/X.py: no training script of this repository"),
        ({"methods": {"SSRN": "SSRN/SSRN.py -vs 2"}}, "SSRN on UP: argument -vs"),
        ({"methods": {"SSRN": "SSRN/SSRN.py --out x"}}, "SSRN: leave --out and --weights out"),
        ({"methods": {}}, "'methods' must hold lines 'name: flags'"),
        ({"published": {"UP": {"CNN": [1, 2, 3]}}}, "'published' has CNN on UP, which is not run"),
        ({"published": {"UP": {"SVM": [1, 2]}}}, "figures of SVM on UP must be three"),
        ({"scene": {}}, "unknown key 'scene'; the keys are"),
    ],
)
def test_a_wrong_study_is_one_line(change, line, tmp_path, capsys):
    path = tmp_path / "wrong.yaml"
    path.write_text(yaml.safe_dump(STUDY | change, sort_keys=False), "utf-8")
    assert main([str(path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"python -m common study: error: {path}: ")
    assert line in said
