"""SVM: support vector machine with RBF kernel on single spectra or patches, beside the networks.

Melgani, Bruzzone, "Classification of Hyperspectral Remote Sensing Images With Support Vector
Machines", IEEE TGRS 2004, doi 10.1109/TGRS.2004.831865; of its ways to tell several classes apart,
one against one.  C and gamma are chosen by cross-validation on the training pixels.

A pixel is classified by its own spectrum, without its neighbours; with ``--input patch`` by all
spectra of the patch around it, as the published maps of SSRN's comparison suggest, zeros outside
the scene.  Unless flags say otherwise, each band is standardised with the training pixels' mean and
standard deviation, of single spectra with those of a fold in cross-validation, so that nothing of
the test pixels is seen.
The validation pixels of a split, by which the networks stop, are not used: they are left out so
that training and test pixels are the networks' own.
Run this file to train: ``python SVM.py -d UP``.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.run.cli import run_script, set_up
from common.settings import Settings

DEFAULTS = Settings(
    model="SVM",
    iter=3,
    input="spectrum",
    patch=3,  # of single spectra, only the share of test patches with training pixels and the
    # buffer of --split disjoint depend on it
    valid_split=0.9,
    epoch=None,
    kernel=None,
    optimizer=None,
    batch_size=None,
    lr=None,
    lr_decay=None,
    recipe=None,
    preprocess="standardise",
    fit_on="train",
    class_weights=None,
    device=None,
    precision=None,
)
set_up(__name__, DEFAULTS)  # before PyTorch is loaded

import numpy as np
import sklearn
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from common.samples.preprocess import Preprocessing, fit_preprocessing
from common.scenes.by_rows import spectra_of
from common.scenes.nodata import has_data
from common.scenes.scene import Scene
from common.system.device import describe_environment
from common.system.errors import InputError
from common.system.files import write_file
from common.tables.table_formats import csv_text
from common.training.classifier import Cost, Task, Trained

C = (1, 10, 100, 1_000, 10_000, 100_000)
GAMMA = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
Predict = Callable[[np.ndarray], np.ndarray]  # flat pixel indices in, labels out
FOLDS = 3  # the smallest classes have 3 training pixels
BLOCK = 1 << 23  # numbers that describe the pixels classified at a time: 64 MiB


class SVM:
    """A support vector machine on a scene; see `common.training.classifier.Classifier`.

    Parameters
    ----------
    settings : Settings
        None of them is left to the machine itself: C and gamma are searched for.
    scene : Scene
        Pixels without data are not labelled, nor are they asked for.
    """

    def __init__(self, settings: Settings, scene: Scene) -> None:
        self.settings, self.scene = settings, scene
        self.fitted = None  # with --fit-on train in each iteration
        if settings.fit_on == "scene":
            self.fitted = fit_preprocessing(
                settings, scene.cube, has_data(scene.cube, scene.nodata)
            )
        self.facts = {}
        self.cost = Cost()  # of support vectors, not of learned parameters
        self.environment = describe_environment(torch.device("cpu")) | {
            "scikit-learn": sklearn.__version__,
            "precision": "fp64",
            "threads": 1,  # libsvm has no more
        }

    def fit(self, tasks: Sequence[Task]) -> Iterator[Trained]:
        """Search C and gamma on the training pixels, train with the best; write ``grid.csv``."""
        return map(self._fit, tasks)

    def _fit(self, task: Task) -> Trained:
        start = time.perf_counter()
        labels = self.scene.labels.flat[task.split.train]
        folds = PredefinedSplit(stratified_folds(labels, task.seed))
        if self.settings.input == "patch":
            tried, predict = self._search_patches(task.split.train, labels, folds)
        else:
            tried, predict = self._search_spectra(task.split.train, labels, folds)
        seconds = time.perf_counter() - start
        tried.sort(key=lambda pair: -pair.mean)  # keeps the grid's order where they are equal
        write_file(task.directory / "grid.csv", grid_csv(tried))
        best = tried[0]
        print(
            f"{task.title}: C {best.c:g}, gamma {best.gamma:g}, "
            f"accuracy {100 * best.mean:.2f} % in cross-validation",
            file=sys.stderr,
        )

        def classify(pixels: np.ndarray) -> tuple[np.ndarray, None]:
            found = np.empty(len(pixels), np.int64)
            step = max(1, BLOCK // self._numbers())
            for first in range(0, len(pixels), step):
                block = slice(first, first + step)
                found[block] = predict(pixels[block])
            return found, None  # an SVM's distances are no probabilities

        return Trained(classify, epochs=0, seconds=seconds)

    def _search_spectra(
        self, pixels: np.ndarray, labels: np.ndarray, folds: PredefinedSplit
    ) -> tuple[list["Tried"], Predict]:
        search = GridSearchCV(
            make_pipeline(self._transformer(), SVC(kernel="rbf")),
            {"svc__C": C, "svc__gamma": GAMMA},
            cv=folds,
        )
        search.fit(self._spectra(pixels), labels)
        columns = ("param_svc__C", "param_svc__gamma", "mean_test_score", "std_test_score")
        tried = map(Tried, *(search.cv_results_[column] for column in columns))
        return list(tried), lambda pixels: search.predict(self._spectra(pixels))

    def _search_patches(
        self, pixels: np.ndarray, labels: np.ndarray, folds: PredefinedSplit
    ) -> tuple[list["Tried"], Predict]:
        """The same from the distances of all pairs of patches, which are computed once.

        A distance adds up as many times more numbers than one of spectra as a patch has pixels:
        gamma is as many times smaller.
        """
        transformer = self._transformer().fit(self._spectra(pixels))
        patches = self._patches(pixels, transformer)
        distances = squared_distances(patches, patches)
        tried = {}
        for gamma in np.divide(GAMMA, (2 * self.settings.patch + 1) ** 2):
            search = GridSearchCV(SVC(kernel="precomputed"), {"C": C}, cv=folds, refit=False)
            results = search.fit(np.exp(-gamma * distances), labels).cv_results_
            for c, *scores in zip(
                C, results["mean_test_score"], results["std_test_score"], strict=True
            ):
                tried[c, gamma] = Tried(c, gamma, *scores)
        in_order = [tried[pair] for pair in sorted(tried)]
        best = max(in_order, key=lambda pair: pair.mean)
        machine = SVC(kernel="precomputed", C=best.c).fit(np.exp(-best.gamma * distances), labels)

        def predict(pixels: np.ndarray) -> np.ndarray:
            apart = squared_distances(self._patches(pixels, transformer), patches)
            return machine.predict(np.exp(-best.gamma * apart))

        return in_order, predict

    def _numbers(self) -> int:
        """How many numbers describe a pixel."""
        width = 2 * self.settings.patch + 1 if self.settings.input == "patch" else 1
        return width**2 * self.scene.cube.shape[2]

    def _spectra(self, pixels: np.ndarray) -> np.ndarray:
        """Spectra (pixels, bands) of flat indices."""
        return spectra_of(self.scene.cube, pixels).astype(np.float64)

    def _transformer(self) -> TransformerMixin:
        """What spectra go through, to be fitted on those that it is given, unless it is already."""
        if self.fitted is None and self.settings.preprocess == "standardise":
            return StandardScaler()
        return Transformer(self.settings, self.fitted)

    def _patches(self, pixels: np.ndarray, transformer: TransformerMixin) -> np.ndarray:
        """Preprocessed patches (pixels, P * P * components) of flat indices.

        Zero outside the scene, and where it holds no data.
        """
        (rows, cols), p = self.scene.labels.shape, self.settings.patch
        down, right = (axis.ravel() for axis in np.mgrid[-p : p + 1, -p : p + 1])
        row, col = np.unravel_index(pixels, (rows, cols))
        row, col = row[:, None] + down, col[:, None] + right
        inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
        spectra = spectra_of(self.scene.cube, row.clip(0, rows - 1) * cols + col.clip(0, cols - 1))
        inside &= has_data(spectra, self.scene.nodata)
        spectra[~inside] = 0  # what is no data may be infinite
        bands = spectra.shape[2]
        patches = transformer.transform(spectra.reshape(-1, bands).astype(np.float64))
        patches[~inside.ravel()] = 0
        return patches.reshape(len(pixels), -1)


class Transformer(TransformerMixin, BaseEstimator):
    """A preprocessing of the networks as scikit-learn's, fitted once or anew in every fold."""

    def __init__(self, settings: Settings, fitted: Preprocessing | None) -> None:
        self.settings, self.fitted = settings, fitted

    def fit(self, spectra: np.ndarray, labels: np.ndarray | None = None) -> "Transformer":
        """Fit it on spectra (pixels, bands), unless it is already."""
        self.used_ = self.fitted or fit_preprocessing(self.settings, spectra[None])
        return self

    def transform(self, spectra: np.ndarray) -> np.ndarray:
        """Transform spectra (pixels, bands) to float64 (pixels, components)."""
        return (spectra - self.used_.mean) @ self.used_.matrix


