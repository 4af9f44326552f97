"""OA, AA and kappa from the confusion matrix."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """What the field reports of one test, as shares 0..1.

    Attributes
    ----------
    oa : float
        Overall accuracy.
    aa : float
        Average accuracy: mean over the tested classes of correct / labelled as the class
        (recall, producer's accuracy).
    kappa : float
        Cohen's kappa.
    aa_users : float
        Mean over the tested classes of correct / predicted as the class (precision, user's
        accuracy), 0 for a class never predicted.  The released A2S2K-ResNet code prints
        this one as AA.
    per_class : float array (C,)
        Correct / labelled as the class; NaN for a class without test pixels.
    """

    oa: float
    aa: float
    kappa: float
    aa_users: float
    per_class: np.ndarray


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(C, C)``, rows = labelled, columns = predicted, from labels 1..C."""
    pairs = (labels - 1) * classes + (predicted - 1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def scores(confusion: np.ndarray) -> Scores:
    """Compute all scores from a confusion matrix (rows = labelled) with at least one pixel."""
    total, correct = confusion.sum(), np.diag(confusion)
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    tested = labelled > 0
    per_class = np.full(len(confusion), np.nan)
    per_class[tested] = correct[tested] / labelled[tested]
    users = correct / np.maximum(predicted, 1)

    oa = correct.sum() / total
    chance = (labelled @ predicted) / total**2
    kappa = (oa - chance) / (1 - chance) if chance < 1 else np.nan
    return Scores(
        oa=float(oa),
        aa=float(per_class[tested].mean()),
        kappa=float(kappa),
        aa_users=float(users[tested].mean()),
        per_class=per_class,
    )
