"""95 % intervals of OA: known values, and that they hold what they promise."""

import numpy as np
import pytest
from scipy import stats

from common.reporting.intervals import block_side, blocks_interval, iterations_interval


def test_iterations_are_those_of_students_t():
    values = [0.90, 0.92, 0.97]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    np.testing.assert_allclose(iterations_interval(values), np.clip(expected, 0, 1))
    assert iterations_interval([0.5, 0.5]) == [0.5, 0.5]
    assert iterations_interval([0.5]) is None
    assert iterations_interval([]) is None


@pytest.mark.parametrize(("shape", "side"), [((145, 145), 12), ((610, 340), 21), ((3, 2), 2)])
def test_blocks_grow_with_the_scene(shape, side):
    assert block_side(shape) == side


def test_the_same_results_have_the_same_interval():
    pixels = np.arange(144 * 144)
    right = np.random.default_rng(1).random(len(pixels)) < 0.9
    first, again = (blocks_interval((144, 144), [(pixels, right)]) for _ in range(2))
    assert first == again
    assert first[0] < right.mean() < first[1]


def test_independent_pixels_have_the_binomial_interval():
    """Where neighbours are not alike, blocks say what single pixels would."""
    pixels = np.arange(144 * 144)
    right = np.random.default_rng(2).random(len(pixels)) < 0.8
    low, high = blocks_interval((144, 144), [(pixels, right)])
    binomial = 2 * 1.96 * np.sqrt(0.8 * 0.2 / len(pixels))
    assert high - low == pytest.approx(binomial, rel=0.25)


def test_neighbours_that_are_alike_make_it_wider():
    """Fields of 12 × 12 pixels that are right or wrong as a whole: 144 tests, not 20736."""
    fields = np.random.default_rng(3).random((12, 12)) < 0.8
    right = fields.repeat(12, axis=0).repeat(12, axis=1).ravel()
    low, high = blocks_interval((144, 144), [(np.arange(144 * 144), right)])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.8 * 0.2 / 144), rel=0.25)


def test_iterations_share_the_blocks():
    """Two iterations with the same errors say as much of the ground as one."""
    pixels = np.arange(0, 144 * 144, 3)
    right = np.random.default_rng(4).random(len(pixels)) < 0.9
    one, two = (blocks_interval((144, 144), n * [(pixels, right)]) for n in (1, 2))
    assert one == two


def test_one_block_says_nothing():
    assert (
        blocks_interval((100, 100), [(np.array([0, 1, 2]), np.array([True, True, False]))]) is None
    )
    assert blocks_interval((100, 100), []) is None
