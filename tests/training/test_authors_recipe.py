"""The protocol of SSRN's authors, against the formulas of Keras 2.0."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.recipe import RECIPES, with_recipe
from common.run.cli import read_settings
from common.training.optimizers import make_optimizer
from common.training.train import Training, run, training_step
from SSRN import SSRN, SSRNKeras, SSRNLeaky
from tests.training.test_train import SETTINGS, new_model, scripted_losses, task  # noqa: F401

FORMS = [SSRN, SSRNKeras, SSRNLeaky]
AUTHORS = dataclasses.replace(with_recipe(SETTINGS, "authors"), epoch=30)


def settings_of(form, *flags: str) -> dict:
    return vars(read_settings(form.DEFAULTS, ["--recipe", "authors", *flags]))


@pytest.mark.parametrize("form", FORMS)
def test_flags_of_the_recipe(form):
    expected = {"epoch": 200, "optimizer": "rmsprop", "lr": 3e-4, "batch_size": 16}
    expected |= {"preprocess": "standardise", "split": "authors", "seed": 1334}
    on_indian_pines = expected | {"valid_split": 0.8, "validation": 0.1}
    assert settings_of(form).items() >= on_indian_pines.items()
    assert settings_of(form, "-d", "field.yaml").items() >= on_indian_pines.items()
    on_pavia = expected | {"valid_split": 0.9, "validation": None}
    assert settings_of(form, "-d", "up").items() >= on_pavia.items()
    given = settings_of(form, "-d", "UP", "-vs", "0.7", "--validation", "300", "-o", "adam")
    assert given.items() >= {"valid_split": 0.7, "validation": 300, "optimizer": "adam"}.items()


def test_the_keras_form_trains_so_by_itself():
    assert read_settings(SSRNKeras.DEFAULTS, []) == read_settings(
        SSRNKeras.DEFAULTS, ["--recipe", "authors"]
    )
    assert read_settings(SSRN.DEFAULTS, []).recipe == "paper"


def test_rmsprop_is_that_of_keras():
    generator = np.random.default_rng(0)
    x = generator.normal(size=5)
    layer = nn.Module()
    layer.weight = nn.Parameter(torch.from_numpy(x.copy()))
    optimizer = make_optimizer("rmsprop", layer, 3e-4, RECIPES["authors"])
    mean_square = np.zeros(5)
    for _ in range(7):
        g = generator.normal(size=5)
        layer.weight.grad = torch.from_numpy(g.copy())
        optimizer.step()
        mean_square = 0.9 * mean_square + 0.1 * g**2
        x = x - 3e-4 * g / (np.sqrt(mean_square) + 1e-8)
        np.testing.assert_allclose(layer.weight.detach(), x, rtol=1e-12)


def test_squares_of_convolutions_count_and_of_nothing_else(task):  # noqa: F811
    patches, labels, split = task
    model, pixels = new_model(), torch.from_numpy(split.train[:16])
    model.dropout.p = 0.0
    targets = torch.from_numpy(labels) - 1
    plain = new_model().train()
    plain.dropout.p = 0.0
    loss = F.cross_entropy(plain(patches.gather(pixels)), targets[pixels])
    loss.backward()

    step = training_step(model, patches, targets, AUTHORS)
    step.optimizer.step = lambda: None
    step.start_epoch(AUTHORS.patch)
    step(pixels)
    convolutions = {
        f"{name}.weight": module.weight
        for name, module in plain.named_modules()
        if isinstance(module, nn.Conv3d)
    }
    assert len(convolutions) == 11
    for (name, parameter), other in zip(model.named_parameters(), plain.parameters(), strict=True):
        decay = 2 * 1e-4 * other.detach() if name in convolutions else 0
        torch.testing.assert_close(parameter.grad, other.grad + decay, rtol=1e-4, atol=1e-6)
    squares = sum(weight.detach().square().sum() for weight in convolutions.values())
    expected = 16 * (loss.detach() + 1e-4 * squares)
    torch.testing.assert_close(step.loss_sum, expected, rtol=1e-5, atol=1e-5)


def test_goes_on_to_the_last_epoch_and_keeps_the_best(task, monkeypatch):  # noqa: F811
    losses = [5.0, 4.0, 0.1] + [6.0] * 27
    seen = scripted_losses(monkeypatch, losses)
    model = new_model()
    training = Training(model, task, AUTHORS, seed=1)
    assert run(training) is None
    history = training.progress.history
    assert len(history) == 30  # more than the patience of the papers' protocol
    added = [epoch.validation_loss - loss for epoch, loss in zip(history, losses, strict=True)]
    squares = [
        sum(
            w.square().sum().item()
            for name, w in state.items()
            if name.endswith("weight") and w.ndim == 5
        )
        for state in seen
    ]
    np.testing.assert_allclose(added, 1e-4 * np.array(squares), rtol=1e-3)
    for name, value in model.state_dict().items():
        assert torch.equal(value, seen[2][name]), name
