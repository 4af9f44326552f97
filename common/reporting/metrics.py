"""OA, AA, kappa, precision and F1 from the confusion matrix."""

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
    precision : float array (C,)
        Correct / predicted as the class, 0 for a class never predicted; NaN for a class without
        test pixels.
    f1 : float array (C,)
        Harmonic mean of the two; NaN for a class without test pixels.
    f1_macro : float
        Mean of `f1` over the tested classes.
    """

    oa: float
    aa: float
    kappa: float
    aa_users: float
    per_class: np.ndarray
    precision: np.ndarray
    f1: np.ndarray
    f1_macro: float


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts ``(C, C)``, rows = labelled, columns = predicted, from labels 1..C."""
    pairs = (labels.astype(np.int64) - 1) * classes + (predicted - 1)
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def scores(confusion: np.ndarray) -> Scores:
    """Compute all scores from a confusion matrix (rows = labelled) with at least one pixel."""
    total, correct = confusion.sum(), np.diag(confusion)
    labelled, predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    tested = labelled > 0
    per_class, precision, f1 = np.full((3, len(confusion)), np.nan)
    per_class[tested] = correct[tested] / labelled[tested]
    precision[tested] = correct[tested] / np.maximum(predicted[tested], 1)
    f1[tested] = 2 * correct[tested] / (labelled + predicted)[tested]

    oa = correct.sum() / total
    chance = (labelled @ predicted) / total**2
    kappa = (oa - chance) / (1 - chance) if chance < 1 else np.nan
    return Scores(
        oa=float(oa),
        aa=float(per_class[tested].mean()),
        kappa=float(kappa),
        aa_users=float(precision[tested].mean()),
        per_class=per_class,
        precision=precision,
        f1=f1,
        f1_macro=float(f1[tested].mean()),
    )
