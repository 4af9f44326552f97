"""Preprocessing of the cube: what each spectrum goes through before a classifier sees it."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from common.samples.random_split import Split
from common.scenes import by_rows
from common.scenes.by_rows import AnyCube
from common.settings import Settings
from common.system.errors import InputError

PIXELS_PER_BLOCK = 4096  # a few MB in float64, whatever the scene's size


@dataclass(frozen=True)
class Preprocessing:
    """A fitted transform of spectra: ``(spectrum - mean) @ matrix``.

    Attributes
    ----------
    mean : float64 array (bands,)
    matrix : float64 array (bands, components)
        What a spectrum without its mean is multiplied by: of PCA the rotation, with each column
        divided by its component's standard deviation, of which the first may be kept only; else
        diagonal, with as many components as bands.
    """

    mean: np.ndarray
    matrix: np.ndarray

    def apply(self, spectra: np.ndarray) -> np.ndarray:
        """Transform spectra (…, bands) to float32 (…, components)."""
        return ((spectra - self.mean) @ self.matrix).astype(np.float32)


def fit_pca_scaling(cube: AnyCube, valid: np.ndarray | None = None) -> Preprocessing:
    """Fit PCA with as many components as bands on every pixel, then the components' scale.

    The same as ``sklearn.preprocessing.scale(PCA(bands).fit_transform(pixels))``, up to the
    components' signs, but in blocks of pixels so that memory does not grow with the scene.
    The variance of a component is its eigenvalue, so rotation and scaling are one matrix.
    Components without variance (constant or linearly dependent bands) become zero.

    Parameters
    ----------
    cube : array (rows, cols, bands), any numeric dtype, or an ArrayFile of one
        A file is read by rows, those only that hold a valid pixel.
    valid : bool array (rows, cols), optional
        Which pixels to fit it on; all if left out.
    """
    bands = cube.shape[2]
    mean, pixels = _mean(cube, valid)
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


def fit_standardising(cube: AnyCube, valid: np.ndarray | None = None) -> Preprocessing:
    """Fit every band's mean and standard deviation (population): to zero mean and unit variance.

    A band without variance becomes zero.  The parameters are those of `fit_pca_scaling`.
    """
    mean, pixels = _mean(cube, valid)
    squares = sum(((block - mean) ** 2).sum(axis=0) for block in pixel_blocks(cube, valid))
    std = np.sqrt(squares / pixels)
    varies = std > 10 * np.abs(mean) * np.finfo(np.float64).eps
    return Preprocessing(mean, np.diag(np.where(varies, 1 / np.where(varies, std, 1), 0)))


def fit_centring(cube: AnyCube, valid: np.ndarray | None = None) -> Preprocessing:
    """Fit every band's mean, which it loses, and the cube's largest value, which divides them all.

    The input of the SSRN authors' later code, see ``SSRN/SSRNLeaky.py``.
    """
    mean, _ = _mean(cube, valid)
    _, largest = _extremes(cube, valid)
    return Preprocessing(mean, np.eye(len(mean)) / (largest or 1))


def fit_range(cube: AnyCube, valid: np.ndarray | None = None) -> Preprocessing:
    """Fit the cube's smallest and largest value, which become 0 and 1 in all bands.

    The input of Chen et al.'s stacked auto-encoder, see ``baselines/SAE.py``.
    """
    smallest, largest = _extremes(cube, valid)
    bands = cube.shape[2]
    return Preprocessing(np.full(bands, smallest), np.eye(bands) / (largest - smallest or 1))


def fit_nothing(cube: AnyCube, valid: np.ndarray | None = None) -> Preprocessing:
    """Return the transform that leaves spectra as they are."""
    return Preprocessing(np.zeros(cube.shape[2]), np.eye(cube.shape[2]))


PREPROCESSINGS: dict[str, Callable[..., Preprocessing]] = {  # what ``--preprocess`` names
    "pca": fit_pca_scaling,
    "standardise": fit_standardising,
    "centre": fit_centring,
    "range": fit_range,
    "none": fit_nothing,
}


def fit_preprocessing(
    settings: Settings, cube: AnyCube, valid: np.ndarray | None = None
) -> Preprocessing:
    """Fit what ``--preprocess`` names; of PCA keep the first ``--components`` only.

    The parameters are those of `fit_pca_scaling`.
    """
    preprocessing = PREPROCESSINGS[settings.preprocess](cube, valid)
    kept = preprocessing.matrix[:, : settings.components]
    return dataclasses.replace(preprocessing, matrix=kept)


def pixels_of(split: Split, shape: tuple[int, int]) -> np.ndarray:
    """Mark the training pixels, which ``--fit-on train`` fits on: bool (rows, cols)."""
    mask = np.zeros(shape, bool)
    mask.flat[split.train] = True
    return mask


def check_preprocessing_flags(settings: Settings) -> None:
    """Raise InputError where ``--components`` means nothing."""
    if settings.components is not None and settings.preprocess != "pca":
        raise InputError(
            f"--components {settings.components}: --preprocess {settings.preprocess} has no "
            f"components; use --preprocess pca, or leave --components out"
        )


def check_components(settings: Settings, bands: int, splits: Sequence[Split]) -> None:
    """Raise InputError where PCA cannot give as many components as ``--components`` asks for.

    Of n pixels it gives n - 1 at most, which matters where it is fitted on training pixels.
    """
    asked = settings.components
    if asked is None:
        return
    if asked > bands:
        raise InputError(
            f"--components {asked}: the scene has {bands} bands; use --components {bands} or less"
        )
    pixels = min(len(split.train) for split in splits)
    if settings.fit_on == "train" and asked > pixels - 1:
        fewer = f"use --components {pixels - 1} or less, " if pixels > 1 else ""
        raise InputError(
            f"--components {asked}: PCA of {pixels} training pixels gives {pixels - 1} at most; "
            f"{fewer}train on more pixels, or use --fit-on scene"
        )


def pixel_blocks(cube: AnyCube, valid: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """Yield float64 blocks (pixels, bands) of the cube's valid pixels, row by row."""
    wanted = None if valid is None else valid.ravel()
    for start, block in by_rows.pixel_blocks(cube, PIXELS_PER_BLOCK, wanted):
        chosen = block if wanted is None else block[wanted[start : start + len(block)]]
        yield chosen.astype(np.float64)


def _mean(cube: AnyCube, valid: np.ndarray | None) -> tuple[np.ndarray, int]:
    """Mean of every band over the valid pixels, and how many these are."""
    pixels = cube.shape[0] * cube.shape[1] if valid is None else np.count_nonzero(valid)
    return sum(block.sum(axis=0) for block in pixel_blocks(cube, valid)) / pixels, pixels


def _extremes(cube: AnyCube, valid: np.ndarray | None) -> tuple[float, float]:
    """Smallest and largest value of the valid pixels."""
    ends = np.array([(b.min(), b.max()) for b in pixel_blocks(cube, valid) if b.size])
    return ends[:, 0].min(), ends[:, 1].max()
