"""One update of the weights."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.fast import replayed
from common.recipe import RECIPES, Recipe
from common.samples.patches import Patches, occluded


class TrainingStep:
    """Gather a batch of patches, compute the loss, update the weights.

    Called with a batch of pixels (and symmetries, see `Patches.gather`).  `loss_sum`, `correct` and
    `finite` add up over the batches seen, until `start_epoch`: once a loss is NaN or infinite, so
    is the sum, and `finite`, the number of updates before, no longer grows.  Patches have the
    `half_width` given there.

    With `class_weights` (see `balanced_weights`) the loss is the mean over a batch's pixels of
    weight times cross-entropy.  It is not divided by the batch's own weights, as PyTorch's
    weighted mean is: small batches would undo the weights, one of a single class wholly.
    """

    def __init__(
        self,
        model: nn.Module,
        patches: Patches,
        targets: Tensor,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe = RECIPES["paper"],
        class_weights: Tensor | None = None,
    ) -> None:
        self.model, self.patches, self.targets, self.optimizer = model, patches, targets, optimizer
        self.class_weights = class_weights
        of_optimizer = [p for group in optimizer.param_groups for p in group["params"]]
        self.parameters = set(model.parameters()) | set(of_optimizer)
        self.recipe, self.half_width = recipe, patches.half_width
        self.penalised = penalised_weights(model, recipe)
        self.loss_sum = torch.zeros((), device=targets.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=targets.device)
        self.finite = torch.zeros((), dtype=torch.int64, device=targets.device)
        self.replay = replayed(model, self._update, self._changed, optimizer)

    def seed(self, number: int) -> None:
        """Seed all random numbers."""
        torch.manual_seed(number)
        if self.replay:
            self.replay.seed(number)

    def start_epoch(self, half_width: int) -> None:
        """Set the network to training, the patches to a size and the sums to zero."""
        self.model.train()
        self.half_width = half_width
        for total in (self.loss_sum, self.correct, self.finite):
            total.zero_()

    def weight_loss(self) -> Tensor | float:
        """What the weights themselves add to the loss: see `Recipe.l2_convolutions`."""
        return sum(factor * weight.square().sum() for weight, factor in self.penalised)

    def __call__(self, pixels: Tensor, symmetries: Tensor | None = None) -> None:
        (self.replay or self._update)(pixels, symmetries, self.half_width)

    def _update(self, pixels: Tensor, symmetries: Tensor | None, half_width: int) -> None:
        for parameter in self.parameters:
            parameter.grad = None  # as zero_grad() does, which looks for the parameters
        patches = self.patches.gather(pixels, symmetries, half_width)
        if self.recipe.occlusion:
            patches = occluded(patches, self.recipe.occlusion)
        scores, target = self.model(patches), self.targets[pixels].long()
        loss = weighted_loss(scores, target, self.class_weights, self.recipe.label_smoothing)
        if self.penalised:
            loss = loss + self.weight_loss()
        loss.backward()
        self.optimizer.step()
        self.loss_sum.add_(loss.detach(), alpha=len(pixels))
        self.correct += (scores.argmax(dim=1) == target).sum()
        self.finite += self.loss_sum < math.inf  # which NaN is not

    def _changed(self) -> list[Tensor]:
        """Every tensor that an update changes, the optimizer's last."""
        of_optimizer = [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        of_model = [tensor.detach() for tensor in (*self.model.parameters(), *self.model.buffers())]
        return [*of_model, self.loss_sum, self.correct, self.finite, *of_optimizer]


def weighted_loss(
    scores: Tensor, target: Tensor, class_weights: Tensor | None, smoothing: float = 0.0
) -> Tensor:
    """Mean over pixels of cross-entropy, each times its class's weight, if there are any.

    Parameters
    ----------
    scores : float tensor (pixels, C)
    target : int64 tensor (pixels,)
        Classes from 0.
    class_weights : float tensor (C,), optional
    smoothing : float
        Share of a pixel's target that is spread over all classes.
    """
    if class_weights is None:
        return F.cross_entropy(scores, target, label_smoothing=smoothing)
    losses = F.cross_entropy(scores, target, label_smoothing=smoothing, reduction="none")
    return (class_weights[target] * losses).mean()


def balanced_weights(targets: Tensor, classes: int, balance: float) -> Tensor:
    """Weights with which every class counts alike in the loss: the inverse of its share.

    Its share of the pixels that an epoch draws, over which the mean weight is 1: that of the
    training pixels, unless the recipe's `balance` draws small classes more often already.  A class
    without training pixels has weight 0.

    Parameters
    ----------
    targets : int tensor (pixels,)
        Classes, from 0, of the training pixels.
    classes : int
        Classes C.
    balance : float
        See `Recipe.balance`.

    Returns
    -------
    float tensor (C,)
        On the targets' device.
    """
    drawn = torch.bincount(targets, minlength=classes).double()
    trained = drawn > 0
    drawn[trained] **= 1 - balance
    weights = torch.zeros_like(drawn)
    weights[trained] = drawn.sum() / (trained.sum() * drawn[trained])
    return weights.float()


def penalised_weights(model: nn.Module, recipe: Recipe) -> list[tuple[Tensor, float]]:
    """Return the weights whose squares count in the loss, and how much."""
    factors = ((nn.Conv3d, recipe.l2_convolutions), (nn.Linear, recipe.l2_classifier))
    return [
        (module.weight, factor)
        for kind, factor in factors
        if factor
        for module in model.modules()
        if isinstance(module, kind)
    ]
