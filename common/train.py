"""Training: one network, one split, early stopping, the best epoch's weights."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from common.optimizers import make_optimizer, set_learning_rate
from common.patches import Patches
from common.predict import logits
from common.recipe import RECIPES, learning_rate
from common.settings import Settings
from common.split import Split
from common.step import GraphedStep, TrainingStep

PATIENCE = 20


@dataclass(frozen=True)
class Epoch:
    """One line of ``history.csv``: losses are means over the set, accuracies shares 0..1.

    The learning rate is that of the epoch's first update.  Validation figures are NaN, and left
    out of the file, where the recipe does not validate.
    """

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    seconds: float


def train(
    model: nn.Module,
    patches: Patches,
    labels: np.ndarray,
    split: Split,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Epoch]:
    """Train `model` in place and leave it with the weights of its best epoch.

    Cross-entropy over shuffled batches; the last one is partial.  Training stops after
    ``settings.epoch`` epochs, or `PATIENCE` epochs after the one with the lowest mean validation
    loss; what ``settings.recipe`` changes, `common.recipe.Recipe` says.

    Parameters
    ----------
    labels : int64 array (rows * cols,)
        Ground truth by flat pixel index, 0 where unlabelled.
    seed : int
        With the epoch's number it fixes the batch order and the dropout.
    on_epoch : callable
        Called with each finished epoch.

    Returns
    -------
    list of Epoch
        The history, one entry per epoch run.

    Raises
    ------
    InputError
        No epoch had a finite validation loss.
    """
    device, recipe = patches.spectra.device, RECIPES[settings.recipe]
    targets = torch.from_numpy(labels).to(device) - 1
    train_pixels, val_pixels = (torch.from_numpy(s).to(device) for s in (split.train, split.val))
    step = training_step(model, patches, targets, settings)

    history, best_loss, best_epoch, best_weights = [], float("inf"), 0, None
    for number in range(1, settings.epoch + 1):
        start = time.perf_counter()
        seed_epoch(seed, number)
        train_loss, train_accuracy = train_epoch(step, train_pixels, settings, number)
        val_loss, val_accuracy = math.nan, math.nan
        if recipe.early_stopping or number == settings.epoch:
            val_loss, val_accuracy = loss_and_accuracy(model, patches, targets, val_pixels)
        seconds, rate = time.perf_counter() - start, learning_rate(settings, number - 1)
        epoch = Epoch(number, rate, train_loss, train_accuracy, val_loss, val_accuracy, seconds)
        history.append(epoch)
        on_epoch(epoch)
        if val_loss < best_loss:
            best_loss, best_epoch = val_loss, number
            best_weights = copy.deepcopy(model.state_dict())
        elif recipe.early_stopping and number - best_epoch >= PATIENCE:
            break
    if best_weights is None:
        raise InputError(
            f"--lr {settings.lr:g}: training diverged, the validation loss was never finite; "
            f"use a smaller learning rate"
        )
    model.load_state_dict(best_weights)
    return history


def training_step(
    model: nn.Module, patches: Patches, targets: Tensor, settings: Settings
) -> TrainingStep:
    """Choose the update for the device: as one CUDA graph where the optimizer can be captured."""
    on_gpu = targets.device.type == "cuda"
    beta2 = RECIPES[settings.recipe].adam_beta2
    optimizer = make_optimizer(settings.optimizer, model, settings.lr, on_gpu, beta2)
    capturable = on_gpu and optimizer.defaults.get("capturable", False)
    return (GraphedStep if capturable else TrainingStep)(model, patches, targets, optimizer)


def train_epoch(
    step: TrainingStep, pixels: Tensor, settings: Settings, number: int
) -> tuple[float, float]:
    """One pass over the training pixels; return mean loss and accuracy while training."""
    step.model.train()
    step.loss_sum.zero_()
    step.correct.zero_()
    recipe, device = RECIPES[settings.recipe], pixels.device
    order = draw(step.targets[pixels].cpu(), recipe.balance)
    batches = pixels[order.to(device)].split(settings.batch_size)
    symmetries = [None] * len(batches)
    if recipe.symmetries:
        symmetries = torch.randint(8, order.shape).to(device).split(settings.batch_size)
    for index, batch in enumerate(zip(batches, symmetries, strict=True)):
        epochs_done = number - 1 + index / len(batches)
        set_learning_rate(step.optimizer, learning_rate(settings, epochs_done))
        step(*batch)
    return step.loss_sum.item() / len(pixels), step.correct.item() / len(pixels)


def draw(targets: Tensor, balance: float) -> Tensor:
    """Draw an epoch's training pixels: indices into `targets`, their 0-based classes."""
    if not balance:
        return torch.randperm(len(targets))
    sizes = targets.bincount().double()
    weights = sizes[targets] ** -balance
    return torch.multinomial(weights, len(targets), replacement=True)


def loss_and_accuracy(
    model: nn.Module, patches: Patches, targets: Tensor, pixels: Tensor
) -> tuple[float, float]:
    """Mean cross-entropy and accuracy over `pixels`, in evaluation mode."""
    scores, target = logits(model, patches, pixels), targets[pixels]
    accuracy = (scores.argmax(dim=1) == target).double().mean()
    return F.cross_entropy(scores, target).item(), accuracy.item()


def seed_epoch(seed: int, epoch: int) -> None:
    """Seed PyTorch from (seed, epoch) alone, so that an epoch does not depend on those before."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))
