"""Training: one network, one split, early stopping, the best epoch's weights."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from common.optimizers import OPTIMIZERS
from common.patches import Patches
from common.predict import logits
from common.settings import Settings
from common.split import Split

PATIENCE = 20


@dataclass(frozen=True)
class Epoch:
    """One line of ``history.csv``: losses are means over the set, accuracies shares 0..1."""

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
    `PATIENCE` epochs without a lower mean validation loss, or after ``settings.epoch`` epochs.

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
    device = patches.spectra.device
    targets = torch.from_numpy(labels).to(device) - 1
    train_pixels, val_pixels = (torch.from_numpy(s).to(device) for s in (split.train, split.val))
    optimizer = OPTIMIZERS[settings.optimizer](model.parameters(), lr=settings.lr)

    history, best_loss, best_epoch, best_weights = [], float("inf"), 0, None
    for number in range(1, settings.epoch + 1):
        start = time.perf_counter()
        seed_epoch(seed, number)
        order = train_pixels[torch.randperm(len(train_pixels)).to(device)]
        rate = settings.lr * settings.lr_decay ** (number - 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        train_loss, train_accuracy = train_epoch(
            model, patches, targets, order.split(settings.batch_size), optimizer
        )
        val_loss, val_accuracy = loss_and_accuracy(model, patches, targets, val_pixels)
        seconds = time.perf_counter() - start
        epoch = Epoch(number, rate, train_loss, train_accuracy, val_loss, val_accuracy, seconds)
        history.append(epoch)
        on_epoch(epoch)
        if val_loss < best_loss:
            best_loss, best_epoch = val_loss, number
            best_weights = copy.deepcopy(model.state_dict())
        elif number - best_epoch >= PATIENCE:
            break
    if best_weights is None:
        raise InputError(
            f"--lr {settings.lr:g}: training diverged, the validation loss was never finite; "
            f"use a smaller learning rate"
        )
    model.load_state_dict(best_weights)
    return history


def train_epoch(
    model: nn.Module,
    patches: Patches,
    targets: Tensor,
    batches: tuple[Tensor, ...],
    optimizer: torch.optim.Optimizer,
) -> tuple[float, float]:
    """One pass over the batches of pixels; return mean loss and accuracy while training."""
    model.train()
    loss_sum = torch.zeros((), device=targets.device)
    correct = torch.zeros((), dtype=torch.int64, device=targets.device)
    for pixels in batches:
        optimizer.zero_grad()
        scores, target = model(patches.gather(pixels)), targets[pixels]
        loss = F.cross_entropy(scores, target)
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(pixels)
        correct += (scores.argmax(dim=1) == target).sum()
    count = sum(len(pixels) for pixels in batches)
    return loss_sum.item() / count, correct.item() / count


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