@dataclass(frozen=True)
class Tried:
    """A pair of C and gamma, and its accuracy in cross-validation: mean and std over folds."""

    c: float
    gamma: float
    mean: float
    std: float


def squared_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared Euclidean distances (m, n) of the rows of two arrays (m, d) and (n, d)."""
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)
    return np.maximum(squares - 2 * x @ y.T, 0)


def stratified_folds(labels: np.ndarray, seed: int) -> np.ndarray:
    """Deal the pixels of each class out to `FOLDS` folds, or to fewer where classes are small.

    Returns the fold of each pixel.  The one pixel of a class that has no other is in no fold (-1):
    it trains every time, so that the rest of every fold holds every class.

    Raises
    ------
    InputError
        There is only one class, or no class has two pixels.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.max() < 2:
        raise InputError(
            f"{len(labels)} training pixels of {len(classes)} classes: cross-validation needs two "
            f"classes, and two pixels of one of them; train on more"
        )
    folds = np.full(len(labels), -1)
    generator, dealt = np.random.default_rng(seed), 0
    for label in classes[counts > 1]:
        pixels = generator.permutation(np.flatnonzero(labels == label))
        # where one class stops the next goes on, which keeps the folds equally large
        folds[pixels] = (dealt + np.arange(len(pixels))) % min(FOLDS, counts.max())
        dealt += len(pixels)
    return folds


def grid_csv(tried: list[Tried]) -> str:
    """Every C and gamma with its accuracy over the folds, best first; the first was chosen."""
    header = ["rank", "C", "gamma", "accuracy_mean", "accuracy_std"]
    rows = []
    for pair in tried:
        rank = 1 + sum(other.mean > pair.mean for other in tried)
        rows.append([f"{value:g}" for value in (rank, *vars(pair).values())])
    return csv_text(header, rows)


if __name__ == "__main__":
    sys.exit(run_script(SVM, DEFAULTS))
