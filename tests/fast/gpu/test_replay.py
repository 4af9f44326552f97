"""An update replayed from a CUDA graph is the update, as far as one can tell without a GPU."""

import contextlib

import numpy as np
import pytest
import torch
from torch import nn

import common.fast
from common.fast import self_check
from common.fast.gpu import replay as replay_module
from common.fast.gpu.replay import Replay, replays_the_same
from common.recipe import Recipe
from common.samples.patches import Patches
from common.training import step as step_module
from common.training.optimizers import make_optimizer
from common.training.step import TrainingStep
from SSRN.SSRN import SSRN


class FakeGraph:
    """Records a call instead of kernels."""

    def replay(self):
        self.call()


@pytest.fixture
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

    init = Replay.__init__

    def recording(self, update, changed, device):
        def record(*inputs):
            def call():
                with random_numbers_of(self.generator):
                    update(*inputs)

            if graphs and not hasattr(graphs[-1], "call"):
                graphs[-1].call = call
            else:
                update(*inputs)

        init(self, record, changed, device)

    monkeypatch.setattr(Replay, "__init__", recording)
    monkeypatch.setattr(replay_module.torch.cuda, "Stream", Stream)
    monkeypatch.setattr(replay_module.torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(replay_module.torch.cuda, "stream", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(replay_module.torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(replay_module.torch.cuda, "graph", capture)
    monkeypatch.setattr(replay_module, "random_numbers_of", random_numbers_of)


@contextlib.contextmanager
def random_numbers_of(generator):
    """Take the CPU's random numbers, all there are here, from this generator."""
    before = torch.get_rng_state()
    torch.set_rng_state(generator.get_state())
    yield
    generator.set_state(torch.get_rng_state())
    torch.set_rng_state(before)


def after_some_updates() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)  # dropout too must not notice the warm-up
    model = SSRN(bands=9, classes=3, kernels=4).train()
    cube = np.random.default_rng(0).normal(size=(6, 7, 9)).astype(np.float32)
    patches = Patches.of_cube(cube, 3, torch.device("cpu"))
    optimizer = make_optimizer("adam", model, 1e-2, Recipe())
    step = TrainingStep(model, patches, torch.arange(42) % 3, optimizer)
    step.seed(1)
    for half_width in (2, 3):
        step.start_epoch(half_width)
        for pixels in (torch.arange(8), torch.arange(8, 16), torch.arange(16, 21)):
            step(pixels, torch.zeros_like(pixels))
    weights = torch.cat([value.flatten() for value in model.state_dict().values()])
    return weights, step.loss_sum, step.correct


def test_graphs_make_the_same_updates_and_undo_their_warm_up(fake_cuda, monkeypatch):
    expected = after_some_updates()
    replays = []

    def replayed(model, update, changed, optimizer):
        replays.append(Replay(update, changed, torch.device("cpu")))
        return replays[-1]

    monkeypatch.setattr(step_module, "replayed", replayed)
    for value, other in zip(after_some_updates(), expected, strict=True):
        assert torch.equal(value, other)
    assert len(replays[0].graphs) == 4  # for each size of the batch and of its patches


def test_a_replayed_update_is_checked_against_the_update(fake_cuda, monkeypatch):
    model, patches = SSRN(9, 3, 4), torch.randn(2, 1, 5, 5, 9)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert replays_the_same(model, patches)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    monkeypatch.setattr(FakeGraph, "replay", lambda self: None)  # as a graph that lost its kernels
    assert not replays_the_same(model, patches)


class Unrecordable(nn.Module):
    """Looks at a number on its way, which a graph cannot."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(9, 3)

    def forward(self, patches):
        if torch.cuda.Stream.__name__ == "Stream":
            raise RuntimeError("operation not permitted when stream is capturing")
        return self.layer(patches.mean(dim=(1, 2, 3)))


def test_updates_that_cannot_be_replayed_are_told_and_kept(
    fake_cuda, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fault = self_check.replay_fault(Unrecordable(), torch.randn(2, 1, 5, 5, 9), None)
    assert fault.startswith("this network's updates cannot be recorded (RuntimeError: operation")
    assert len(list(tmp_path.rglob("*_replay.json"))) == 1


def test_a_network_whose_updates_are_not_replayed():
    """Only on a GPU are they at all."""
    layer = nn.Linear(3, 3)
    optimizer = torch.optim.Adam(layer.parameters(), capturable=True)
    assert common.fast.replayed(layer, None, None, optimizer) is None
