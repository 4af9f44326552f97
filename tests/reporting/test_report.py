"""report.json holds what was measured, and report.txt says it."""

import hashlib
import json

import numpy as np
import pytest

from A2S2KResNet.A2S2KResNet import DEFAULTS, A2S2KResNet
from baselines.SVM import DEFAULTS as SVM_DEFAULTS
from baselines.SVM import SVM
from common.reporting.intervals import blocks_interval, iterations_interval
from common.reporting.report import with_all_figures
from common.reporting.report_text import report_text
from common.run.cli import main, run_script
from tests.conftest import toy_labels


@pytest.fixture(scope="module")
def results(toy_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "out"
    flags = ["-d", "UP", "--data-dir", str(toy_data), "-i", "2", "-p", "2", "-k", "4", "-e", "2"]
    assert main(A2S2KResNet, DEFAULTS, [*flags, "--precision", "fp32", "--out", str(out)]) == 0
    return out


@pytest.fixture
def report(results):
    return json.loads((results / "report.json").read_text("utf-8"))


def test_costs(report):
    model = A2S2KResNet(bands=60, classes=9, kernels=4)
    assert report["parameters"] == sum(p.numel() for p in model.parameters())
    assert report["macs_per_pixel"] > report["parameters"]
    assert report["macs_per_pixel_dense"] is None
    assert 50 < report["peak_memory_mb"] < 1e5


def test_seconds_per_epoch(report):
    assert report["train_seconds_per_epoch"] == [s / 2 for s in report["train_seconds"]]


def test_training_seconds_are_those_of_the_epochs(report, results):
    for n, seconds in enumerate(report["train_seconds"]):
        rows = np.genfromtxt(results / f"run_{n}" / "history.csv", delimiter=",", names=True)
        assert seconds == pytest.approx(rows["seconds"].sum())


def test_figures_of_classes(report):
    for n, confusion in enumerate(np.array(report["confusion"])):
        right, labelled, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        for c in np.flatnonzero(labelled):
            expected = right[c] / predicted[c] if predicted[c] else 0
            assert report["precision"][n][c] == pytest.approx(expected)
            assert report["f1"][n][c] == pytest.approx(2 * right[c] / (labelled + predicted)[c])
        tested = [value for value in report["f1"][n] if value is not None]
        assert report["f1_macro"][n] == pytest.approx(np.mean(tested))


def test_intervals(report, results):
    assert report["oa_ci95_iterations"] == iterations_interval(report["oa"])
    tests = []
    for n in range(2):
        pixels = np.flatnonzero(np.load(results / f"run_{n}" / "split.npy") == 3)
        right = np.load(results / f"run_{n}" / "map.npy").ravel() == toy_labels().ravel()
        tests.append((pixels, right[pixels]))
    assert report["oa_ci95_blocks"] == blocks_interval((40, 36), tests)
    assert report["block_side"] == 6


def test_what_it_was_made_with(report, toy_data):
    assert report["packages"]["torch"] == report["environment"]["torch"]
    for name in ("PaviaU.mat", "PaviaU_gt.mat"):
        expected = hashlib.sha256((toy_data / name).read_bytes()).hexdigest()
        assert report["files_sha256"][str(toy_data / name)] == expected


def test_text_says_all_of_it(report):
    text = report_text(report)
    for title in (
        "accuracy %", "precision %", "F1 %", "F1 % (macro", "learned parameters",
        "multiply-adds per pixel, patches", "training, s per epoch", "peak memory, MB",
        "OA %, 95 % interval over iterations", "OA %, 95 % interval over ground",
    ):  # fmt: skip
        assert title in text
    assert f"{report['macs_per_pixel']:,}" in text
    assert f"{100 * report['f1_macro_mean']:.2f}" in text


def test_reports_of_before_are_read(report):
    new = {key for key in report if key.startswith(("f1", "precision", "oa_ci95", "macs"))}
    new |= {"parameters", "peak_memory_mb", "train_seconds_per_epoch", "command", "packages"}
    old = {key: value for key, value in report.items() if key not in new}
    assert with_all_figures(old)["f1_macro"] == report["f1_macro"]
    assert "learned parameters" not in report_text(old)
    assert f"{100 * report['f1_macro_mean']:.2f}" in report_text(old)


def test_a_classifier_without_learned_parameters(toy_data, tmp_path):
    out = tmp_path / "out"
    flags = ["-d", "UP", "-i", "1", "--data-dir", str(toy_data), "--out", str(out)]
    assert run_script(SVM, SVM_DEFAULTS, flags) == 0
    report = json.loads((out / "report.json").read_text("utf-8"))
    assert report["parameters"] is report["macs_per_pixel"] is report["oa_ci95_iterations"] is None
    assert report["train_seconds_per_epoch"] == [None]
    assert "95 % interval over ground" in (out / "report.txt").read_text("utf-8")
