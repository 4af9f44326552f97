"""The same update again and again on a GPU: replayed from a CUDA graph."""

import contextlib
import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

WARM_UP = 3  # updates before the capture, as PyTorch's notes on CUDA graphs ask


class Replay:
    """An update that is replayed from a CUDA graph, one for all calls with tensors of one size.

    A batch of 16 patches is too little work for a GPU: launching its several hundred kernels one
    by one takes longer than computing them.

    Its random numbers, those of dropout, are its own: graphs of several trainings that run at once
    would otherwise take them from one sequence in any order.

    Parameters
    ----------
    update : callable
        Called with tensors, or None in their stead, and plain values.
    changed : callable
        Returns every tensor that an update changes, the optimizer's last.
    """

    def __init__(
        self, update: Callable[..., None], changed: Callable[[], list[Tensor]], device: torch.device
    ) -> None:
        self.update, self.changed = update, changed
        self.graphs, self.generator = {}, torch.Generator(device)
        self.stream = torch.cuda.Stream()  # of captures: matrix products share memory on a stream

    def seed(self, number: int) -> None:
        """Seed its random numbers."""
        self.generator.manual_seed(number)

    def __call__(self, *inputs) -> None:
        """Make the update."""
        sizes = tuple(x.shape if isinstance(x, Tensor) else x for x in inputs)
        if sizes not in self.graphs:
            self.graphs[sizes] = self._capture(inputs)
        graph, captured = self.graphs[sizes]
        for static, value in zip(captured, inputs, strict=True):
            if isinstance(static, Tensor):
                static.copy_(value)
        graph.replay()

    def _capture(self, inputs: tuple) -> tuple[torch.cuda.CUDAGraph, list]:
        """Record one update; the updates this takes are undone."""
        inputs = [x.clone() if isinstance(x, Tensor) else x for x in inputs]
        before = [tensor.clone() for tensor in self.changed()]
        random_state, graph = self.generator.get_state(), torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream())
        with random_numbers_of(self.generator):
            with torch.cuda.stream(self.stream):
                for _ in range(WARM_UP):
                    self.update(*inputs)
            torch.cuda.current_stream().wait_stream(self.stream)
            with torch.cuda.graph(graph, stream=self.stream):
                self.update(*inputs)
        changed = self.changed()  # the optimizer's own tensors came into being just now, as zeros
        before += [torch.zeros_like(tensor) for tensor in changed[len(before) :]]
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        self.generator.set_state(random_state)
        return graph, inputs


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


def replays_the_same(model: nn.Module, patches: Tensor) -> bool:
    """Whether two replayed updates change a copy of a network as the same updates do by themselves.

    Within a hundredth, for a ReLU's input may lie so near zero that its gradient differs.
    """
    before = torch.cat([x.detach().double().flatten() for x in _tensors(model)])
    changes = []
    for captured in (False, True):
        trial = copy.deepcopy(model).train()
        optimizer = torch.optim.SGD(trial.parameters(), lr=0.1)

        def update(x: Tensor, trial=trial, optimizer=optimizer) -> None:
            optimizer.zero_grad()
            trial(x).square().mean().backward()
            optimizer.step()

        replay = Replay(update, lambda trial=trial: _tensors(trial), patches.device)
        replay.seed(0)
        for _ in range(2):
            if captured:
                replay(patches)
            else:
                with random_numbers_of(replay.generator):
                    update(patches)
        after = torch.cat([x.detach().double().flatten() for x in _tensors(trial)])
        changes.append(after - before)
    by_itself, replayed = changes
    return bool((replayed - by_itself).norm() <= 0.01 * by_itself.norm())


def _tensors(model: nn.Module) -> list[Tensor]:
    """All parameters and buffers of a network."""
    return [x.detach() for x in (*model.parameters(), *model.buffers())]
