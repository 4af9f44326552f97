"""PCA rotation and scaling against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

import common.samples.preprocess
from common.samples.preprocess import (
    PREPROCESSINGS,
    check_components,
    check_preprocessing_flags,
    fit_pca_scaling,
    fit_preprocessing,
    pixels_of,
)
from common.samples.random_split import Split
from common.scenes.scene import load_scene
from common.settings import Settings
from common.system.errors import InputError


def reference(cube: np.ndarray) -> np.ndarray:
    """What the released code computes, in float64."""
    pixels = cube.reshape(-1, cube.shape[2]).astype(np.float64)
    return scale(PCA(cube.shape[2]).fit_transform(pixels)).reshape(cube.shape)


def same_signs(components: np.ndarray, expected: np.ndarray) -> np.ndarray:
    return expected * np.sign((components * expected).sum(axis=(0, 1)))


@pytest.mark.parametrize("block", [10, 65_536])
def test_equals_scikit_learn_up_to_sign(monkeypatch, block):
    monkeypatch.setattr(common.samples.preprocess, "PIXELS_PER_BLOCK", block)
    cube = np.random.default_rng(0).gamma(2.0, size=(17, 13, 9)).cumsum(axis=2)
    components = fit_pca_scaling(cube).apply(cube)
    assert components.dtype == np.float32
    np.testing.assert_allclose(components, same_signs(components, reference(cube)), atol=1e-5)


def test_equals_scikit_learn_on_indian_pines(tmp_path):
    cube = load_scene("IN", str(tmp_path)).cube
    components = fit_pca_scaling(cube).apply(cube)
    np.testing.assert_allclose(components, same_signs(components, reference(cube)), atol=1e-5)


def test_components_have_unit_variance_and_no_correlation():
    cube = np.random.default_rng(1).integers(0, 65_535, size=(30, 40, 8), dtype=np.uint16)
    pixels = fit_pca_scaling(cube).apply(cube).reshape(-1, 8).astype(np.float64)
    np.testing.assert_allclose(pixels.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(pixels.T @ pixels / len(pixels), np.eye(8), atol=1e-4)


def test_constant_and_repeated_bands_become_zero_components():
    cube = np.random.default_rng(2).normal(size=(12, 12, 8))
    cube[:, :, 3] = 7.0
    cube[:, :, 5] = cube[:, :, 4]
    components = fit_pca_scaling(cube).apply(cube)
    assert np.isfinite(components).all()
    np.testing.assert_array_equal(components[:, :, 6:], 0)
    np.testing.assert_allclose(components[:, :, :6].std(axis=(0, 1)), 1, atol=1e-5)


@pytest.fixture
def cube() -> np.ndarray:
    """Numbers of whole thousands, as sensors give; one band is constant."""
    cube = np.random.default_rng(0).integers(900, 9000, (17, 13, 9))
    cube[..., 4] = 3000
    return cube.astype(np.uint16)


def expected(kind: str, pixels: np.ndarray) -> np.ndarray:
    if kind == "standardise":
        return scale(pixels)
    if kind == "centre":
        return (pixels - pixels.mean(axis=0)) / pixels.max()
    if kind == "range":
        return (pixels - pixels.min()) / (pixels.max() - pixels.min())
    return pixels


@pytest.mark.parametrize("kind", ["standardise", "centre", "range", "none"])
def test_other_preprocessings(kind, cube, monkeypatch):
    monkeypatch.setattr(common.samples.preprocess, "PIXELS_PER_BLOCK", 50)
    found = PREPROCESSINGS[kind](cube).apply(cube)
    pixels = expected(kind, cube.reshape(-1, 9).astype(np.float64)).reshape(cube.shape)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pixels, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", PREPROCESSINGS)
def test_fitted_on_pixels_with_data_only(kind, cube):
    valid = np.ones(cube.shape[:2], bool)
    valid[3:9] = False
    whole = PREPROCESSINGS[kind](cube[valid][None])
    cube[~valid] = 65_535
    part = PREPROCESSINGS[kind](cube, valid)
    for name in ("mean", "matrix"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", ["standardise", "centre", "range"])
def test_a_cube_without_contrast_becomes_finite_numbers(kind):
    cube = np.full((4, 4, 9), 0.1)
    assert np.isfinite(PREPROCESSINGS[kind](cube).apply(cube)).all()


def split_of(train: int) -> Split:
    """A split of a scene of 10 × 10 with so many training pixels."""
    return Split(np.arange(train), np.arange(60, 80), np.arange(80, 100))


def test_components_are_the_first_of_all():
    cube = np.random.default_rng(3).normal(size=(9, 11, 8)).cumsum(axis=2)
    every, first = (
        fit_preprocessing(Settings("SSRN", components=count), cube).apply(cube)
        for count in (None, 3)
    )
    assert first.shape == (9, 11, 3)
    np.testing.assert_allclose(first, every[..., :3], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", PREPROCESSINGS)
def test_fitted_on_training_pixels_nothing_else_has_a_say(kind):
    generator, split = np.random.default_rng(4), split_of(50)
    cube = generator.normal(size=(10, 10, 8))
    mask = pixels_of(split, cube.shape[:2])
    fitted = fit_preprocessing(Settings("SSRN", preprocess=kind), cube, mask)
    cube.reshape(-1, 8)[50:] = generator.normal(size=(50, 8))
    again = fit_preprocessing(Settings("SSRN", preprocess=kind), cube, mask)
    for name in ("mean", "matrix"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted, name))


def test_pca_of_fewer_pixels_than_bands_has_as_many_components_less_one():
    cube = np.random.default_rng(5).normal(size=(10, 10, 12)) * np.geomspace(1, 1e-4, 12)
    mask = pixels_of(split_of(5), cube.shape[:2])
    matrix = fit_pca_scaling(cube, mask).matrix
    np.testing.assert_array_equal((matrix != 0).any(axis=0), np.arange(12) < 4)
    np.testing.assert_allclose(fit_pca_scaling(cube, mask).apply(cube)[mask].std(axis=0)[:4], 1)


@pytest.mark.parametrize(
    ("flags", "pixels", "message"),
    [
        ({"components": 13}, 50, "--components 13: the scene has 12 bands; use --components 12 or"),
        ({"components": 5, "fit_on": "train"}, 5, "gives 4 at most; use --components 4 or less, t"),
        (
            {"components": 1, "fit_on": "train"},
            1,
            "PCA of 1 training pixels gives 0 at most; train",
        ),
        ({"components": 4, "fit_on": "train"}, 5, None),
        ({"components": 12}, 5, None),
        ({"fit_on": "train"}, 5, None),
    ],
)
def test_components_that_cannot_be_had(flags, pixels, message):
    settings, splits = Settings("SSRN", **flags), [split_of(50), split_of(pixels)]
    if message is None:
        check_components(settings, 12, splits)
        return
    with pytest.raises(InputError, match=message):
        check_components(settings, 12, splits)


@pytest.mark.parametrize("kind", sorted(set(PREPROCESSINGS) - {"pca"}))
def test_only_pca_has_components(kind):
    check_preprocessing_flags(Settings("SSRN", preprocess=kind))
    with pytest.raises(InputError, match=f"--components 7: --preprocess {kind} has no components"):
        check_preprocessing_flags(Settings("SSRN", preprocess=kind, components=7))
