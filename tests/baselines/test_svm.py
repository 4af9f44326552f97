"""The SVM baseline: the networks' splits and report, its own grid search."""

import csv
import dataclasses
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import sklearn
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.svm import SVC

import baselines.SVM
from baselines.SVM import DEFAULTS, GAMMA, SVM, C, Transformer, stratified_folds
from common.reporting.page import write_page
from common.run.cli import run_script
from common.samples.random_split import random_split
from common.system.errors import InputError
from common.system.files import REPOSITORY
from common.tables.methods import read_methods, with_distinct_names
from common.tables.paper_table import comparability_notes
from common.tables.readme_tables import read_reports, results_table, splits_table
from SSRN import SSRN
from tests.conftest import toy_labels
from tests.forked import run_program

FLAGS = ["-d", "UP", "-i", "2", "-p", "2"]


def run(toy_data: Path, out: Path, *flags: str) -> int:
    return run_script(
        SVM, DEFAULTS, [*FLAGS, "--data-dir", str(toy_data), "--out", str(out), *flags]
    )


def read_report(out: Path) -> dict:
    return json.loads((out / "report.json").read_text("utf-8"))


def read_grid(out: Path) -> list[dict[str, str]]:
    with open(out / "run_0" / "grid.csv", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def results(toy_data, tmp_path_factory) -> Path:
    """The results directory of two iterations."""
    out = tmp_path_factory.mktemp("SVM") / "out"
    assert run(toy_data, out) == 0
    return out


def test_files(results):
    files = {str(path.relative_to(results)) for path in results.rglob("*") if path.is_file()}
    per_run = ("grid.csv", "map.png", "map_large.png", "map.npy", "split.npy")
    per_run += ("iteration.npz",)
    assert files == {
        "run.json",
        "report.json",
        "report.txt",
        "gt.npy",
        "gt.png",
        "false_color.png",
    } | {f"run_{n}/{name}" for n in (0, 1) for name in per_run}


def test_splits_are_the_networks(results):
    report = read_report(results)
    for n in (0, 1):
        checksums = random_split(toy_labels(), SSRN.DEFAULTS.valid_split, 1331 + n).sha256()
        for part, checksum in checksums.items():
            assert report["split"][f"{part}_sha256"][n] == checksum
    assert len(report["split"]["test_patches_with_training_pixels"]) == 2


def test_report_keys(results):
    report = read_report(results)
    assert (report["model"], report["dataset"], report["epochs_run"]) == ("SVM", "UP", [0, 0])
    assert report["settings"].keys() == dataclasses.asdict(SSRN.DEFAULTS).keys()
    assert report["settings"]["epoch"] is report["settings"]["recipe"] is None
    for name in ("oa", "aa", "kappa", "aa_users", "per_class", "train_seconds", "test_seconds"):
        assert len(report[name]) == 2


def test_environment_names_scikit_learn(results):
    environment = read_report(results)["environment"]
    assert environment["scikit-learn"] == sklearn.__version__
    assert (environment["device"], environment["threads"]) == ("cpu", 1)
    text = (results / "report.txt").read_text("utf-8")
    assert f"fp64, scikit-learn {sklearn.__version__}, commit" in text
    assert "split with input spectrum, patch 2, valid_split 0.9\n" in text
    assert not any(word in text for word in ("None", "epoch", "torch", "trained with"))


def test_classifies_single_spectra_well_above_chance(results):
    report = read_report(results)
    assert min(report["oa"]) > 0.9  # five classes, easily told apart
    label_map = np.load(results / "run_0" / "map.npy")
    np.testing.assert_array_equal(label_map == 0, toy_labels() == 0)


def test_grid_lists_every_pair_best_first(results):
    rows = read_grid(results)
    pairs = {(float(row["C"]), float(row["gamma"])) for row in rows}
    assert pairs == {(c, gamma) for c in C for gamma in GAMMA}
    assert len(rows) == len(pairs)
    ranks = [int(row["rank"]) for row in rows]
    accuracies = [float(row["accuracy_mean"]) for row in rows]
    assert ranks[0] == 1
    assert ranks == sorted(ranks)
    assert accuracies == sorted(accuracies, reverse=True)
    assert 0.9 < accuracies[0] <= 1
    assert all(0 <= float(row["accuracy_std"]) <= 0.5 for row in rows)


def test_same_command_twice_gives_the_same_results_and_says_what_it_chose(
    results, toy_data, tmp_path, capsys
):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(toy_data, tmp_path, "--map", "all", "--overwrite") == 0
    first, again = read_report(results), read_report(tmp_path)
    assert again["confusion"] == first["confusion"]
    for n in (0, 1):
        grids = [(out / f"run_{n}" / "grid.csv").read_bytes() for out in (results, tmp_path)]
        assert grids[0] == grids[1]
    best = read_grid(results)[0]
    assert f"iteration 1/2: C {best['C']}, gamma {best['gamma']}, " in capsys.readouterr().err
    label_map, labelled = np.load(tmp_path / "run_0" / "map.npy"), toy_labels() > 0
    assert (label_map > 0).all()
    np.testing.assert_array_equal(
        label_map[labelled], np.load(results / "run_0" / "map.npy")[labelled]
    )


def test_test_pixels_have_no_say_in_training(results, toy_data, tmp_path):
    changed = scipy.io.loadmat(toy_data / "PaviaU.mat")["paviaU"]
    split = np.load(results / "run_0" / "split.npy")
    changed[split != 1] = 60000 - changed[split != 1]
    scipy.io.savemat(tmp_path / "PaviaU.mat", {"paviaU": changed})
    (tmp_path / "PaviaU_gt.mat").write_bytes((toy_data / "PaviaU_gt.mat").read_bytes())
    out = tmp_path / "out"
    assert run(tmp_path, out, "-i", "1", "--map", "none") == 0
    assert read_grid(out) == read_grid(results)
    assert read_report(out)["oa"][0] < 0.9


@pytest.mark.parametrize("counts", [(1, 2), (2, 2, 1), (3, 4, 1, 1), (3, 3, 100, 7)])
def test_rest_of_every_fold_holds_every_class(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_folds(labels, seed=5)
    used = np.unique(folds[folds >= 0])
    assert list(used) == list(range(min(3, max(counts))))
    for fold in used:
        assert set(labels[folds != fold]) == set(labels)
    for label in np.flatnonzero(np.array(counts) > 1):
        sizes = [np.count_nonzero(folds[labels == label] == fold) for fold in used]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("labels", [[1, 2, 3], [4, 4, 4]])
def test_too_few_training_pixels(labels):
    with pytest.raises(InputError, match="cross-validation needs two"):
        stratified_folds(np.array(labels), seed=0)


def test_few_training_pixels_train_without_warnings(toy_data, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(toy_data, tmp_path / "two", "--per-class", "2", "-i", "1") == 0
    assert "Warning" not in capsys.readouterr().err
    assert run(toy_data, tmp_path / "one", "--per-class", "1", "-i", "1") == 2
    assert "5 training pixels of 5 classes" in capsys.readouterr().err.splitlines()[-1]


FLAGS_OF_PREPROCESSING = {
    "bands standardised with the whole scene": ["--fit-on", "scene"],
    "components of the training pixels": ["--preprocess", "pca", "--components", "20"],
    "components of the whole scene": ["--preprocess", "pca", "--fit-on", "scene"],
}


@pytest.mark.parametrize("kind", ["spectrum", "patch"])
@pytest.mark.parametrize("name", FLAGS_OF_PREPROCESSING)
def test_another_preprocessing(name, kind, toy_data, tmp_path, monkeypatch):
    monkeypatch.setattr(baselines.SVM, "C", (10, 1000))
    monkeypatch.setattr(baselines.SVM, "GAMMA", (0.003, 0.03))
    flags = [*FLAGS_OF_PREPROCESSING[name], "--input", kind, "-i", "1", "--map", "none"]
    assert run(toy_data, tmp_path / "out", *flags) == 0
    report = read_report(tmp_path / "out")
    settings = {"kind": "standardise", "components": None, "fitted_on": "train"}
    if "pca" in flags:
        settings |= {"kind": "pca", "components": 20 if "20" in flags else 60}
    if "scene" in flags:
        settings["fitted_on"] = "scene"
    assert report["preprocessing"] == settings
    assert report["oa"][0] > 0.8  # by chance: 0.24


def test_the_training_pixels_are_standardised_as_ever(results):
    report = read_report(results)
    expected = {"kind": "standardise", "components": None, "fitted_on": "train"}
    assert report["preprocessing"] == expected
    line = "preprocessing: each band standardised, fitted on each iteration's training pixels only"
    assert line in (results / "report.txt").read_text("utf-8")


def test_a_transformer_fits_in_each_fold_unless_it_is_fitted():
    generator = np.random.default_rng(0)
    spectra, others = generator.normal(size=(2, 30, 5))
    settings = dataclasses.replace(DEFAULTS, preprocess="pca", components=2)
    anew = Transformer(settings, None).fit(spectra)
    assert anew.transform(spectra).shape == (30, 2)
    np.testing.assert_allclose(anew.transform(spectra).std(axis=0), 1)
    fitted = Transformer(settings, anew.used_).fit(others)
    np.testing.assert_array_equal(fitted.transform(spectra), anew.transform(spectra))


@pytest.mark.parametrize(
    "flags",
    [
        ["-e", "2"],
        ["-k", "4"],
        ["-o", "adam"],
        ["--attention", "paper"],
        ["--batch-size", "4"],
        ["--lr", "1"],
        ["--lr-decay", "1"],
        ["--recipe", "fast"],
        ["--weights", "weights.pt"],
        ["--device", "cpu"],
        ["--precision", "fp32"],
        ["--class-weights", "balanced"],
        ["--start-from", "weights.pt"],
        ["--probabilities"],
    ],
)
def test_flags_of_networks_are_refused_in_one_line(flags, toy_data, tmp_path, capsys):
    assert run(toy_data, tmp_path / "out", *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"unrecognized arguments: {flags[0]}" in line
    assert not (tmp_path / "out").exists()


def test_overwriting_by_another_model_leaves_no_old_grid(toy_data, tmp_path):
    (tmp_path / "run_4").mkdir()
    (tmp_path / "run_4" / "grid.csv").write_text("old", "utf-8")
    assert run(toy_data, tmp_path, "--overwrite", "-i", "1", "--map", "none") == 0
    assert not (tmp_path / "run_4").exists()


def test_patches_are_searched_for_by_their_distances(toy_data, tmp_path, monkeypatch):
    """C and gamma as scikit-learn's own search on the same patches finds them."""
    few, out = {"C": (1, 100), "GAMMA": (0.001, 0.01, 0.1)}, tmp_path / "out"
    for name, values in few.items():
        monkeypatch.setattr(f"baselines.SVM.{name}", values)
    assert run(toy_data, out, "--input", "patch", "-i", "1", "--map", "all") == 0
    report, label_map = read_report(out), np.load(out / "run_0" / "map.npy")
    assert report["settings"]["input"] == "patch"
    assert (label_map > 0).all()

    labels = toy_labels()
    cube = scipy.io.loadmat(toy_data / "PaviaU.mat")["paviaU"].astype(float)
    split = random_split(labels, 0.9, 1331)
    spectra = cube.reshape(-1, 60)[split.train]
    padded = np.pad((cube - spectra.mean(axis=0)) / spectra.std(axis=0), ((2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), axis=(0, 1))
    patches = windows.reshape(labels.size, -1)
    wanted = labels.ravel()[split.train]
    search = GridSearchCV(
        SVC(),
        {"C": few["C"], "gamma": np.divide(few["GAMMA"], 25)},
        cv=PredefinedSplit(stratified_folds(wanted, 1331)),
    ).fit(patches[split.train], wanted)
    rows = read_grid(out)
    assert len(rows) == 6
    best = {name: float(rows[0][name]) for name in ("C", "gamma", "accuracy_mean")}
    assert best["accuracy_mean"] == pytest.approx(search.best_score_, abs=1e-5)
    machine = SVC(C=best["C"], gamma=best["gamma"]).fit(patches[split.train], wanted)
    same = machine.predict(patches[split.test]) == label_map.ravel()[split.test]
    assert same.mean() > 0.995

    write_page(out)
    assert "patch" in (out / "report.html").read_text("utf-8")
    (method,) = with_distinct_names(read_methods([out]))
    assert method.name == "SVM"


def test_stands_in_tables_beside_a_network(results, tmp_path):
    report = read_report(results)
    # a network's report as older versions wrote it, with the split as a word
    settings = dataclasses.asdict(SSRN.DEFAULTS) | {"split": "random", "patch": 2, "iter": 2}
    report |= {"model": "SSRN", "settings": settings, "environment": {"precision": "bf16"}}
    (tmp_path / "report.json").write_text(json.dumps(report), "utf-8")
    notes = " ".join(comparability_notes(read_methods([results, tmp_path])))
    assert "Settings that differ: preprocess, fit on, precision." in notes
    header, _, *rows = results_table(read_reports(results.parent)).splitlines()
    cells = dict(zip(*(re.split(r" *\| *", row) for row in (header, *rows)), strict=True))
    assert (cells["network"], cells["precision"], cells["epochs"]) == ("SVM", "fp64", "–")


def test_row_of_another_split_is_in_the_table_of_splits(results, tmp_path):
    report = read_report(results)
    report["settings"] |= {"split": "disjoint", "per_class": 5}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text(json.dumps(report), "utf-8")
    reports = read_reports(tmp_path)
    assert "| `disjoint` | SVM, `--per-class 5` |" in splits_table(reports)
    assert "SVM" not in results_table(reports)


def test_row_of_the_authors_split_is_among_the_random_ones(results, tmp_path):
    report = read_report(results)
    report["settings"] |= {"split": "authors", "input": "patch"}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text(json.dumps(report), "utf-8")
    reports = read_reports(tmp_path)
    assert "| SVM, `--input patch --split authors` |" in results_table(reports)
    assert "SVM" not in splits_table(reports)


def test_runs_from_another_folder(toy_data, tmp_path):
    command = [str(REPOSITORY / "baselines" / "SVM.py"), *FLAGS, "-i", "1"]
    command += ["--out", str(tmp_path / "out")]
    done = run_program(command, cwd=tmp_path, folder=tmp_path, HSI_DATA_DIR=str(toy_data))
    assert done.returncode == 0, done.stderr
    assert "OA %" in done.stdout
    assert "Warning" not in done.stderr
