"""How convolutions' weights are arranged for compiled code, and when anew."""

import numpy as np
import pytest
import torch

from common.fast import use_fast_form
from common.fast.cpu.weight_tiles import constant, made_once, tiles_of
from common.samples.patches import Patches
from common.training.predict import logits
from SSRN.SSRN import SSRN

WEIGHTS = torch.randn(3, 6, 10, generator=torch.Generator().manual_seed(0))


def test_tiles_cover_all_kernels_and_may_overlap():
    tiles = tiles_of(WEIGHTS, 4, in_pairs=False)
    assert tiles.shape == (3, 3, 6, 4)
    for tile, start in zip(tiles, (0, 4, 6), strict=True):
        np.testing.assert_array_equal(tile, WEIGHTS[:, :, start : start + 4])


def test_any_view_can_be_arranged():
    view = WEIGHTS.transpose(0, 2)
    np.testing.assert_array_equal(tiles_of(view, 3, False), tiles_of(view.contiguous(), 3, False))
    in_reverse = tiles_of(WEIGHTS, 4, False, in_reverse=True)
    np.testing.assert_array_equal(in_reverse, tiles_of(WEIGHTS.flip(0).contiguous(), 4, False))


def test_pairs_are_rounded_as_pytorch_rounds():
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 3e38, 3.4e38, 1e-40, 1 + 2**-8]
    halfway = (torch.arange(2**16) << 16 | 0x8000).to(torch.int32).view(torch.float32)
    numbers = torch.cat([torch.tensor(special), halfway, torch.randn(2**12)])
    weights = numbers[: len(numbers) // 2 * 2].view(1, -1, 1)
    pairs = torch.from_numpy(tiles_of(weights, 1, in_pairs=True)).view(torch.bfloat16).flatten()
    expected = weights.flatten().to(torch.bfloat16)
    assert torch.equal(pairs.isnan(), expected.isnan())
    held = ~expected.isnan()
    assert torch.equal(pairs[held].view(torch.int16), expected[held].view(torch.int16))


def test_the_last_of_an_odd_number_of_inputs_is_paired_with_zero():
    weights = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[..., None]
    pairs = torch.from_numpy(tiles_of(weights, 1, in_pairs=True)).view(torch.bfloat16)
    assert pairs.flatten().tolist() == [1, 2, 3, 0, 4, 5, 6, 0]


def test_what_is_made_of_constant_weights_is_made_once():
    module, made = torch.nn.Linear(2, 2), []

    def make():
        made.append(module.weight.detach().clone())
        return made[-1]

    with constant(module):
        assert made_once(module, make) is made_once(module, make)
    with torch.no_grad():
        module.weight.mul_(2)
    assert torch.equal(made_once(module, make), module.weight)
    with pytest.raises(KeyError), constant(module):
        raise KeyError
    assert made_once(module, make) is not made_once(module, make)
    assert len(made) == 4


def test_evaluation_sees_every_change_of_a_network():
    model, scene = use_fast_form(SSRN(20, 3, kernels=8)), torch.randn(9, 9, 20).numpy()
    patches = Patches.of_cube(scene, 2, torch.device("cpu"), lambda block: block)
    pixels, optimizer = torch.arange(40), torch.optim.Adam(model.parameters(), 0.1, fused=True)

    def as_new():
        new = SSRN(20, 3, kernels=8)
        new.load_state_dict(model.state_dict())
        return logits(use_fast_form(new), patches, pixels)

    before = logits(model, patches, pixels)
    model.train()(patches.gather(pixels)).sum().backward()  # changes the running statistics alone
    after = logits(model, patches, pixels)
    assert torch.equal(after, as_new()) and not torch.equal(after, before)
    optimizer.step()
    assert torch.equal(logits(model, patches, pixels), as_new())
    assert not torch.equal(logits(model, patches, pixels), after)
