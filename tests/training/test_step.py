"""One update: what it adds up, how classes are weighed, and losses that are no number."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.recipe import Recipe
from common.samples.even_draws import draw_evenly
from common.samples.patches import Patches
from common.training.optimizers import make_optimizer
from common.training.step import TrainingStep, balanced_weights, weighted_loss
from SSRN.SSRN import SSRN


def test_updates_are_counted_until_the_loss_is_not_finite():
    torch.manual_seed(0)
    cube = np.random.default_rng(0).normal(size=(6, 7, 9)).astype(np.float32)
    patches, model = Patches.of_cube(cube, 2, torch.device("cpu")), SSRN(9, 3, 4)
    step = TrainingStep(
        model, patches, torch.arange(42) % 3, make_optimizer("adam", model, 1e-3, Recipe())
    )
    step.start_epoch(2)
    for number in range(4):
        if number == 2:
            model.classifier.bias.data[0] = math.nan
        step(torch.arange(8))
    assert (step.finite.item(), math.isnan(step.loss_sum.item())) == (2, True)
    step.start_epoch(2)
    assert step.finite.item() == 0


COUNTS = (60, 25, 0, 12, 3)
TARGETS = torch.from_numpy(np.repeat(np.arange(len(COUNTS)), COUNTS))


def test_balanced_weights_are_the_inverse_shares_with_mean_one():
    weights = balanced_weights(TARGETS, len(COUNTS), balance=0)
    assert weights[TARGETS].mean().item() == pytest.approx(1)
    assert weights[2] == 0  # no training pixel
    totals = (weights * torch.tensor(COUNTS))[torch.tensor(COUNTS) > 0]
    torch.testing.assert_close(totals, torch.full_like(totals, 100 / 4))


@pytest.mark.parametrize("balance", [0.3, 1.0])
def test_balanced_weights_make_up_what_even_draws_leave(balance):
    """Over the pixels that epochs draw, all classes weigh alike, and the mean weight is 1."""
    weights = balanced_weights(TARGETS, len(COUNTS), balance)
    epochs = [draw_evenly(TARGETS.numpy(), balance, 0, epoch)[0] for epoch in range(1, 41)]
    drawn = torch.bincount(TARGETS[np.concatenate(epochs)], minlength=len(COUNTS)) / 40
    totals = (weights * drawn)[torch.tensor(COUNTS) > 0]
    torch.testing.assert_close(totals, torch.full_like(totals, 100 / 4), rtol=0.05, atol=0)


def test_the_weighted_loss_of_batches_adds_up_to_that_of_all():
    scores, weights = torch.randn(100, 5), balanced_weights(TARGETS, 5, balance=0)
    whole = weighted_loss(scores, TARGETS, weights, smoothing=0.1)
    order = torch.randperm(100)
    parts = [weighted_loss(scores[b], TARGETS[b], weights, 0.1) for b in order.split(10)]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)
    each = F.cross_entropy(scores, TARGETS, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(whole, (weights[TARGETS] * each).mean())


def test_without_weights_the_loss_is_cross_entropy_to_the_bit():
    scores = torch.randn(100, 5)
    assert torch.equal(weighted_loss(scores, TARGETS, None), F.cross_entropy(scores, TARGETS))
