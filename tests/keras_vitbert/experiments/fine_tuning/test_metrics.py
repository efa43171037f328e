"""Measures against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_vitbert.experiments.fine_tuning import metrics


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("kind", ["random", "good", "one prediction", "one label"])
def test_as_scikit_learn(classes, kind):
    random = np.random.default_rng(classes)
    labels = random.integers(0, classes, 60)
    predictions = random.integers(0, classes, 60)
    if kind == "good":
        predictions = np.where(random.random(60) < 0.8, labels, predictions)
    if kind == "one prediction":
        predictions[:] = classes - 1
    if kind == "one label":
        labels[:] = 0
    every = list(range(classes))
    confusion = metrics.confusion_matrix(labels, predictions, classes)
    np.testing.assert_array_equal(
        confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=every)
    )
    found = metrics.measures(confusion)
    assert found["examples"] == 60
    assert found["accuracy"] == sklearn_metrics.accuracy_score(labels, predictions)
    assert found["mcc"] == pytest.approx(
        sklearn_metrics.matthews_corrcoef(labels, predictions), abs=1e-12
    )
    options = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": every}
    expected = sklearn_metrics.f1_score(labels, predictions, zero_division=0, **options)
    assert found["f1"] == pytest.approx(expected, abs=1e-12)
    assert found["majority_accuracy"] == np.bincount(labels).max() / 60
    recalls = sklearn_metrics.recall_score(
        labels, predictions, labels=every, average=None, zero_division=np.nan
    )
    np.testing.assert_allclose(metrics.per_class_accuracy(confusion), recalls)


def test_classes_as_scikit_learn():
    """Class 3 is never predicted, 4 never right, 5 neither there nor predicted."""
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 5, 80), random.integers(0, 3, 80)
    predictions[labels == 0] = 4
    confusion = metrics.confusion_matrix(labels, predictions, 6)
    found = metrics.class_measures(confusion, list("abcdef"))
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(6), zero_division=np.nan
    )
    for name, values in zip(("precision", "recall", "f1", "examples"), expected, strict=True):
        ours = [np.nan if row[name] is None else row[name] for row in found]
        np.testing.assert_allclose(ours, values, atol=1e-12, err_msg=name)
    assert [row["name"] for row in found] == list("abcdef")
    assert found[5] == {"name": "f", "examples": 0, "recall": None, "precision": None, "f1": None}


@pytest.mark.parametrize("kind", ["random", "calibrated", "on the edges", "certain"])
def test_calibration_error_by_brute_force(kind):
    random = np.random.default_rng(1)
    confidences = random.uniform(0.2, 1, 500)
    if kind == "on the edges":
        confidences = random.integers(1, 16, 500) / 15
    if kind == "certain":
        confidences = np.ones(500)
    right = random.random(500) < confidences * (1 if kind == "calibrated" else 0.6)
    expected = 0
    for number in range(15):
        inside = [number / 15 < p <= (number + 1) / 15 for p in confidences]
        if any(inside):
            gap = np.mean(right[inside]) - np.mean(confidences[inside])
            expected += np.mean(inside) * abs(gap)
    found = metrics.calibration_error(right, confidences)
    assert found == pytest.approx(expected, abs=1e-12) and (found < 0.1) == (kind == "calibrated")


def test_an_edge_belongs_to_the_bin_below():
    found = metrics.calibration_error([True, False], [14 / 15, 1.0])
    assert found == pytest.approx((1 / 15 + 1) / 2)
