"""Patches against slices of a padded array."""

import numpy as np
import pytest
import torch

from common.samples.patches import Patches, occluded


@pytest.mark.parametrize("half_width", [2, 3, 6])
def test_every_patch_equals_its_window_with_zeros_outside(half_width):
    cube = np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32)
    patches = Patches.of_cube(cube, half_width, torch.device("cpu"))
    size = 2 * half_width + 1
    gathered = patches.gather(torch.arange(5 * 9))
    assert gathered.shape == (45, 1, size, size, 4)
    padded = np.pad(cube, [(half_width, half_width)] * 2 + [(0, 0)])
    for pixel in range(45):
        row, col = divmod(pixel, 9)
        window = padded[row : row + size, col : col + size]
        np.testing.assert_array_equal(gathered[pixel, 0], window)


def test_smaller_patches_are_the_middle_of_larger_ones():
    cube = np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32)
    patches = Patches.of_cube(cube, 3, torch.device("cpu"))
    pixels, symmetries = torch.arange(5 * 9), torch.arange(5 * 9) % 8
    small = patches.gather(pixels, symmetries, half_width=2)
    assert small.shape == (45, 1, 5, 5, 4)
    assert torch.equal(small, patches.gather(pixels, symmetries)[:, :, 1:-1, 1:-1])


def test_memory_grows_with_the_scene_not_with_its_patches():
    cube = np.zeros((20, 30, 8), np.float32)
    patches = Patches.of_cube(cube, 3, torch.device("cpu"))
    assert patches.spectra.numel() == 26 * 36 * 8


def test_symmetries_turn_and_mirror():
    cube = np.random.default_rng(0).normal(size=(5, 9, 4)).astype(np.float32)
    patches = Patches.of_cube(cube, 2, torch.device("cpu"))
    pixel = torch.tensor([2 * 9 + 4])
    patch = patches.gather(pixel)[0, 0]
    turned = [patches.gather(pixel, torch.tensor([n]))[0, 0] for n in range(8)]
    expected = [np.rot90(patch, quarter) for quarter in range(4)]
    expected += [np.swapaxes(e, 0, 1) for e in expected]
    for e in expected:
        assert sum(np.array_equal(t, e) for t in turned) == 1


def test_hidden_pixels_are_zero_and_the_others_make_up_for_them():
    torch.manual_seed(0)
    patches = torch.rand(300, 1, 7, 7, 4) + 1
    hidden = occluded(patches, 0.5)
    seen = hidden != 0
    assert torch.equal(hidden[seen], 2 * patches[seen])
    assert (seen.any(dim=4) == seen.all(dim=4)).all()  # all bands of a pixel or none
    shares = 1 - seen[..., 0].double().mean(dim=(0, 1))
    assert shares[3, 3] == 0
    shares[3, 3] = 0.5
    torch.testing.assert_close(shares, torch.full_like(shares, 0.5), atol=0.12, rtol=0)
