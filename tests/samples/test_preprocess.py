"""PCA rotation and scaling against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

import common.samples.preprocess
from common.samples.preprocess import PREPROCESSINGS, fit_pca_scaling
from common.scenes.scene import load_scene


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
