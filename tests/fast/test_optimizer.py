"""Parameters in parts, as optimizers on a GPU have them."""

import torch

from common.fast.optimizer import NUMBERS_PER_PART, parts


def test_parts_of_a_large_parameter_are_updated_in_place_of_it():
    torch.manual_seed(0)
    whole = torch.nn.Parameter(torch.randn(3, 5000))
    split = torch.nn.Parameter(whole.detach().clone())
    pieces = parts(split)
    assert [len(piece) for piece in pieces] == [NUMBERS_PER_PART, 15000 - NUMBERS_PER_PART]
    optimizers = [torch.optim.Adam([whole]), torch.optim.Adam(pieces)]
    for _ in range(3):
        for parameter, optimizer in zip((whole, split), optimizers, strict=True):
            parameter.grad = None
            (parameter**2).sum().backward()
            optimizer.step()
    assert torch.equal(split, whole)


def test_parameters_that_cannot_be_split_stay_whole():
    frozen = torch.nn.Parameter(torch.randn(3, 5000), requires_grad=False)
    transposed = torch.nn.Parameter(torch.randn(5000, 3).t())
    for parameter in (frozen, transposed):
        (only,) = parts(parameter)
        assert only is parameter
