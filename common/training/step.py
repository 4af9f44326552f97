"""One update of the weights, and on a GPU the same update as one CUDA graph."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.recipe import RECIPES, Recipe
from common.samples.patches import Patches, occluded

GRAPH_WARM_UP = 3  # updates before the capture, as PyTorch's notes on CUDA graphs ask


class TrainingStep:
    """Gather a batch of patches, compute the loss, update the weights.

    Called with a batch of pixels (and symmetries, see `Patches.gather`).  `loss_sum`, `correct` and
    `finite` add up over the batches seen, until `start_epoch`: once a loss is NaN or infinite, so
    is the sum, and `finite`, the number of updates before, no longer grows.  Patches have the
    `half_width` given there.
    """

    def __init__(
        self,
        model: nn.Module,
        patches: Patches,
        targets: Tensor,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe = RECIPES["paper"],
    ) -> None:
        self.model, self.patches, self.targets, self.optimizer = model, patches, targets, optimizer
        self.parameters = list(model.parameters())
        self.recipe, self.half_width = recipe, patches.half_width
        self.penalised = penalised_weights(model, recipe)
        self.loss_sum = torch.zeros((), device=targets.device)
        self.correct = torch.zeros((), dtype=torch.int64, device=targets.device)
        self.finite = torch.zeros((), dtype=torch.int64, device=targets.device)

    def seed(self, number: int) -> None:
        """Seed all random numbers."""
        torch.manual_seed(number)

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
        for parameter in self.parameters:
            parameter.grad = None  # as zero_grad() does, which looks for the parameters
        patches = self.patches.gather(pixels, symmetries, self.half_width)
        if self.recipe.occlusion:
            patches = occluded(patches, self.recipe.occlusion)
        scores, target = self.model(patches), self.targets[pixels]
        loss = F.cross_entropy(scores, target, label_smoothing=self.recipe.label_smoothing)
        if self.penalised:
            loss = loss + self.weight_loss()
        loss.backward()
        self.optimizer.step()
        self.loss_sum.add_(loss.detach(), alpha=len(pixels))
        self.correct += (scores.argmax(dim=1) == target).sum()
        self.finite += (self.loss_sum - self.loss_sum) == 0  # in fewer launches than isfinite()


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


class GraphedStep(TrainingStep):
    """The same update replayed from a CUDA graph, one for each size of a batch and of its patches.

    A batch of 16 patches is too little work for a GPU: launching its several hundred kernels one
    by one takes longer than computing them.  The optimizer must be capturable.

    Its random numbers, those of dropout, are its own: graphs of several trainings that run at once
    would otherwise take them from one sequence in any order.
    """

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.graphs, self.generator = {}, torch.Generator(self.loss_sum.device)
        self.stream = torch.cuda.Stream()  # of captures: matrix products share memory on a stream

    def seed(self, number: int) -> None:
        super().seed(number)
        self.generator.manual_seed(number)

    def __call__(self, pixels: Tensor, symmetries: Tensor | None = None) -> None:
        sizes = len(pixels), self.half_width
        if sizes not in self.graphs:
            self.graphs[sizes] = self._capture(pixels, symmetries)
        graph, inputs = self.graphs[sizes]
        for static, value in zip(inputs, (pixels, symmetries), strict=True):
            if static is not None:
                static.copy_(value)
        graph.replay()

    def _capture(self, *inputs: Tensor | None) -> tuple[torch.cuda.CUDAGraph, list]:
        """Record one update; the updates this takes are undone."""
        inputs = [None if value is None else value.clone() for value in inputs]
        before = [tensor.clone() for tensor in self._state()]
        random_state, graph = self.generator.get_state(), torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream())
        with random_numbers_of(self.generator):
            with torch.cuda.stream(self.stream):
                for _ in range(GRAPH_WARM_UP):
                    super().__call__(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            with torch.cuda.graph(graph, stream=self.stream):
                super().__call__(*inputs)
        state = self._state()  # the optimizer's own tensors came into being just now, as zeros
        before += [torch.zeros_like(tensor) for tensor in state[len(before) :]]
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)
        self.generator.set_state(random_state)
        return graph, inputs

    def _state(self) -> list[Tensor]:
        """Every tensor that an update changes, the optimizer's last."""
        of_optimizer = [
            value
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        ]
        of_model = [tensor.detach() for tensor in self.model.state_dict().values()]
        return [*of_model, self.loss_sum, self.correct, self.finite, *of_optimizer]


@contextlib.contextmanager
def random_numbers_of(generator: torch.Generator) -> Iterator[None]:
    """Let a GPU's random numbers come from this generator."""
    default = torch.cuda.default_generators[generator.device.index]
    before = default.graphsafe_get_state()
    default.graphsafe_set_state(generator)
    try:
        yield
    finally:
        default.graphsafe_set_state(before)
