"""PCA rotation and scaling against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import scale

import common.samples.preprocess
from common.samples.preprocess import fit_pca_scaling
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
