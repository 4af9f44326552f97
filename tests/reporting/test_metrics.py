"""OA, AA, kappa, per-class accuracies, precision and F1 against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sk

from common.reporting.metrics import confusion_matrix, scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("never_predicted", [(), (2,), (1, 7)])
def test_random_labels(seed, never_predicted):
    generator = np.random.default_rng(seed)
    labels = generator.integers(1, 8, size=400)
    predicted = np.where(generator.random(400) < 0.6, labels, generator.integers(1, 8, size=400))
    predicted[np.isin(predicted, never_predicted)] = 3

    confusion = confusion_matrix(labels, predicted, classes=7)
    result = scores(confusion)
    np.testing.assert_array_equal(confusion, sk.confusion_matrix(labels, predicted))
    assert result.oa == pytest.approx(sk.accuracy_score(labels, predicted))
    assert result.aa == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert result.kappa == pytest.approx(sk.cohen_kappa_score(labels, predicted))
    precision = sk.precision_score(labels, predicted, average="macro", zero_division=0)
    assert result.aa_users == pytest.approx(precision)
    recalls = sk.recall_score(labels, predicted, average=None)
    np.testing.assert_allclose(result.per_class, recalls)
    for name, score in {"precision": sk.precision_score, "f1": sk.f1_score}.items():
        expected = score(labels, predicted, average=None, zero_division=0)
        np.testing.assert_allclose(getattr(result, name), expected)
    f1 = sk.f1_score(labels, predicted, average="macro", zero_division=0)
    assert result.f1_macro == pytest.approx(f1)


def test_class_without_test_pixels_is_left_out_of_the_mean():
    result = scores(np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]]))
    np.testing.assert_allclose(result.per_class, [0.8, 0.9, np.nan])
    assert result.aa == pytest.approx(0.85)
    assert result.aa_users == pytest.approx((8 / 9 + 9 / 11) / 2)
    np.testing.assert_allclose(result.precision, [8 / 9, 9 / 11, np.nan])
    assert result.f1_macro == pytest.approx((16 / 19 + 18 / 21) / 2)


def test_perfect_prediction_of_one_class_has_no_kappa():
    result = scores(np.array([[5, 0], [0, 0]]))
    assert result.oa == 1
    assert np.isnan(result.kappa)
