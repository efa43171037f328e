"""Measures against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from keras_vitbert.fine_tuning import metrics


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
