"""DiffGrad against its paper's equations; every optimizer makes progress, in its light form too."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from common.recipe import Recipe
from common.system.files import REPOSITORY
from common.training.optimizers import OPTIMIZERS, DiffGrad, make_optimizer


def test_diffgrad_follows_the_paper():
    generator = np.random.default_rng(0)
    x = generator.normal(size=5)
    parameter = torch.nn.Parameter(torch.from_numpy(x.copy()))
    optimizer = DiffGrad([parameter], lr=0.01)
    m, v, previous = np.zeros(5), np.zeros(5), np.zeros(5)
    for t in range(1, 8):
        g = generator.normal(size=5)
        parameter.grad = torch.from_numpy(g.copy())
        optimizer.step()

        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g**2
        friction = 1 / (1 + np.exp(-np.abs(previous - g)))
        m_hat, v_hat = m / (1 - 0.9**t), v / (1 - 0.999**t)
        x = x - 0.01 * friction * m_hat / (np.sqrt(v_hat) + 1e-8)
        previous = g
        np.testing.assert_allclose(parameter.detach(), x, rtol=1e-12)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name):
    parameter = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = OPTIMIZERS[name]([parameter], lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        parameter.square().sum().backward()
        optimizer.step()
    assert parameter.square().sum() < 5 * 0.9


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_form_that_trains_makes_the_same_updates(name):
    def weights(make):
        torch.manual_seed(0)
        layer = torch.nn.Linear(4, 3)
        optimizer = make(layer)
        for _ in range(5):
            optimizer.zero_grad()
            layer(torch.randn(8, 4)).square().sum().backward()
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in layer.parameters()])

    plain = weights(lambda layer: OPTIMIZERS[name](layer.parameters(), lr=0.01))
    ours = weights(lambda layer: make_optimizer(name, layer, 0.01, Recipe()))
    torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-7)


def test_training_does_not_load_the_compiler():
    code = """
import sys, torch
from common.training.optimizers import OPTIMIZERS, make_optimizer
from common.recipe import Recipe
for name in OPTIMIZERS:
    layer = torch.nn.Linear(4, 3)
    optimizer = make_optimizer(name, layer, 0.01, Recipe())
    optimizer.zero_grad()
    layer(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY).returncode == 0
