"""``import common``: the command line's checks, and its results bit for bit."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import common
from baselines import SVM
from common.run.cli import read_settings
from common.system.errors import InputError
from common.system.files import REPOSITORY
from common.training.weights_file import load_weights
from tests.conftest import toy_labels
from tests.results import bits
from tests.run.test_scripts import PRECISION, SCRIPTS, run

FLAGS = {"epoch": 2, "iter": 2, "patch": 2, "kernel": 4}  # of test_scripts.SHORT


@pytest.fixture(scope="module", params=SCRIPTS)
def both(request, toy_data, tmp_path_factory):
    """A model from Python, and the results directory that the script left of the same."""
    name, out = request.param, tmp_path_factory.mktemp(request.param) / "out"
    assert run(name, toy_data, out, "--map", "all", "--probabilities") == 0
    scene = common.load_scene("UP", str(toy_data))
    flags = FLAGS | {"precision": PRECISION[name], "map": "all", "probabilities": True}
    settings = common.make_settings(name, scene, **flags)
    return common.train(scene, settings, iteration=1), out


def same(first, second) -> None:
    for name, value in vars(first).items():
        if isinstance(value, dict):
            assert value.keys() == getattr(second, name).keys()
            for key, array in value.items():
                if key != "seconds":
                    np.testing.assert_array_equal(array, getattr(second, name)[key])
        else:
            np.testing.assert_array_equal(value, getattr(second, name))


def test_training_gives_the_scripts_bits(both):
    model, out = both
    weights = load_weights(out / "run_1" / "weights.pt")
    assert weights.state.keys() == model.weights.state.keys()
    for name, tensor in weights.state.items():
        assert torch.equal(tensor, model.weights.state[name]), name
    same(weights.preprocessing, model.weights.preprocessing)
    same(weights.split, model.split)
    assert weights.settings | {"out": None} == dataclasses.asdict(model.settings)
    assert [epoch.epoch for epoch in model.history] == [1, 2]


def test_test_gives_what_the_script_leaves(both):
    model, out = both
    outcome, left = model.test(), common.read_outcome(out)
    same(outcome.iterations[0], left.iterations[1])
    np.testing.assert_array_equal(outcome.ground_truth, left.ground_truth)
    np.testing.assert_array_equal(outcome.false_colour, left.false_colour)
    assert outcome.report.keys() == left.report.keys()
    for name in ("oa", "aa", "kappa", "confusion", "f1_macro", "per_class"):
        assert outcome.report[name] == [left.report[name][1]]
    for name in ("macs_per_pixel", "class_names", "files_sha256", "preprocessing", "shape"):
        assert outcome.report[name] == left.report[name]


def test_pixels_are_classified_as_on_the_map(both):
    model, out = both
    labels, confidence = model.map()
    left = common.read_outcome(out).iterations[1]
    np.testing.assert_array_equal(labels, left.label_map)
    np.testing.assert_allclose(confidence, left.confidence, atol=1e-5)
    pixels = model.split.test[:7]
    found, sure = model.classify(pixels)
    probable = model.probabilities(pixels)
    np.testing.assert_array_equal(found, labels.flat[pixels])
    np.testing.assert_array_equal(found, probable.argmax(axis=1) + 1)
    np.testing.assert_allclose(sure, probable.max(axis=1), atol=1e-6)


def test_figures_are_drawn_of_what_is_in_memory(both):
    model, out = both
    outcome = model.test()
    figures = common.draw_figures(outcome)
    assert figures.keys() == common.draw_figures(common.read_outcome(out)).keys()
    part = outcome.window(slice(3, 13), slice(30, None))
    assert part.report["shape"] == [10, 6, 60]
    shown = common.draw_figures(part)["maps"].axes[0].get_images()[0].get_array()
    assert shown.shape == (10, 6, 3)


def test_saved_weights_are_the_scripts_to_use(both, toy_data, tmp_path):
    model, _ = both
    model.save(tmp_path / "weights.pt")
    flags = ["--weights", str(tmp_path / "weights.pt"), "--map", "all", "--precision", "fp32"]
    assert run(model.settings.model, toy_data, tmp_path / "used", *flags) == 0
    left = common.read_outcome(tmp_path / "used")

    loaded = common.load(tmp_path / "weights.pt", model.scene, map="all", precision="fp32")
    same(loaded.split, model.split)
    np.testing.assert_array_equal(loaded.map()[0], left.iterations[0].label_map)
    outcome = loaded.test()
    assert outcome.report["confusion"] == left.report["confusion"]
    assert outcome.report["trained_with"] == left.report["trained_with"]
    of_flags = {"out": None, "epoch": 2}  # which mean nothing here
    assert outcome.report["settings"] | of_flags == left.report["settings"] | of_flags


def test_trained_networks_classify_an_array(both, tmp_path):
    model, _ = both
    model.save(tmp_path / "weights.pt")
    loaded = common.load(tmp_path / "weights.pt", model.scene.cube, precision="fp32")
    assert loaded.scene.class_names == model.scene.class_names
    again = common.load(tmp_path / "weights.pt", model.scene, precision="fp32")
    for found, expected in zip(loaded.map(), again.map(), strict=True):
        np.testing.assert_array_equal(found, expected)
    outcome = loaded.test()
    assert (outcome.report["oa"], outcome.ground_truth) == ([], None)
    np.testing.assert_array_equal(outcome.iterations[0].label_map, again.map()[0])
    with pytest.raises(InputError, match="trained on 60 bands and 9 classes, but array has 50"):
        common.load(tmp_path / "weights.pt", model.scene.cube[..., :50])


def test_a_whole_run_is_the_scripts(toy_data, tmp_path, capsys):
    assert run("SSRN", toy_data, tmp_path / "script") == 0
    flags = FLAGS | {"dataset": "UP", "data_dir": toy_data, "precision": PRECISION["SSRN"]}
    report = common.run_experiment("SSRN", **flags, out=tmp_path / "python")
    assert report["settings"]["out"] == str(tmp_path / "python")
    assert bits(tmp_path / "python") == bits(tmp_path / "script")
    weights = str(tmp_path / "python" / "run_0" / "weights.pt")
    used = common.run_experiment(
        "SSRN",
        dataset="UP",
        data_dir=toy_data,
        weights=weights,
        precision=PRECISION["SSRN"],
        out=tmp_path / "used",
    )
    assert used["confusion"] == report["confusion"][:1]


def test_an_svm_is_trained_too(toy_data):
    scene = common.load_scene("UP", toy_data)
    model = common.train(scene, common.make_settings("SVM", scene, per_class=5))
    assert model.test().report["model"] == "SVM"
    assert model.history == ()
    assert model.map()[1] is None
    for use in (lambda: model.probabilities(model.split.test), lambda: model.weights):
        with pytest.raises(InputError, match=r"SVM .* a network does"):
            use()


@pytest.fixture(scope="module")
def scene(toy_data):
    return common.load_scene("UP", str(toy_data))


@pytest.mark.parametrize(
    ("name", "flags", "words"),
    [
        ("A2S2KResNet", {"recipe": "fast", "iter": 1}, "--recipe fast -i 1"),
        ("SSRN", {"recipe": "authors"}, "--recipe authors"),
        ("SSRN", {"valid_split": 0.95, "lr": 1e-4, "epoch": None}, "-vs 0.95 --lr 1e-4"),
        ("SSRN", {"validation": 0.1, "split": "disjoint"}, "--validation 0.1 --split disjoint"),
        ("SSRN", {"split": ("a.npy", "b.npy")}, "--split a.npy b.npy"),
        (
            "A2S2KResNet",
            {"probabilities": True, "attention": "official"},
            "--probabilities --attention official",
        ),
        ("SVM", {"input": "patch"}, "--input patch"),
    ],
)
def test_settings_are_those_of_the_command_line(scene, name, flags, words):
    defaults = SVM.DEFAULTS if name == "SVM" else SCRIPTS[name][1]
    expected = read_settings(defaults, ["-d", "UP", "--data-dir", scene.data_dir, *words.split()])
    assert common.make_settings(name, scene, **flags) == expected


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"iter": 0}, "--iter=0"),
        ({"iter": True}, "--iter=True"),
        ({"valid_split": 1.5}, "--valid_split=1.5"),
        ({"recipe": "slow"}, "--recipe=slow"),
        ({"lr": "fast"}, "--lr=fast"),
        ({"recipe": "fast", "lr_decay": 0.9}, "--recipe fast --lr-decay=0.9"),
        ({"per_class": 5, "valid_split": 0.9}, "--per-class 5 -vs 0.9"),
        ({"device": "tpu"}, "--device tpu"),
        ({"split": "random.npy"}, "--split random.npy"),
    ],
)
def test_wrong_settings_are_told_as_on_the_command_line(scene, flags, words):
    with pytest.raises(InputError) as expected:
        read_settings(SCRIPTS["SSRN"][1], words.split())
    with pytest.raises(InputError) as told:
        common.make_settings("SSRN", scene, **flags)
    assert str(told.value) == str(expected.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"epochs": 3}, "epochs: SSRN has no such setting; it has dataset, iter, "),
        ({"attention": "paper"}, "attention: SSRN has no such setting"),
        ({"help": True}, "help: SSRN has no such setting"),
        ({"probabilities": "yes"}, "probabilities: 'yes' is neither True nor False"),
        ({"dataset": "IN"}, "dataset: the scene says it; leave it out"),
        ({"out": "results/x"}, "out: only run_experiment has it; leave it out"),
    ],
)
def test_keywords_that_are_no_flags_are_refused(scene, flags, message):
    with pytest.raises(InputError, match=message):
        common.make_settings("SSRN", scene, **flags)


def test_networks_that_are_not_there_are_told(scene):
    with pytest.raises(InputError, match=r"'ResNet': this repository has no ResNet\.py"):
        common.make_settings("ResNet", scene)
    with pytest.raises(InputError, match="Linear: no DEFAULTS beside it"):
        common.make_settings(nn.Linear, scene)


def test_settings_of_another_scene_are_refused(scene):
    settings = common.make_settings("SSRN", scene)
    other = common.make_scene("Field", scene.cube, scene.labels)
    with pytest.raises(InputError, match="Field: the settings are made for the scene UP"):
        common.train(other, settings)
    with pytest.raises(InputError, match="iteration 3: 'iter' is 3, counted from 0"):
        common.train(scene, settings, iteration=3)


def test_a_scene_of_arrays_is_trained_on_as_one_in_files(both):
    model, _ = both
    scene = common.make_scene(
        "Field", model.scene.cube, toy_labels(), classes=("a", "b", "c", "d", "e")
    )
    flags = FLAGS | {"precision": model.settings.precision}
    trained = common.train(scene, common.make_settings(model.settings.model, scene, **flags))
    same(trained.split, common.make_splits(model.scene, model.settings)[0])
    report = trained.test().report
    assert (report["dataset"], report["class_names"]) == ("Field", ["a", "b", "c", "d", "e"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cube": np.zeros((4, 4))}, "cube: the cube is 4×4, not rows × cols × bands"),
        ({"labels": np.ones((3, 3), int)}, "do not fit: the cube is 40×36×60"),
        ({"labels": toy_labels() * 0.5}, "labels: .*whole numbers"),
        ({"classes": ["a"]}, "labels: "),
        ({"clases": ["a"]}, "unknown key 'clases', which is near 'classes'"),
        ({"ground_truth": "x"}, "'ground_truth': the arrays say it; leave it out"),
        ({"name": "in"}, "name 'in': a benchmark scene is called so"),
    ],
)
def test_arrays_that_are_no_scene_are_told(scene, change, message):
    given = {"name": "Field", "cube": scene.cube, "labels": toy_labels()} | change
    with pytest.raises(InputError, match=message):
        common.make_scene(**given)


def test_a_split_of_ones_own_is_checked_and_used(scene):
    settings = common.make_settings("SSRN", scene, **FLAGS | {"epoch": 1}, precision="fp32")
    [split, _] = common.make_splits(scene, settings)
    own = common.Split(split.train[:40], split.val, split.test)
    same(common.train(scene, settings, own).weights.split, own)
    unlabelled = np.flatnonzero(scene.labels == 0)
    for wrong, message in (
        ({"train": split.train.astype(np.int32)}, "'train' is no int64 array"),
        ({"val": split.val[:0]}, "'val' is empty"),
        ({"val": unlabelled}, "'val' holds pixels that have no label"),
        ({"test": -split.test}, "'test' holds pixels that have no label"),
        ({"test": split.train}, "a pixel is in it twice"),
    ):
        with pytest.raises(InputError, match=message):
            common.train(scene, settings, dataclasses.replace(split, **wrong))


def test_importing_it_loads_nothing_large():
    code = "import sys, common; print({'torch', 'numpy', 'matplotlib'} & sys.modules.keys())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_every_call_is_there():
    offered = [name for name in dir(common) if name in common._CALLS]
    assert len(offered) == len(common._CALLS)
    for name in offered:
        assert callable(getattr(common, name))
        assert getattr(common, name).__doc__
    with pytest.raises(AttributeError, match="'common' has no attribute 'fit'"):
        _ = common.fit
