"""Which training pixels an epoch sees, and turned how."""

import numpy as np
import pytest

from common.samples.even_draws import SYMMETRIES, draw_evenly

TARGETS = np.repeat([0, 1, 2], [900, 90, 10])
EPOCHS = range(1, 25)


def drawn(balance, seed=0):
    return [draw_evenly(TARGETS, balance, seed, epoch) for epoch in EPOCHS]


@pytest.mark.parametrize(
    ("balance", "shares"),
    [(0, [0.9, 0.09, 0.01]), (0.5, [0.7034, 0.2224, 0.0741]), (1, [1 / 3, 1 / 3, 1 / 3])],
)
def test_classes_are_drawn_by_a_power_of_their_size(balance, shares):
    for indices, _ in drawn(balance):
        assert len(indices) == len(TARGETS)
        found = np.bincount(TARGETS[indices]) / len(TARGETS)
        np.testing.assert_allclose(found, shares, atol=0.0011)


@pytest.mark.parametrize("balance", [0.0, 0.5, 1.0])
def test_pixels_of_a_class_are_drawn_equally_often(balance):
    sizes = np.bincount(TARGETS).astype(float)
    expected = (sizes**-balance * len(TARGETS) / (sizes ** (1 - balance)).sum())[TARGETS]
    total = np.zeros(len(TARGETS))
    for epoch, (indices, _) in zip(EPOCHS, drawn(balance), strict=True):
        counts = np.bincount(indices, minlength=len(TARGETS))
        assert np.abs(counts - expected).max() < 1
        total += counts
        assert np.abs(total - epoch * expected).max() < 2  # at random some would be 8 off


def test_without_balance_every_pixel_is_drawn_once():
    for indices, _ in drawn(0):
        np.testing.assert_array_equal(np.sort(indices), np.arange(len(TARGETS)))


def test_a_pixel_is_seen_in_all_symmetries_in_turn():
    for balance in (0, 0.5):
        indices, symmetries = (np.concatenate(parts) for parts in zip(*drawn(balance), strict=True))
        for pixel in range(0, len(TARGETS), 7):
            seen = symmetries[indices == pixel]
            whole = seen[: len(seen) // SYMMETRIES * SYMMETRIES].reshape(-1, SYMMETRIES)
            if balance == 0:  # an epoch's own order shuffles what one pixel is seen as in it
                assert (np.sort(whole, axis=1) == np.arange(SYMMETRIES)).all()
            counts = np.bincount(seen, minlength=SYMMETRIES)
            assert counts.max() - counts.min() <= 1


def test_seed_and_epoch_fix_the_draw():
    first, again, later, other = (
        draw_evenly(TARGETS, 0.5, seed, epoch) for seed, epoch in [(0, 5), (0, 5), (0, 6), (1, 5)]
    )
    for i in range(2):
        np.testing.assert_array_equal(first[i], again[i])
        assert not np.array_equal(first[i], later[i])
        assert not np.array_equal(first[i], other[i])
