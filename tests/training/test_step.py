"""One update: what it adds up, and that it stops counting where a loss is no number."""

import math

import numpy as np
import torch

from common.recipe import Recipe
from common.samples.patches import Patches
from common.training.optimizers import make_optimizer
from common.training.step import TrainingStep
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
