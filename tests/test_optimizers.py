"""DiffGrad against its paper's equations; every optimizer makes progress."""

import numpy as np
import pytest
import torch

from common.optimizers import OPTIMIZERS, DiffGrad


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
