"""SVM: support vector machine with RBF kernel on single spectra, the baseline beside the networks.

Melgani, Bruzzone, "Classification of Hyperspectral Remote Sensing Images With Support Vector
Machines", IEEE TGRS 2004, doi 10.1109/TGRS.2004.831865; of its ways to tell several classes apart,
one against one.  C and gamma are chosen by cross-validation on the training pixels.

A pixel is classified by its own spectrum, without its neighbours.  Each band is standardised with
the training pixels' mean and standard deviation, those of a fold in cross-validation, so that
nothing of the test pixels is seen.  The validation pixels of a split, by which the networks stop,
are not used: they are left out so that training and test pixels are the networks' own.
Run this file to train: ``python SVM.py -d UP``.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run from any folder
from common.system.process import set_up

set_up(__name__)  # before PyTorch is loaded

import numpy as np
import sklearn
import torch
from sklearn.model_selection import GridSearchCV, PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from common.run.cli import run_script
from common.scenes.scene import Scene
from common.settings import Settings
from common.system.device import describe_environment
from common.system.errors import InputError
from common.system.files import write_file
from common.tables.table_formats import csv_text
from common.training.classifier import Task, Trained

DEFAULTS = Settings(
    model="SVM",
    iter=3,
    patch=3,  # of the networks; only the share of test patches with training pixels and the
    # buffer of --split disjoint depend on it
    valid_split=0.9,
    epoch=None,
    kernel=None,
    optimizer=None,
    batch_size=None,
    lr=None,
    lr_decay=None,
    recipe=None,
    device=None,
    precision=None,
)
C = (1, 10, 100, 1_000, 10_000, 100_000)
GAMMA = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)
FOLDS = 3  # the smallest classes have 3 training pixels
BLOCK = 4096  # pixels classified at a time, so that memory stays small


class SVM:
    """A support vector machine on a scene; see `common.training.classifier.Classifier`.

    Parameters
    ----------
    settings : Settings
        None of them is left to the machine itself: C and gamma are searched for.
    scene : Scene
        With its cube in memory.  Pixels without data are not labelled, nor are they asked for.
    """

    def __init__(self, settings: Settings, scene: Scene) -> None:
        self.scene = scene
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
        search = GridSearchCV(
            make_pipeline(StandardScaler(), SVC(kernel="rbf")),
            {"svc__C": C, "svc__gamma": GAMMA},
            cv=PredefinedSplit(stratified_folds(labels, task.seed)),
        )
        search.fit(self._spectra(task.split.train), labels)
        seconds = time.perf_counter() - start
        write_file(task.directory / "grid.csv", grid_csv(search))
        best = search.best_params_
        print(
            f"{task.title}: C {best['svc__C']:g}, gamma {best['svc__gamma']:g}, "
            f"accuracy {100 * search.best_score_:.2f} % in cross-validation",
            file=sys.stderr,
        )

        def classify(pixels: np.ndarray) -> tuple[np.ndarray, None]:
            found = np.empty(len(pixels), np.int64)
            for first in range(0, len(pixels), BLOCK):
                block = slice(first, first + BLOCK)
                found[block] = search.predict(self._spectra(pixels[block]))
            return found, None  # an SVM's distances are no probabilities

        return Trained(classify, epochs=0, seconds=seconds)

    def _spectra(self, pixels: np.ndarray) -> np.ndarray:
        """Spectra (pixels, bands) of flat indices."""
        rows, cols = np.unravel_index(pixels, self.scene.labels.shape)
        return self.scene.cube[rows, cols].astype(np.float64)


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


def grid_csv(search: GridSearchCV) -> str:
    """Every C and gamma with its accuracy over the folds, best first; the first was chosen."""
    tried = search.cv_results_
    columns = ("rank_test_score", "param_svc__C", "param_svc__gamma")
    columns += ("mean_test_score", "std_test_score")
    rows = zip(*(tried[column] for column in columns), strict=True)
    header = ["rank", "C", "gamma", "accuracy_mean", "accuracy_std"]
    ranked = sorted(rows, key=lambda row: row[0])  # keeps the grid's order where ranks are equal
    return csv_text(header, [[f"{value:g}" for value in row] for row in ranked])


if __name__ == "__main__":
    sys.exit(run_script(SVM, DEFAULTS))
