"""Training: one network, one split, early stopping, the best epoch's weights."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.checkpoint import Checkpoint
from common.errors import InputError
from common.optimizers import make_optimizer, set_learning_rate
from common.patches import Patches
from common.predict import logits
from common.recipe import RECIPES, half_width, learning_rate
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


@dataclass
class Progress:
    """How far a training has come: its epochs, and the best one's number, loss and weights."""

    history: list[Epoch] = field(default_factory=list)
    best_loss: float = math.inf
    best_epoch: int = 0
    best_weights: dict[str, Tensor] | None = None

    def is_over(self, settings: Settings) -> bool:
        """Whether all epochs are done, or the last `PATIENCE` of them were no improvement."""
        done = len(self.history)
        stops_early = RECIPES[settings.recipe].early_stopping
        return done == settings.epoch or (stops_early and done - self.best_epoch >= PATIENCE)

    def add(self, epoch: Epoch, model: nn.Module) -> None:
        """Add an epoch, and keep the network's weights if it is the best so far."""
        self.history.append(epoch)
        if epoch.validation_loss < self.best_loss:
            self.best_loss, self.best_epoch = epoch.validation_loss, epoch.epoch
            self.best_weights = copy.deepcopy(model.state_dict())

    def as_dict(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict:
        """Return all that training needs to go on from here."""
        history = [dataclasses.asdict(epoch) for epoch in self.history]
        states = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        return vars(self) | {"history": history} | states


class DivergenceError(InputError):
    """Training cannot go on; `progress` holds what was good until then."""

    def __init__(self, what: str, settings: Settings, progress: Progress) -> None:
        kept = f"the weights of epoch {progress.best_epoch}, the best, are kept; "
        super().__init__(
            f"--lr {settings.lr:g}: training diverged, {what}; "
            f"{kept if progress.best_weights else ''}use a smaller learning rate"
        )
        self.progress = progress


def train(
    model: nn.Module,
    patches: Patches,
    labels: np.ndarray,
    split: Split,
    settings: Settings,
    seed: int,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
    checkpoint: Checkpoint | None = None,
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
    checkpoint : Checkpoint, optional
        Where training starts, if it holds anything, and where it is kept as it goes.

    Returns
    -------
    list of Epoch
        The history, one entry per epoch run.

    Raises
    ------
    DivergenceError
        A training loss is NaN or infinite, or no epoch had a finite validation loss.
    """
    device, recipe = patches.spectra.device, RECIPES[settings.recipe]
    targets = torch.from_numpy(labels).to(device) - 1
    train_pixels, val_pixels = (torch.from_numpy(s).to(device) for s in (split.train, split.val))
    step = training_step(model, patches, targets, settings)

    progress = resumed(checkpoint, model, step.optimizer) or Progress()
    for epoch in progress.history:
        on_epoch(epoch)
    while not progress.is_over(settings):
        start, number = time.perf_counter(), len(progress.history) + 1
        seed_epoch(seed, number)
        train_loss, train_accuracy = train_epoch(step, train_pixels, settings, number)
        if not math.isfinite(train_loss):
            update = step.finite.item() + 1
            what = f"the loss became NaN or infinite in update {update} of epoch {number}"
            raise DivergenceError(what, settings, progress)
        val_loss, val_accuracy = math.nan, math.nan
        if recipe.early_stopping or number == settings.epoch:
            val_loss, val_accuracy = loss_and_accuracy(model, patches, targets, val_pixels)
        seconds, rate = time.perf_counter() - start, learning_rate(settings, number - 1)
        epoch = Epoch(number, rate, train_loss, train_accuracy, val_loss, val_accuracy, seconds)
        progress.add(epoch, model)
        on_epoch(epoch)
        if checkpoint is not None:
            checkpoint.write(lambda: progress.as_dict(model, step.optimizer))
    if progress.best_weights is None:
        raise DivergenceError("the validation loss was never finite", settings, progress)
    model.load_state_dict(progress.best_weights)
    return progress.history


def resumed(
    checkpoint: Checkpoint | None, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Bring network and optimizer where the checkpoint was written, and return how far that is."""
    kept = checkpoint and checkpoint.read()
    if not kept:
        return None
    model.load_state_dict(kept.pop("model"))
    rates = [group["lr"] for group in optimizer.param_groups]
    optimizer.load_state_dict(kept.pop("optimizer"))
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate  # a CUDA graph needs the tensor it was made with
    return Progress(**kept | {"history": [Epoch(**epoch) for epoch in kept["history"]]})


def training_step(
    model: nn.Module, patches: Patches, targets: Tensor, settings: Settings
) -> TrainingStep:
    """Choose the update for the device: as one CUDA graph where the optimizer can be captured."""
    on_gpu, recipe = targets.device.type == "cuda", RECIPES[settings.recipe]
    optimizer = make_optimizer(settings.optimizer, model, settings.lr, recipe, on_gpu)
    capturable = on_gpu and optimizer.defaults.get("capturable", False)
    kind = GraphedStep if capturable else TrainingStep
    return kind(model, patches, targets, optimizer, recipe.label_smoothing)


def train_epoch(
    step: TrainingStep, pixels: Tensor, settings: Settings, number: int
) -> tuple[float, float]:
    """One pass over the training pixels; return mean loss and accuracy while training.

    It may end early where the loss becomes NaN or infinite.
    """
    recipe, device = RECIPES[settings.recipe], pixels.device
    step.start_epoch(half_width(settings, number))
    order = draw(step.targets[pixels].cpu(), recipe.balance)
    batches = pixels[order.to(device)].split(settings.batch_size)
    symmetries = [None] * len(batches)
    if recipe.symmetries:
        symmetries = torch.randint(8, order.shape).to(device).split(settings.batch_size)
    for index, batch in enumerate(zip(batches, symmetries, strict=True)):
        epochs_done = number - 1 + index / len(batches)
        set_learning_rate(step.optimizer, learning_rate(settings, epochs_done))
        step(*batch)
        if device.type == "cpu" and not step.loss_sum.isfinite():
            break  # on a GPU, looking after each update would take longer than the update
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
