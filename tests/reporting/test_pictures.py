"""Pictures of scenes: the stretch of the false-colour picture."""

import dataclasses
import warnings

import numpy as np

from common.reporting.pictures import false_colour
from tests.conftest import toy_labels
from tests.samples.test_make_splits import toy_scene


def shown(cube: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return false_colour(dataclasses.replace(toy_scene(toy_labels()), cube=cube))


def test_each_band_is_stretched_between_its_percentiles():
    cube = np.random.default_rng(0).normal(size=(40, 36, 7)) * [1, 1e3, 1e-3, 1, 1, 1, 1]
    picture = shown(cube)
    for band in range(3):
        low, high = np.percentile(cube[..., band], (2, 98))
        stretched = np.clip((cube[..., band] - low) / (high - low), 0, 1)
        np.testing.assert_array_equal(picture[..., band], np.round(255 * stretched))


def test_a_band_that_hardly_varies_is_black_but_for_what_stands_out():
    cube = np.full((40, 36, 7), 1000.0)
    cube[:2, :2, 0] = 1e5, 2e5  # less than 2 %
    cube[:2, :2, 1] = 0.0
    cube[::2, :, 2] = np.nextafter(1000, 2000)
    cube[5, 5, 2] = 1e300
    picture = shown(cube)
    expected = np.zeros((40, 36, 3))
    expected[:2, :2, 0] = expected[::2, :, 2] = expected[5, 5, 2] = 255
    np.testing.assert_array_equal(picture, expected)


def test_pixels_without_data_are_black():
    cube = np.random.default_rng(0).normal(size=(40, 36, 7)) + 100
    cube[0, 0], cube[1, 1] = np.nan, np.inf
    picture = shown(cube)
    assert not picture[0, 0].any() and not picture[1, 1].any()
    assert picture[2:].any()
