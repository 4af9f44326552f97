"""What the tests of compiled loops share: running one, and its error against `reference.py`.

Truth is computed in float64, of numbers that every kind holds exactly.  So the error of float32 is
that of a few roundings to 24 bits, and that of bfloat16 of a few to 8; in float64 little but the
order of sums is left.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from common.fast.cpu import layers, reference
from common.fast.cpu.feature_map import Store

ERRORS = {torch.float64: 1e-12, torch.float32: 4e-6, torch.bfloat16: 2**-6}
KINDS = [*ERRORS]


def numbers(kind: torch.dtype) -> torch.dtype:
    """What parameters, sums and what goes in and out are kept in."""
    return torch.float32 if kind == torch.bfloat16 else kind


def error(found: np.ndarray | torch.Tensor, truth: np.ndarray) -> float:
    """The largest error, relative to the largest number."""
    found = found.detach().numpy() if isinstance(found, torch.Tensor) else found
    assert found.shape == truth.shape
    return np.abs(found - truth).max() / np.abs(truth).max()


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Random numbers in float64 that bfloat16 holds too."""
    values = np.random.default_rng([seed, *shape]).normal(size=shape)
    return torch.from_numpy(values).bfloat16().double().numpy()


def store(x: np.ndarray, kind: torch.dtype) -> Store:
    """A map of the kind that holds an array (batch, channels, rows, cols, bands)."""
    return Store.of(torch.from_numpy(x), kind)


def check_convolution(
    kind: torch.dtype, loops: object, module: nn.Conv3d, shape: Sequence[int], of_x: bool = True
) -> list[float]:
    """Compare output and gradients of a convolution with the reference's; return the errors.

    `loops` is the backward function of those that must be used; `shape` is the input's.
    """
    module = module.to(numbers(kind))
    module.compute_dtype = module.map_dtype = kind
    values = {name: random(*p.shape, seed=1) for name, p in module.named_parameters()}
    module.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})
    x, how = random(*shape), (module.padding, module.stride[2])
    truth = reference.conv(x, values["weight"], values["bias"], *how)
    seed = random(*truth.shape, seed=2)
    gradients = reference.conv_backward(seed, x, values["weight"], *how)

    inputs = torch.from_numpy(x).to(numbers(kind)).requires_grad_(of_x)
    found = layers.conv(module, inputs)
    assert found.tape.steps[-1][1].func is loops
    wanted = [*([inputs] if of_x else []), module.weight, module.bias]
    out = found.tensor()
    results = [out, *torch.autograd.grad(out, wanted, torch.from_numpy(seed).to(out.dtype))]
    truths = [truth, *gradients[0 if of_x else 1 :]]
    errors = [error(a, b) for a, b in zip(results, truths, strict=True)]
    assert max(errors) < ERRORS[kind]
    return errors
