"""Training: one network, one split, early stopping, the best epoch's weights."""

import copy
import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from common.fast import compile_seconds
from common.recipe import Recipe, half_width, learning_rate, recipe_of
from common.samples.even_draws import draw_evenly
from common.samples.patches import Patches
from common.samples.random_split import Split
from common.settings import Settings
from common.system.errors import InputError
from common.training.checkpoint import Checkpoint
from common.training.history import Epoch
from common.training.optimizers import make_optimizer, set_learning_rate
from common.training.predict import logits
from common.training.step import TrainingStep, balanced_weights, weighted_loss

PATIENCE = 20


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
        stops_early = recipe_of(settings).early_stopping
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


class Data(NamedTuple):
    """What a network is trained and validated on.

    Attributes
    ----------
    patches : Patches
    labels : int array (rows * cols,)
        Ground truth by flat pixel index, 0 where unlabelled.
    split : Split
    """

    patches: Patches
    labels: np.ndarray
    split: Split


class Training:
    """The training of one network in place, an epoch at a time; see `run`.

    Cross-entropy over shuffled batches; the last one is partial.  Training stops after
    ``settings.epoch`` epochs, or `PATIENCE` epochs after the one with the lowest mean validation
    loss; what the recipe changes, `common.recipe.Recipe` says.

    With ``--class-weights balanced`` the validation loss is weighted too, by the same weights, so
    that the epoch is chosen by what training lowers.  Unweighted, it would choose the epoch that
    serves the large classes best.

    Parameters
    ----------
    seed : int
        With the epoch's number it fixes the batch order and the dropout.
    checkpoint : Checkpoint, optional
        Where training starts, if it holds anything, and where it is kept as it goes.
    recipe : Recipe, optional
        In place of the one that ``settings.recipe`` names.

    Attributes
    ----------
    progress : Progress
        Of the checkpoint, until the next epoch.
    on_epoch : callable
        Called with each epoch that is finished from now on.
    """

    def __init__(
        self,
        model: nn.Module,
        data: Data,
        settings: Settings,
        seed: int,
        checkpoint: Checkpoint | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        self.model, self.patches, self.settings, self.seed = model, data.patches, settings, seed
        self.checkpoint = checkpoint
        device = data.patches.spectra.device
        self.targets = torch.from_numpy(data.labels).to(device) - 1
        self.pixels, self.val_pixels = (
            torch.from_numpy(pixels).to(device) for pixels in (data.split.train, data.split.val)
        )
        weights = None
        if settings.class_weights == "balanced":
            balance, classes = (recipe or recipe_of(settings)).balance, int(data.labels.max())
            weights = balanced_weights(self.targets[self.pixels], classes, balance)
        self.step = training_step(model, data.patches, self.targets, settings, recipe, weights)
        self.progress = resumed(checkpoint, model, self.step.optimizer) or Progress()
        self.on_epoch: Callable[[Epoch], None] = lambda epoch: None

    def is_over(self) -> bool:
        """Whether there is no further epoch."""
        return self.progress.is_over(self.settings)

    def start_epoch(self, side_by_side: int = 1) -> None:
        """Update the weights with all training pixels; a GPU is only told to.

        The epoch's time is shared out among so many trainings that go on `side_by_side`.
        """
        self.start, self.compiling = time.perf_counter(), compile_seconds()
        self.side_by_side, self.number = side_by_side, len(self.progress.history) + 1
        self.step.seed(epoch_seed(self.seed, self.number))
        make_updates(self.step, self.pixels, self.settings, self.seed, self.number)

    def end_epoch(self) -> None:
        """Wait for the updates, validate and keep what came of them.

        Raises
        ------
        DivergenceError
            The loss is NaN or infinite.
        """
        step, settings, number = self.step, self.settings, self.number
        train_loss = step.loss_sum.item() / len(self.pixels)
        train_accuracy = step.correct.item() / len(self.pixels)
        if not math.isfinite(train_loss):
            update = step.finite.item() + 1
            what = f"the loss became NaN or infinite in update {update} of epoch {number}"
            raise DivergenceError(what, settings, self.progress)
        val_loss, val_accuracy = math.nan, math.nan
        if recipe_of(settings).best_epoch or number == settings.epoch:
            val_loss, val_accuracy = loss_and_accuracy(
                self.model, self.patches, self.targets, self.val_pixels, step.class_weights
            )
            with torch.no_grad():
                val_loss += float(step.weight_loss())
        seconds = time.perf_counter() - self.start - (compile_seconds() - self.compiling)
        seconds, rate = seconds / self.side_by_side, learning_rate(settings, number - 1)
        epoch = Epoch(number, rate, train_loss, train_accuracy, val_loss, val_accuracy, seconds)
        self.progress.add(epoch, self.model)
        self.on_epoch(epoch)
        if self.checkpoint is not None:
            self.checkpoint.write(lambda: self.progress.as_dict(self.model, step.optimizer))

    def finish(self) -> None:
        """Go back to the best epoch's weights.

        Raises
        ------
        DivergenceError
            No epoch had a finite validation loss.
        """
        if self.progress.best_weights is None:
            what = "the validation loss was never finite"
            raise DivergenceError(what, self.settings, self.progress)
        self.model.load_state_dict(self.progress.best_weights)


def run(training: Training) -> DivergenceError | None:
    """Go through a training to its end; return why it ended before its time, if it did.

    It leaves the network with the weights of its best epoch.
    """
    try:
        while not training.is_over():
            training.start_epoch()
            training.end_epoch()
        training.finish()
    except DivergenceError as error:
        return error


def run_side_by_side(trainings: Sequence[Training]) -> list[DivergenceError | None]:
    """Go through several trainings at once, each on a GPU stream of its own.

    One update is too little work for a GPU: most of it waits for a few small kernels.  While those
    of one training wait, those of others run.

    Returns
    -------
    list of DivergenceError or None
        Why each training ended before its time, if it did.
    """
    ends: list[DivergenceError | None] = [None] * len(trainings)
    torch.cuda.synchronize()  # what they share has been made on another stream
    waiting = deque((number, torch.cuda.Stream(), False) for number in range(len(trainings)))
    while waiting:
        number, stream, started = waiting.popleft()
        training = trainings[number]
        with torch.cuda.stream(stream):
            try:
                if started:
                    training.end_epoch()
                if training.is_over():
                    training.finish()
                    continue
            except DivergenceError as error:
                ends[number] = error
                continue
            training.start_epoch(side_by_side=len(waiting) + 1)
            waiting.append((number, stream, True))
    torch.cuda.synchronize()
    return ends


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
        group["lr"] = rate  # the very tensor, where it is one: see `fast_optimizer`
    return Progress(**kept | {"history": [Epoch(**epoch) for epoch in kept["history"]]})


def training_step(
    model: nn.Module,
    patches: Patches,
    targets: Tensor,
    settings: Settings,
    recipe: Recipe | None = None,
    class_weights: Tensor | None = None,
) -> TrainingStep:
    """Make the update that the settings ask for, by their recipe or another."""
    recipe = recipe or recipe_of(settings)
    optimizer = make_optimizer(settings.optimizer, model, settings.lr, recipe)
    return TrainingStep(model, patches, targets, optimizer, recipe, class_weights)


def make_updates(
    step: TrainingStep, pixels: Tensor, settings: Settings, seed: int, number: int
) -> None:
    """Make an epoch's updates; it may end early where the loss is NaN or infinite."""
    device = pixels.device
    step.start_epoch(half_width(settings, step.recipe, number))
    targets = step.targets[pixels].cpu()
    order, symmetries = draw(targets, step.recipe, seed, number)
    batches = pixels[order.to(device)].split(settings.batch_size)
    turned = [None] * len(batches)
    if symmetries is not None:
        turned = symmetries.to(device).split(settings.batch_size)
    for index, batch in enumerate(zip(batches, turned, strict=True)):
        epochs_done = number - 1 + index / len(batches)
        set_learning_rate(step.optimizer, learning_rate(settings, epochs_done))
        step(*batch)
        if device.type == "cpu" and not step.loss_sum.isfinite():
            break  # on a GPU, looking after each update would take longer than the update


def draw(targets: Tensor, recipe: Recipe, seed: int, number: int) -> tuple[Tensor, Tensor | None]:
    """Draw an epoch's training pixels: indices into `targets`, the classes, and symmetries."""
    if not (recipe.balance or recipe.symmetries):
        return torch.randperm(len(targets)), None
    drawn = draw_evenly(targets.numpy(), recipe.balance, seed, number)
    order, symmetries = (torch.from_numpy(array) for array in drawn)
    return order, symmetries if recipe.symmetries else None


def loss_and_accuracy(
    model: nn.Module,
    patches: Patches,
    targets: Tensor,
    pixels: Tensor,
    class_weights: Tensor | None = None,
) -> tuple[float, float]:
    """Mean cross-entropy, weighted if asked for, and accuracy over `pixels`, in evaluation mode."""
    scores, target = logits(model, patches, pixels), targets[pixels].long()
    accuracy = (scores.argmax(dim=1) == target).double().mean()
    return weighted_loss(scores, target, class_weights).item(), accuracy.item()


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed made from (seed, epoch) alone: an epoch does not depend on those before."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
