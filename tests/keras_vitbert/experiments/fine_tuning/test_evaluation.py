"""Predictions for every example of a split, and their measures against scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics as sklearn_metrics

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import evaluation
from keras_vitbert.experiments.fine_tuning.predictions import prediction_rows
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.model.classifier import build_classifier
from tests.keras_vitbert.tiny_runs import VOCABULARY


def test_every_example_is_predicted_once_in_its_place(text_task, tiny, randomize):
    """Against the network on each example by itself; 13 examples leave a batch of 4 unfilled."""
    config = fine_tuning.get_config("texts", "text").with_values({"bucket_boundaries": (8,)})
    split = open_task(TASKS["texts"], config, VOCABULARY, 12, str(text_task)).tests["validation"]
    model = {**tiny, "vocabulary_size": len(VOCABULARY), "max_sequence_length": 12}
    network = randomize(build_classifier(model, {"text": 2}), 8)
    evaluator = evaluation.Evaluator(network, tf.distribute.get_strategy(), 4)
    found = evaluator.predict(split)

    lines = [line.split("\t") for line in (text_task / "dev.tsv").read_text().splitlines()[1:]]
    assert found.labels.tolist() == [int(line[3] == "yes") for line in lines]
    expected = []
    for _, first, second, _ in lines:
        first, second = first.split(), second.split()
        while len(first) + len(second) > 12 - 3:  # the longer one loses its end
            (first if len(first) > len(second) else second).pop()
        tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
        segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
        inputs = {
            "token_ids": np.array([[VOCABULARY.index(token) for token in tokens]]),
            "segment_ids": np.array([segments]),
            "padding_mask": np.ones((1, len(tokens)), int),
        }
        expected.append(np.asarray(network(inputs), np.float64)[0])
    labels, probabilities = found.labels, softmax(expected)
    ranked = np.take_along_axis(probabilities, found.ranked, axis=1)
    np.testing.assert_allclose(found.ranked_probabilities, ranked, atol=1e-6)
    losses = -np.log(probabilities[np.arange(13), labels])
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5, atol=1e-6)
    expected = np.argmax(expected, axis=1).tolist()
    assert found.predictions.tolist() == expected and len(set(expected)) == 2
    rows = prediction_rows({"dev": found}, {"dev": split}, ["no", "yes"])
    assert [(row["split"], row["line"]) for row in rows] == [("dev", str(n + 2)) for n in range(13)]
    assert [row["prediction"] for row in rows] == [["no", "yes"][n] for n in expected]
    shares = [[float(row["probability_no"]), float(row["probability_yes"])] for row in rows]
    np.testing.assert_allclose(shares, probabilities, atol=1e-5)


def softmax(logits):
    logits = np.asarray(logits, np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


class Logits:
    """A network that has the answers in its batch, and a split of 10 examples, in batches of 4."""

    count = 10

    def __init__(self, logits, labels, num_classes):
        self.rows, self.num_classes = (logits, labels), num_classes

    def __call__(self, batch, training):
        return batch["logits"]

    def descriptions(self):
        return [{}] * self.count

    def evaluation(self, batch, context):
        logits, labels = self.rows
        numbers = np.append(np.random.default_rng(0).permutation(10), [-1, -1]).astype(np.int32)
        found = {"logits": logits[numbers], "labels": labels[numbers], "numbers": numbers}
        return tf.data.Dataset.from_tensor_slices(found).batch(4, drop_remainder=True)


@pytest.mark.parametrize("num_classes", [20, 21])
def test_probabilities_and_measures_as_in_float64(num_classes):
    random = np.random.default_rng(num_classes)
    logits = random.normal(0, 4, (10, num_classes)).astype(np.float32)
    logits[3] *= 100  # no overflow, and a loss that float32's smallest probability cannot hold
    logits[4, 1:3] = logits[4].max() + 1  # of equal ones the first
    labels = random.integers(0, num_classes, 10).astype(np.int32)
    labels[3] = np.argmin(logits[3])
    labels[5:] = np.argmax(logits[5:], axis=1)
    split = Logits(logits, labels, num_classes)
    found = evaluation.Evaluator(split, tf.distribute.get_strategy(), 4).predict(split)

    wide = logits.astype(np.float64)
    probabilities = softmax(wide)
    losses = np.log(np.exp(wide - wide.max(1)[:, None]).sum(1)) + wide.max(1)
    losses -= wide[np.arange(10), labels]
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.predictions, np.argmax(wide, axis=1))
    np.testing.assert_allclose(found.losses, losses, rtol=1e-5, atol=1e-6)
    assert losses[3] > 150
    kept = num_classes if num_classes <= 20 else 5
    order = np.argsort(-wide, axis=1, kind="stable")[:, :kept]
    np.testing.assert_array_equal(found.ranked, order)
    best = np.take_along_axis(probabilities, order, axis=1)
    np.testing.assert_allclose(found.ranked_probabilities, best, atol=1e-6)
    if num_classes == 21:
        row = prediction_rows({"x": found}, {"x": split}, [f"c{n}" for n in range(num_classes)])[0]
        assert [row[f"top_{n + 1}"] for n in range(5)] == [f"c{n}" for n in order[0]]
    measures = found.measures()
    assert measures["log_loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert measures["accuracy"] == np.mean(np.argmax(wide, axis=1) == labels)
    assert 0.1 < measures["ece"] < 1


def test_an_example_that_is_missing_or_there_twice_is_an_error():
    for change in (lambda data: data.take(2), lambda data: data.concatenate(data.take(1))):
        split = Logits(np.zeros((10, 3), np.float32), np.zeros(10, np.int32), 3)
        evaluated = split.evaluation
        split.evaluation = lambda *where, all=evaluated, change=change: change(all(*where))
        with pytest.raises(RuntimeError):
            evaluation.Evaluator(split, tf.distribute.get_strategy(), 4).predict(split)


def made_up(labels, predictions, num_classes):
    """Certain predictions."""
    ones = np.ones(len(labels), np.float32)
    return evaluation.Predictions(labels, ones, predictions[:, None], ones[:, None], num_classes)


@pytest.mark.parametrize("classes", [2, 7])
@pytest.mark.parametrize("kind", ["good", "one prediction", "one label"])
def test_as_scikit_learn(classes, kind):
    random = np.random.default_rng(classes)
    labels, predictions = random.integers(0, classes, (2, 60))
    if kind == "good":
        predictions = np.where(random.random(60) < 0.8, labels, predictions)
    if kind == "one prediction":
        predictions[:] = classes - 1
    if kind == "one label":
        labels[:] = 0
    every, predicted = list(range(classes)), made_up(labels, predictions, classes)
    np.testing.assert_array_equal(
        predicted.confusion, sklearn_metrics.confusion_matrix(labels, predictions, labels=every)
    )
    found = predicted.measures()
    assert found["accuracy"] == sklearn_metrics.accuracy_score(labels, predictions)
    options = {"average": "binary"} if classes == 2 else {"average": "macro", "labels": every}
    f1 = sklearn_metrics.f1_score(labels, predictions, zero_division=0, **options)
    mcc = sklearn_metrics.matthews_corrcoef(labels, predictions)
    assert (found["f1"], found["mcc"]) == pytest.approx((f1, mcc), abs=1e-12)
    assert found["majority_accuracy"] == np.bincount(labels).max() / 60


def test_classes_as_scikit_learn():
    """Class 3 is never predicted, 4 never right, 5 neither there nor predicted."""
    random = np.random.default_rng(0)
    labels, predictions = random.integers(0, 5, 80), random.integers(0, 3, 80)
    predictions[labels == 0] = 4
    confusion = made_up(labels, predictions, 6).confusion
    found = evaluation.class_measures(confusion, list("abcdef"))
    expected = sklearn_metrics.precision_recall_fscore_support(
        labels, predictions, labels=range(6), zero_division=np.nan
    )
    for name, values in zip(("precision", "recall", "f1", "examples"), expected, strict=True):
        ours = [np.nan if row[name] is None else row[name] for row in found]
        np.testing.assert_allclose(ours, values, atol=1e-12, err_msg=name)
    assert [row["name"] for row in found] == list("abcdef")
    assert found[5] == {"name": "f", "examples": 0, "recall": None, "precision": None, "f1": None}


@pytest.mark.parametrize("kind", ["calibrated", "on the edges"])
def test_calibration_error_by_brute_force(kind):
    random = np.random.default_rng(1)
    confidences = random.uniform(0.2, 1, 500)
    if kind == "on the edges":
        confidences = random.integers(1, 16, 500) / 15
    right = random.random(500) < confidences * (1 if kind == "calibrated" else 0.6)
    expected = 0
    for number in range(15):
        inside = [number / 15 < p <= (number + 1) / 15 for p in confidences]
        if any(inside):
            gap = np.mean(right[inside]) - np.mean(confidences[inside])
            expected += np.mean(inside) * abs(gap)
    found = evaluation.calibration_error(right, confidences)
    assert found == pytest.approx(expected, abs=1e-12) and (found < 0.1) == (kind == "calibrated")


def test_an_edge_belongs_to_the_bin_below():
    found = evaluation.calibration_error([True, False], [14 / 15, 1.0])
    assert found == pytest.approx((1 / 15 + 1) / 2)
