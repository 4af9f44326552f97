"""The training scripts as a user runs them: files, report keys, exit statuses, messages."""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from matplotlib.image import imread

import A2S2KResNet.A2S2KResNet
import common.reporting.results_folder
import common.training.network_classifier
import SSRN.SSRN
from common.run.cli import main
from common.samples.preprocess import fit_pca_scaling
from common.samples.random_split import random_split
from common.scenes.scene import load_scene
from common.system.device import choose_precision
from tests.conftest import toy_labels
from tests.forked import run_program
from tests.results import DIFFERING

ROOT = Path(__file__).resolve().parents[2]
MODULES = {"A2S2KResNet": A2S2KResNet.A2S2KResNet, "SSRN": SSRN.SSRN}
SCRIPTS = {name: (getattr(module, name), module.DEFAULTS) for name, module in MODULES.items()}
PRECISION = {"A2S2KResNet": "fp32", "SSRN": choose_precision("auto", torch.device("cpu"))}
SHORT = ["-d", "UP", "-e", "2", "-i", "2", "-p", "2", "-k", "4"]


def run(model: str, toy_data: Path, out: Path, *flags: str) -> int:
    arguments = [*SHORT, "--data-dir", str(toy_data), "--out", str(out)]
    arguments += ["--precision", PRECISION[model], *flags]
    return main(*SCRIPTS[model], arguments)


def read_report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text("utf-8"))


