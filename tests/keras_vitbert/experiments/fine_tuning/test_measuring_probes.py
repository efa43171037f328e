"""Beside ridge regression and neighbours by their definitions, and features by a plain call."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning.measuring import FeatureReader, probe_splits
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.inspection.probes import PENALTIES, Features, probe
from keras_vitbert.model.classifier import build_classifier
from tests.keras_vitbert.tiny_runs import VOCABULARY
from tests.keras_vitbert.tiny_tasks import IMAGES, TEXTS

SIZES = {"image_size": 12, "vocabulary_size": len(VOCABULARY), "max_sequence_length": 16}


def drawn(count, seed):
    """Three classes around points of eight dimensions, of unequal scales."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    middles = np.random.default_rng(9).normal(size=(3, 8))
    values = middles[labels] + random.normal(size=(count, 8))
    return Features((values * np.arange(1, 9)).astype(np.float32), labels)


def by_definition(train, test):
    """Ridge regression on -1 and 1, the penalty by leaving each example out in turn."""
    mean, deviation = train.values.mean(0, np.float64), train.values.std(0, dtype=np.float64)
    x, z = ((side.values - mean) / deviation for side in (train, test))
    y = 2.0 * np.eye(3)[train.labels] - 1

    def solved(x, y, penalty):
        middle, bias = x.mean(0), y.mean(0)
        centred = x - middle
        weights = np.linalg.solve(
            centred.T @ centred + penalty * np.eye(x.shape[1]), centred.T @ (y - bias)
        )
        return lambda rows: (rows - middle) @ weights + bias

    def error(penalty):
        rows = np.arange(len(x))
        return np.mean(
            [(solved(x[rows != n], y[rows != n], penalty)(x[n]) - y[n]) ** 2 for n in rows]
        )

    best = min(PENALTIES, key=error)
    return float(np.mean(np.argmax(solved(x, y, best)(z), 1) == test.labels))


def test_ridge_regression_by_its_definition():
    train, test = drawn(60, 1), drawn(200, 2)
    assert probe(train, test)["ridge"] == by_definition(train, test)


def test_neighbours_by_their_definition():
    train, test = drawn(80, 3), drawn(150, 4)
    mean, deviation = train.values.mean(0, np.float64), train.values.std(0, dtype=np.float64)
    x, z = ((side.values - mean) / deviation for side in (train, test))
    x, z = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, z))
    nearest = np.argsort(-(z @ x.T), axis=1)[:, :20]
    votes = np.stack([np.bincount(train.labels[row], minlength=3) for row in nearest])
    found = np.mean(votes.argmax(1) == test.labels)
    assert probe(train, test)["neighbours"] == pytest.approx(found)


@pytest.fixture
def opened(tiny, image_task, text_task):
    """`opened(kind, batch) -> (data, FeatureReader)`."""

    def opened(kind, batch):
        task, folder = TASKS["images"], image_task
        values = {"image_size": 12, "images.crop_area": (0.5, 1.0)}
        if kind == "text":
            task, folder, values = TASKS["texts"], text_task, {}
        config = fine_tuning.get_config(task.name, kind).with_values(values)
        data = open_task(task, config, VOCABULARY, 16, data_dir=str(folder))
        classifier = build_classifier(
            {**tiny, **SIZES}, {kind.removesuffix("s"): len(data.classes)}
        )
        return data, FeatureReader(classifier, tf.distribute.get_strategy(), batch)

    return opened


@pytest.mark.parametrize("kind", ["images", "text"])
def test_features_are_those_of_each_example(kind, opened):
    """Each example once and in order, also where the last batch is filled up."""
    data, reader = opened(kind, 4)
    found = reader.features(data.train)
    counts = IMAGES if kind == "images" else TEXTS
    assert found.values.shape == (counts["train"], 8) and found.values.dtype == np.float32
    for batch in data.train.evaluation(4):
        numbers = batch["numbers"].numpy()
        values = reader.network.features(batch).numpy()[:, 0]
        there = numbers >= 0
        np.testing.assert_allclose(values[there], found.values[numbers[there]], atol=1e-5)
        np.testing.assert_array_equal(batch["labels"][there], found.labels[numbers[there]])


def test_all_splits_and_draws(opened, capsys):
    data, reader = opened("images", 8)
    found = probe_splits(reader, data.train, data.tests, shots=(2, 0), draws=3, seed=1)
    [split] = data.tests
    assert found.keys() == {split} and found[split].keys() == {2, 0}
    assert [len(found[split][count]["ridge"]) for count in (2, 0)] == [3, 1]
    known = reader.features(data.train)
    asked = reader.features(data.tests[split])
    again = [probe(known.shots(2, 1 + draw), asked)["neighbours"] for draw in range(3)]
    assert found[split][2]["neighbours"] == again

    # Of 26 examples of three classes nine are of the largest.
    found = probe_splits(reader, data.train, data.tests, shots=(9, 10), draws=1, seed=1)
    assert [list(shots) for shots in found.values()] == [[9]]
    assert "shots" in capsys.readouterr().err
    with pytest.raises(ValueError, match="shots"):
        probe_splits(reader, data.train, data.tests, shots=(10, 1000), draws=1, seed=1)
