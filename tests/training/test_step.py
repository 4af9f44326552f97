"""The update as a CUDA graph is the update, as far as a machine without a GPU can tell."""

import contextlib

import numpy as np
import torch

from common.recipe import Recipe
from common.samples.patches import Patches
from common.training import step as step_module
from common.training.optimizers import make_optimizer
from common.training.step import GraphedStep, TrainingStep
from SSRN.SSRN import SSRN


class FakeGraph:
    """Records a call instead of kernels."""

    def replay(self):
        self.call()


def fake_cuda(monkeypatch):
    """Let a capture record which update it was, undone as on a GPU, where it does not execute."""

    class Stream:
        def wait_stream(self, other):
            pass

    graphs = []

    @contextlib.contextmanager
    def capture(graph, stream):
        graphs.append(graph)
        yield

    update = TrainingStep.__call__

    def record(self, *inputs):
        captured = self.half_width  # a graph's patches keep the size they had

        def call():
            self.half_width, asked = captured, self.half_width
            with random_numbers_of(self.generator):
                update(self, *inputs)
            self.half_width = asked

        if graphs and not hasattr(graphs[-1], "call"):
            graphs[-1].call = call
        else:
            update(self, *inputs)

    monkeypatch.setattr(TrainingStep, "__call__", record)
    monkeypatch.setattr(step_module.torch.cuda, "Stream", Stream)
    monkeypatch.setattr(step_module.torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(step_module.torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(step_module.torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(step_module, "random_numbers_of", random_numbers_of)
    monkeypatch.setattr(step_module.torch.cuda, "graph", capture)


@contextlib.contextmanager
def random_numbers_of(generator):
    """Take the CPU's random numbers, all there are here, from this generator."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    yield
    generator.set_state(torch.get_rng_state())
    torch.set_rng_state(before)


def after_some_updates(kind) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)  # dropout too must not notice the warm-up
    model = SSRN(bands=9, classes=3, kernels=4).train()
    cube = np.random.default_rng(0).normal(size=(6, 7, 9)).astype(np.float32)
    patches = Patches.of_cube(cube, 3, torch.device("cpu"))
    optimizer = make_optimizer("adam", model, 1e-2, Recipe())
    step = kind(model, patches, torch.arange(42) % 3, optimizer)
    step.seed(1)
    for half_width in (2, 3):
        step.start_epoch(half_width)
        for pixels in (torch.arange(8), torch.arange(8, 16), torch.arange(16, 21)):
            step(pixels, torch.zeros_like(pixels))
    weights = torch.cat([value.flatten() for value in model.state_dict().values()])
    return weights, step.loss_sum, step.correct


def test_graphs_make_the_same_updates_and_undo_their_warm_up(monkeypatch):
    expected = after_some_updates(TrainingStep)
    fake_cuda(monkeypatch)
    for value, other in zip(after_some_updates(GraphedStep), expected, strict=True):
        assert torch.equal(value, other)