@pytest.fixture(scope="module", params=SCRIPTS)
def results(request, toy_data, tmp_path_factory):
    """The results directory of a short run of each model."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    assert run(request.param, toy_data, out) == 0
    return request.param, out


def test_files(results):
    model, out = results
    files = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    per_run = ["weights.pt", "history.csv", "map.png", "map_large.png", "map.npy"]
    per_run += ["confidence.npy", "split.npy", "iteration.npz"]
    per_run += ["attention.npz"] if model == "A2S2KResNet" else []
    of_run = {"run.json", "report.json", "report.txt", "gt.npy", "gt.png", "false_color.png"}
    assert files == of_run | {f"run_{n}/{name}" for n in (0, 1) for name in per_run}


def test_report_keys(results):
    model, out = results
    report = read_report(out)
    assert (report["model"], report["dataset"]) == (model, "UP")
    assert report["settings"]["epoch"] == 2
    assert report["settings"]["valid_split"] == 0.9
    assert report["environment"]["torch"] == torch.__version__
    for name in ("oa", "aa", "kappa", "aa_users"):
        assert len(report[name]) == 2
        assert report[f"{name}_mean"] == pytest.approx(np.mean(report[name]))
        assert report[f"{name}_std"] == pytest.approx(np.std(report[name]))
    assert np.shape(report["per_class"]) == (2, 9)
    assert len(report["class_names"]) == 9
    assert report["per_class"][0][5:] == [None] * 4  # classes that the toy scene lacks
    assert report["epochs_run"] == [2, 2]
    assert all(seconds > 0 for seconds in report["train_seconds"] + report["test_seconds"])


def test_report_figures_follow_from_the_confusion_matrix_and_the_map(results):
    _, out = results
    report, labels = read_report(out), toy_labels().ravel()
    for n in (0, 1):
        split = random_split(toy_labels(), 0.9, 1331 + n)
        predicted = np.load(out / f"run_{n}" / "map.npy").ravel()
        confusion = np.zeros((9, 9), int)
        np.add.at(confusion, (labels[split.test] - 1, predicted[split.test].astype(int) - 1), 1)
        assert report["confusion"][n] == confusion.tolist()
        assert report["oa"][n] == pytest.approx(np.trace(confusion) / confusion.sum())
        for part in ("train", "val", "test"):
            assert report["split"][part] == len(getattr(split, part))
            assert report["split"][f"{part}_sha256"][n] == split.sha256()[part]


def test_pictures_have_the_scene_size_and_colours(results):
    _, out = results
    labels = toy_labels()
    for name in ("gt.png", "false_color.png", "run_0/map.png"):
        assert imread(out / name).shape[:2] == labels.shape
    ground_truth = (255 * imread(out / "gt.png")[:, :, :3]).round()
    assert (ground_truth[labels == 0] == 0).all()
    assert (ground_truth[labels == 1] == 0xC0).all()  # Asphalt is #c0c0c0
    label_map = np.load(out / "run_0" / "map.npy")
    np.testing.assert_array_equal(label_map == 0, labels == 0)


def test_history(results):
    _, out = results
    with open(out / "run_1" / "history.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["learning_rate"]) == 1e-3
    assert 0 <= float(rows[1]["validation_accuracy"]) <= 1


def test_weights_open_without_pickle_and_evaluate_to_the_same_figures(results, toy_data, tmp_path):
    model, out = results
    content = torch.load(out / "run_1" / "weights.pt", weights_only=True)
    assert content["class_names"][1] == "Meadows"
    assert content["preprocessing"]["matrix"].shape == (60, 60)

    weights = str(out / "run_1" / "weights.pt")
    again = tmp_path / "again"
    assert run(model, toy_data, again, "--weights", weights, "--map", "all") == 0
    assert read_report(again)["confusion"] == [read_report(out)["confusion"][1]]
    label_map = np.load(again / "run_0" / "map.npy")
    assert (label_map > 0).all()
    labelled = toy_labels() > 0
    earlier = np.load(out / "run_1" / "map.npy")
    np.testing.assert_array_equal(label_map[labelled], earlier[labelled])


def everything_but_times(out: Path) -> tuple:
    """Report, histories and weights of a run, without what the clock wrote."""
    report = read_report(out)
    for key in DIFFERING:
        del report[key]
    del report["settings"]["overwrite"]
    histories = [
        path.read_text("utf-8").splitlines() for path in sorted(out.glob("run_*/history.csv"))
    ]
    histories = [[line.rpartition(",")[0] for line in lines] for lines in histories]
    states = [
        torch.load(path, weights_only=True)["state"]
        for path in sorted(out.glob("run_*/weights.pt"))
    ]
    return report, histories, [{n: t.tolist() for n, t in state.items()} for state in states]


def test_same_command_twice_gives_the_same_bits(results, toy_data):
    model, out = results
    first = everything_but_times(out)
    assert run(model, toy_data, out, "--overwrite") == 0
    assert everything_but_times(out) == first


def test_weights_hold_the_pca_of_the_whole_scene(results, toy_data):
    _, out = results
    expected = fit_pca_scaling(load_scene("UP", str(toy_data)).cube)
    stored = torch.load(out / "run_0" / "weights.pt", weights_only=True)["preprocessing"]
    np.testing.assert_array_equal(stored["mean"], expected.mean)
    np.testing.assert_array_equal(stored["matrix"], expected.matrix)


def test_existing_results_are_not_overwritten(results, toy_data, capsys):
    model, out = results
    before = (out / "report.json").read_bytes()
    assert run(model, toy_data, out) == 2
    assert "already exists" in capsys.readouterr().err
    assert (out / "report.json").read_bytes() == before


def test_overwrite_keeps_what_a_run_did_not_write(toy_data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    (tmp_path / "run_notes.txt").write_text("mine too", "utf-8")
    for number in (0, 7):
        (tmp_path / f"run_{number}").mkdir()
        (tmp_path / f"run_{number}" / "map.npy").write_text("old", "utf-8")
    (tmp_path / "run_0" / "notes.txt").write_text("and mine", "utf-8")
    assert run("SSRN", toy_data, tmp_path, "--overwrite", "-i", "1", "-e", "1") == 0
    assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"
    assert (tmp_path / "run_notes.txt").read_text("utf-8") == "mine too"
    assert (tmp_path / "run_0" / "notes.txt").read_text("utf-8") == "and mine"
    assert not (tmp_path / "run_7").exists()


def test_weights_to_be_evaluated_are_never_overwritten(results, toy_data, capsys):
    model, out = results
    weights = out / "run_0" / "weights.pt"
    before = weights.read_bytes()
    assert run(model, toy_data, out, "--weights", str(weights), "--overwrite") == 2
    assert "holds the weights to be evaluated" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_flags_that_weights_make_useless_are_named(results, toy_data, tmp_path, capsys):
    model, out = results
    weights = str(out / "run_0" / "weights.pt")
    assert run(model, toy_data, tmp_path, "--weights", weights, "--lr", "1", "--map", "none") == 0
    note = "note: --epoch, --iter, --kernel, --lr, --patch: without effect"
    assert capsys.readouterr().err.splitlines()[-1].startswith(note)


def test_weights_on_other_labels_test_what_was_not_trained_on(results, toy_data, tmp_path):
    model, out = results
    labels = np.zeros_like(toy_labels())
    labels[4:6, :12] = toy_labels()[4:6, :12]  # too few for the split the weights were trained on
    scipy.io.savemat(tmp_path / "PaviaU_gt.mat", {"paviaU_gt": labels})
    (tmp_path / "PaviaU.mat").write_bytes((toy_data / "PaviaU.mat").read_bytes())
    weights = ["--weights", str(out / "run_0" / "weights.pt")]
    assert run(model, tmp_path, tmp_path / "out", *weights, "--map", "none", "-k", "7") == 0
    report = read_report(tmp_path / "out")
    split = random_split(toy_labels(), 0.9, 1331)
    labels.flat[np.concatenate([split.train, split.val])] = 0
    assert (report["split"]["train"], report["split"]["test"]) == (111, np.count_nonzero(labels))
    assert report["settings"]["kernel"] == report["trained_with"]["kernel"] == 4
    assert not (tmp_path / "out" / "run_0" / "map.png").exists()


def test_class_tested_in_some_iterations_only_has_their_mean(toy_data, tmp_path):
    labels = toy_labels()
    rare = np.flatnonzero(labels == 5)
    labels.flat[rare[5:]] = 0
    scipy.io.savemat(tmp_path / "PaviaU_gt.mat", {"paviaU_gt": labels})
    (tmp_path / "PaviaU.mat").write_bytes((toy_data / "PaviaU.mat").read_bytes())
    flags = ["-e", "1", "-i", "4", "-vs", "0.6", "--map", "none"]
    assert run("SSRN", tmp_path, tmp_path / "out", *flags) == 0
    report = read_report(tmp_path / "out")
    rare_accuracies = [accuracies[4] for accuracies in report["per_class"]]
    tested = [accuracy for accuracy in rare_accuracies if accuracy is not None]
    assert 0 < len(tested) < 4
    assert report["per_class_mean"][4] == pytest.approx(np.mean(tested))
    counts = [counts[4] for counts in report["split"]["test_per_class"]]
    assert [count > 0 for count in counts] == [a is not None for a in rare_accuracies]


def test_terminal_shows_what_report_txt_holds(toy_data, tmp_path, capsys):
    assert run("SSRN", toy_data, tmp_path / "out", "-i", "1", "-e", "1") == 0
    text = (tmp_path / "out" / "report.txt").read_text("utf-8")
    assert text in capsys.readouterr().out
    report = read_report(tmp_path / "out")
    assert re.search(rf"^OA % +{100 * report['oa'][0]:.2f}$", text, flags=re.MULTILINE)
    assert "pixels: 111 training, 111 validation, 938 test" in text
    assert re.search(r"^ +6 Bare Soil +0 +0( +not tested){3}$", text, flags=re.MULTILINE)


def test_default_results_directory(toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(common.reporting.results_folder, "REPOSITORY", tmp_path)
    flags = [*SHORT, "-i", "1", "-e", "1", "--map", "none", "--data-dir", str(toy_data)]
    assert main(*SCRIPTS["SSRN"], flags) == 0
    (out,) = (tmp_path / "results").iterdir()
    assert re.fullmatch(r"SSRN_UP_\d{4}-\d\d-\d\d_\d{6}", out.name)


@pytest.mark.parametrize("folder", ["A2S2KResNet", "/"])
def test_runs_from_any_folder(toy_data, tmp_path, folder):
    script = ROOT / "A2S2KResNet" / "A2S2KResNet.py"
    command = [script.name if folder == "A2S2KResNet" else str(script), *SHORT, "-i", "1"]
    command += ["-o", "diffgrad", "--attention", "official", "--out", str(tmp_path / "out")]
    environment = {"HSI_DATA_DIR": str(toy_data)}
    if folder == "/":  # one of them with all that starting Python is
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )
    else:
        done = run_program(command, cwd=ROOT / folder, folder=tmp_path, **environment)
    assert done.returncode == 0, done.stderr
    assert "OA %" in done.stdout
    assert "\r" not in done.stderr  # a file gets plain lines
    assert "epoch 2/2" in done.stderr
    assert (tmp_path / "out" / "report.html").stat().st_size > 50_000
    assert (tmp_path / "out" / "figures" / "maps.pdf").exists()


@pytest.mark.parametrize(
    ("message", "flags"),
    [
        ("-p 40: patches wider than the scene, 40×36 pixels", ["-p", "40"]),
        ("--out /proc/nothing/here: cannot be written", ["--out", "/proc/nothing/here"]),
        ("--lr 1e+30: training diverged", ["--lr", "1e30"]),
    ],
)
def test_what_shows_only_once_the_scene_is_read(message, flags, toy_data, tmp_path, capsys):
    assert run("SSRN", toy_data, tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_weights_of_another_network_or_scene_are_refused(results, toy_data, tmp_path, capsys):
    model, out = results
    other = "SSRN" if model == "A2S2KResNet" else "A2S2KResNet"
    weights = ["--weights", str(out / "run_0" / "weights.pt")]
    assert run(other, toy_data, tmp_path / "a", *weights) == 2
    assert f"weights of {model}, but this is {other}" in capsys.readouterr().err
    assert run(model, toy_data, tmp_path / "b", *weights, "-d", "IN") == 2
    assert "trained on 60 bands and 9 classes, but IN has 200" in capsys.readouterr().err
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    assert run(model, toy_data, tmp_path / "c", "--weights", str(tmp_path / "bad.pt")) == 2
    assert "not a weights file of this project" in capsys.readouterr().err


def test_interrupting_keeps_finished_iterations(toy_data, tmp_path, monkeypatch, capsys):
    calls = []

    def interrupted_second_time(*arguments, **named):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real_run(*arguments, **named)

    real_run = common.training.network_classifier.run
    monkeypatch.setattr(common.training.network_classifier, "run", interrupted_second_time)
    assert run("SSRN", toy_data, tmp_path / "out") == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(read_report(tmp_path / "out")["oa"]) == 1
    assert "1 of 2 iterations" in (tmp_path / "out" / "report.txt").read_text("utf-8")


def test_iterations_side_by_side_are_as_one_after_another(toy_data, tmp_path, monkeypatch):
    """As on a GPU, whose streams are nothing here; the second group is of one."""
    flags = ["-d", "UP", "-p", "2", "-k", "4", "-i", "3", "-e", "2", "--data-dir", str(toy_data)]
    assert main(*SCRIPTS["SSRN"], [*flags, "--out", str(tmp_path / "one")]) == 0
    monkeypatch.setattr(common.training.network_classifier, "side_by_side", lambda device: 2)
    for name in ("Stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert main(*SCRIPTS["SSRN"], [*flags, "--out", str(tmp_path / "two")]) == 0
    one, two = read_report(tmp_path / "one"), read_report(tmp_path / "two")
    assert one["confusion"] == two["confusion"]
    for n, seconds in enumerate(two["train_seconds"]):  # each has its share of the common time
        history = tmp_path / "two" / f"run_{n}" / "history.csv"
        rows = np.genfromtxt(history, delimiter=",", names=True)
        assert seconds == pytest.approx(rows["seconds"].sum())


def test_fast_recipe_has_its_own_defaults_and_flags_win(toy_data, tmp_path, capsys):
    flags = ["-d", "UP", "-p", "2", "-k", "4", "-i", "1", "--data-dir", str(toy_data)]
    settings = {}
    for name, more in {"own": ["-e", "1"], "given": ["-e", "2", "--lr", "0.01"]}.items():
        flags_now = [*flags, "--recipe", "fast", *more, "--out", str(tmp_path / name)]
        assert main(*SCRIPTS["SSRN"], flags_now) == 0
        settings[name] = read_report(tmp_path / name)["settings"]
    said = capsys.readouterr().err
    assert (
        "111 training pixels make 7 updates of the weights, which are few; --recipe paper" in said
    )
    assert (settings["own"]["epoch"], settings["own"]["lr"]) == (1, 3e-3)
    assert (settings["given"]["epoch"], settings["given"]["lr"]) == (2, 0.01)
    assert "recipe fast" in (tmp_path / "own" / "report.txt").read_text("utf-8")
    rows = list(
        csv.DictReader((tmp_path / "given" / "run_0" / "history.csv").open(encoding="utf-8"))
    )
    assert rows[0]["validation_loss"] == ""
    assert float(rows[1]["validation_loss"]) > 0


def test_help_shows_the_recipes_defaults(capsys):
    with pytest.raises(SystemExit):
        main(*SCRIPTS["SSRN"], ["--recipe", "fast", "--help"])
    assert "epochs at most (default: 16)" in " ".join(capsys.readouterr().out.split())


def test_precision_in_report(results):
    model, out = results
    assert read_report(out)["environment"]["precision"] == PRECISION[model]
    assert f", {PRECISION[model]}, torch " in (out / "report.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({}, "fp32"),
        ({"avx512_f": True}, "fp32"),
        ({"avx512_bf16": True}, "bf16"),
        ({"avx512_bf16": True, "amx_bf16": True}, "bf16"),
    ],
)
def test_auto_precision_is_bf16_where_the_processor_has_it(monkeypatch, capabilities, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert choose_precision("auto", torch.device("cpu")) == expected
    assert choose_precision("fp32", torch.device("cpu")) == "fp32"


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16")])
def test_auto_precision_on_gpus(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert choose_precision("auto", torch.device("cuda")) == expected
