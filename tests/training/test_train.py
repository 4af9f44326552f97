"""Training: early stopping, best weights, learning rate, and the same bits twice."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import common.training.train
from A2S2KResNet.A2S2KResNet import DEFAULTS as A2S2K_DEFAULTS
from common.recipe import RECIPES, Recipe, recipe_of, with_recipe
from common.samples.patches import Patches
from common.samples.preprocess import fit_pca_scaling
from common.samples.random_split import random_split
from common.system.errors import InputError
from common.training.predict import logits, predict
from common.training.step import balanced_weights, weighted_loss
from common.training.train import (
    Data,
    DivergenceError,
    Epoch,
    Training,
    loss_and_accuracy,
    run,
    run_side_by_side,
    training_step,
)
from SSRN.SSRN import DEFAULTS, SSRN
from tests.conftest import toy_labels

SETTINGS = dataclasses.replace(DEFAULTS, epoch=3, patch=2)


@pytest.fixture(scope="module")
def task():
    """Patches, flat labels and split of a scene that is easy to learn."""
    labels = toy_labels()
    generator = np.random.default_rng(0)
    cube = generator.normal(size=(6, 10))[labels] + 0.1 * generator.normal(size=(40, 36, 10))
    cube = fit_pca_scaling(cube).apply(cube)
    patches = Patches.of_cube(cube, SETTINGS.patch, torch.device("cpu"))
    return Data(patches, labels.ravel(), random_split(labels, 0.9, 1331))


def new_model(seed: int = 0) -> SSRN:
    torch.manual_seed(seed)
    return SSRN(bands=10, classes=5, kernels=8)


def train(*arguments, **named) -> list[Epoch]:
    training = Training(*arguments, **named)
    if divergence := run(training):
        raise divergence
    return training.progress.history


def test_learns(task):
    patches, labels, split = task
    model = new_model()
    history = train(model, task, dataclasses.replace(SETTINGS, epoch=30, lr=5e-3), seed=1)
    assert [epoch.epoch for epoch in history] == list(range(1, 31))
    assert history[-1].train_loss < history[0].train_loss
    assert (predict(model, patches, split.test) == labels[split.test]).mean() > 0.75  # chance: 0.24


def test_same_seed_same_bits_other_seed_others(task):
    def weights(seed):
        model = new_model()
        train(model, task, SETTINGS, seed=seed)
        return torch.cat([p.detach().ravel() for p in model.parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def scripted_losses(monkeypatch, losses):
    """Let validation report these losses, and record the weights it saw."""
    seen = []

    def validate(model, patches, targets, pixels, class_weights):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return losses[len(seen) - 1], 0.5

    monkeypatch.setattr(common.training.train, "loss_and_accuracy", validate)
    return seen


@pytest.mark.parametrize(
    ("losses", "epochs_run", "best"),
    [
        ([3.0, 1.0, 2.0, 2.0, 2.0, 0.5], 5, 2),  # patience over: stops before the 0.5
        ([3.0, 1.0, 2.0, 2.0, 0.5, 2.0], 6, 5),  # the last epoch allowed, not the best
        ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 4, 1),  # a tie is no improvement
    ],
)
def test_stops_early_and_keeps_the_best_epoch(task, monkeypatch, losses, epochs_run, best):
    monkeypatch.setattr(common.training.train, "PATIENCE", 3)
    seen = scripted_losses(monkeypatch, losses)
    model = new_model()
    history = train(model, task, dataclasses.replace(SETTINGS, epoch=6), seed=1)
    assert len(history) == epochs_run
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[best - 1][name]), name


def test_a_nan_loss_is_never_the_best(task, monkeypatch):
    monkeypatch.setattr(common.training.train, "PATIENCE", 3)
    seen = scripted_losses(monkeypatch, [float("nan"), 2.0, float("nan")])
    model = new_model()
    assert len(train(model, task, SETTINGS, seed=1)) == 3
    assert all(torch.equal(v, seen[1][name]) for name, v in model.state_dict().items())


def test_divergence_is_told(task):
    with pytest.raises(InputError, match="--lr 1e\\+30: training diverged"):
        train(new_model(), task, dataclasses.replace(SETTINGS, lr=1e30), seed=1)


def test_side_by_side_is_as_one_after_another(task, monkeypatch):
    """And one that diverges leaves the others alone."""
    for name in ("Stream", "stream"):
        monkeypatch.setattr(torch.cuda, name, lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    settings = [SETTINGS, dataclasses.replace(SETTINGS, lr=1e30), SETTINGS]
    trainings = [Training(new_model(), task, s, seed=n) for n, s in enumerate(settings)]
    ends = run_side_by_side(trainings)
    assert [type(end) for end in ends] == [type(None), DivergenceError, type(None)]
    for number in (0, 2):
        alone = new_model()
        expected = train(alone, task, SETTINGS, seed=number)
        history = trainings[number].progress.history
        assert [e.train_loss for e in history] == [e.train_loss for e in expected]
        for weights, others in zip(
            trainings[number].model.parameters(), alone.parameters(), strict=True
        ):
            assert torch.equal(weights, others)


def test_every_epoch_takes_every_training_pixel_once_in_a_new_order(task, monkeypatch):
    steps = recorded_steps(monkeypatch)
    train(new_model(), task, SETTINGS, seed=1)
    epochs = [[batch for batch, _, _ in steps[start : start + 7]] for start in (0, 7, 14)]
    pixels = torch.from_numpy(task[2].train)
    for batches in epochs:
        assert [len(batch) for batch in batches] == [16] * 6 + [15]
        assert torch.equal(torch.cat(batches).sort().values, pixels.sort().values)
    assert not torch.equal(torch.cat(epochs[0]), torch.cat(epochs[1]))


def recorded_steps(monkeypatch):
    """Record (pixels, symmetries, learning rate) of every update."""
    steps, update = [], common.training.train.TrainingStep.__call__

    def record(step, pixels, symmetries):
        steps.append((pixels, symmetries, step.optimizer.param_groups[0]["lr"]))
        update(step, pixels, symmetries)

    monkeypatch.setattr(common.training.train.TrainingStep, "__call__", record)
    return steps


def test_fast_recipe_cycles_once_mirrors_and_validates_at_the_end(task, monkeypatch):
    steps = recorded_steps(monkeypatch)
    settings = dataclasses.replace(with_recipe(SETTINGS, "fast"), epoch=4)
    history = train(new_model(), task, settings, seed=1)
    rates = [rate for _, _, rate in steps]
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(settings.lr, rel=0.05)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] < 0.02 * settings.lr
    drawn = torch.cat([pixels for pixels, _, _ in steps])
    assert len(drawn) == 4 * len(task[2].train)
    assert len(drawn.unique()) == len(task[2].train)
    assert {int(s) for _, symmetries, _ in steps for s in symmetries} == set(range(8))
    assert [np.isnan(epoch.validation_loss) for epoch in history] == [True, True, True, False]


@pytest.mark.parametrize(
    ("recipe", "patch", "expected"),
    [("fast", 3, [5, 5, 7, 7]), ("fast", 2, [5, 5, 5, 5]), ("paper", 3, [7, 7, 7, 7])],
)
def test_fast_recipe_begins_with_smaller_patches(task, monkeypatch, recipe, patch, expected):
    settings = dataclasses.replace(with_recipe(SETTINGS, recipe), epoch=4, patch=patch)
    _, labels, split = task
    cube = np.random.default_rng(0).normal(size=(40, 36, 10))
    patches = Patches.of_cube(cube, patch, torch.device("cpu"))
    model, sizes = new_model(), []
    model.register_forward_pre_hook(
        lambda model, x: sizes.append(x[0].shape[2]) if model.training else None
    )
    train(model, Data(patches, labels, split), settings, seed=1)
    assert sizes == [size for size in expected for _ in range(7)]


def test_fast_recipe_hides_pixels_smooths_labels_and_decays_weights(task, monkeypatch):
    patches, labels, split = task
    smoothings, hidden, cross_entropy = [], [], F.cross_entropy

    def record(scores, target, label_smoothing):
        smoothings.append(label_smoothing)
        return cross_entropy(scores, target, label_smoothing=label_smoothing)

    monkeypatch.setattr("common.training.step.F.cross_entropy", record)
    for name, optimizer in (("paper", "adam"), ("fast", "adamw")):
        settings = with_recipe(dataclasses.replace(SETTINGS, model="A2S2KResNet"), name)
        model = new_model()
        model.register_forward_pre_hook(lambda _, x: hidden.append((x[0] == 0).all(dim=4)))
        step = training_step(model, patches, torch.from_numpy(labels) - 1, settings)
        assert settings.optimizer == optimizer
        torch.manual_seed(0)
        step(torch.from_numpy(split.train))
    assert smoothings == [0.0, 0.1]
    of_paper, of_fast = (mask.double().mean() for mask in hidden)
    assert of_fast - of_paper == pytest.approx(0.2, abs=0.03)
    assert step.optimizer.defaults["weight_decay"] == RECIPES["fast"].adamw_decay
    assert step.optimizer.defaults["betas"] == (0.9, RECIPES["fast"].adam_beta2)


def test_fast_recipe_of_each_network():
    networks = {"A2S2KResNet": (12, 0.3, 0.2), "SSRN": (16, 0.5, 0.0), "Another": (12, 0.3, 0.2)}
    for model, expected in networks.items():
        settings = with_recipe(dataclasses.replace(SETTINGS, model=model), "fast")
        recipe = recipe_of(settings)
        assert (settings.epoch, recipe.balance, recipe.occlusion) == expected
        assert recipe_of(with_recipe(settings, "paper")) == Recipe()


def test_protocol_defaults():
    protocol = {
        "dataset": "IN",
        "epoch": 200,
        "iter": 3,
        "patch": 3,
        "kernel": 24,
        "valid_split": 0.9,
        "optimizer": "adam",
        "split": "random",
        "seed": 1331,
        "batch_size": 16,
        "lr": 1e-3,
        "lr_decay": 1.0,
        "recipe": "paper",
        "map": "labelled",
        "device": "auto",
    }
    for defaults, attention in [(A2S2K_DEFAULTS, "paper"), (DEFAULTS, None)]:
        settings = dataclasses.asdict(defaults)
        assert {name: settings[name] for name in protocol} == protocol
        assert settings["attention"] == attention
    assert common.training.train.PATIENCE == 20


def test_learning_rate_decays_from_the_second_epoch_on(task):
    history = train(new_model(), task, dataclasses.replace(SETTINGS, lr_decay=0.5), seed=1)
    assert [epoch.learning_rate for epoch in history] == [1e-3, 5e-4, 2.5e-4]


def test_validation_loss_is_the_mean_over_the_whole_set(task):
    patches, labels, split = task
    model = new_model()
    targets = torch.from_numpy(labels) - 1
    pixels = torch.from_numpy(split.val)  # 111: more than one batch, the last one partial
    loss, accuracy = loss_and_accuracy(model, patches, targets, pixels)
    expected = [
        F.cross_entropy(logits(model, patches, pixel[None]), targets[pixel[None]])
        for pixel in pixels
    ]
    assert loss == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    hits = predict(model, patches, split.val) == labels[split.val]
    assert accuracy == pytest.approx(hits.mean())


def test_class_weights_are_those_of_the_training_pixels_in_validation_too(task):
    patches, labels, split = task
    of_first = np.flatnonzero(labels[split.train] == 1)
    uneven = dataclasses.replace(split, train=np.delete(split.train, of_first[3:]))
    settings = dataclasses.replace(SETTINGS, epoch=1, class_weights="balanced")
    model = new_model()
    (epoch,) = train(model, task._replace(split=uneven), settings, seed=1)
    targets, pixels = torch.from_numpy(labels) - 1, torch.from_numpy(split.val)
    weights = balanced_weights(targets[uneven.train], 5, balance=0)
    assert weights[0] > 3 * weights[1:].max()
    scores = logits(model, patches, pixels)
    expected = weighted_loss(scores, targets[pixels], weights).item()
    assert epoch.validation_loss == pytest.approx(expected, rel=1e-5)
    assert expected != pytest.approx(F.cross_entropy(scores, targets[pixels]).item(), rel=0.01)


def test_class_weights_find_more_of_a_small_class(task):
    patches, labels, split = task
    of_first = np.flatnonzero(labels[split.train] == 1)
    uneven = dataclasses.replace(split, train=np.delete(split.train, of_first[2:]))
    pixels, found = split.test[labels[split.test] == 1], {}
    for kind in ("none", "balanced"):
        settings = dataclasses.replace(SETTINGS, epoch=10, lr=3e-3, class_weights=kind)
        model = new_model()
        train(model, task._replace(split=uneven), settings, seed=1)
        found[kind] = (predict(model, patches, pixels) == 1).mean()
    assert found["balanced"] > found["none"]
