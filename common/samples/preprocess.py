"""Preprocessing of the cube: PCA rotation, then every component to zero mean and unit variance."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PIXELS_PER_BLOCK = 4096  # a few MB in float64, whatever the scene's size


@dataclass(frozen=True)
class Preprocessing:
    """A fitted transform of spectra: ``(spectrum - mean) @ matrix``.

    Attributes
    ----------
    mean : float64 array (bands,)
    matrix : float64 array (bands, bands)
        PCA rotation with each column divided by its component's standard deviation.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, spectra: np.ndarray) -> np.ndarray:
        """Transform spectra (…, bands) to float32 of the same shape."""
        return ((spectra - self.mean) @ self.matrix).astype(np.float32)


def fit_pca_scaling(cube: np.ndarray, valid: np.ndarray | None = None) -> Preprocessing:
    """Fit PCA with as many components as bands on every pixel, then the components' scale.

    The same as ``sklearn.preprocessing.scale(PCA(bands).fit_transform(pixels))``, up to the
    components' signs, but in blocks of pixels so that memory does not grow with the scene.
    The variance of a component is its eigenvalue, so rotation and scaling are one matrix.
    Components without variance (constant or linearly dependent bands) become zero.

    Parameters
    ----------
    cube : array (rows, cols, bands), any numeric dtype
    valid : bool array (rows, cols), optional
        Which pixels to fit it on; all if left out.
    """
    bands = cube.shape[2]
    pixels = cube[..., 0].size if valid is None else np.count_nonzero(valid)
    mean = sum(block.sum(axis=0) for block in pixel_blocks(cube, valid)) / pixels
    covariance = np.zeros((bands, bands))
    for block in pixel_blocks(cube, valid):
        centred = block - mean
        covariance += centred.T @ centred
    covariance /= pixels

    variances, rotation = np.linalg.eigh(covariance)
    variances, rotation = variances[::-1], rotation[:, ::-1]  # largest variance first
    largest = np.abs(rotation).argmax(axis=0)
    rotation = rotation * np.sign(rotation[largest, np.arange(bands)])  # eigh leaves signs free

    varies = variances > variances[0] * bands * np.finfo(np.float64).eps
    scale = np.where(varies, 1 / np.sqrt(np.where(varies, variances, 1)), 0)
    return Preprocessing(mean=mean, matrix=rotation * scale)


def pixel_blocks(cube: np.ndarray, valid: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield float64 blocks (pixels, bands) of the cube's valid pixels, row by row."""
    pixels = cube.reshape(-1, cube.shape[2])
    for start in range(0, len(pixels), PIXELS_PER_BLOCK):
        block = pixels[start : start + PIXELS_PER_BLOCK]
        if valid is not None:
            block = block[valid.ravel()[start : start + PIXELS_PER_BLOCK]]
        yield block.astype(np.float64)
