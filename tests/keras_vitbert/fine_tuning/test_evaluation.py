"""Predictions for every example of a split, and their pictures and tables."""

import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import fine_tuning
from keras_vitbert.fine_tuning import evaluation
from keras_vitbert.fine_tuning.task_data import open_task
from keras_vitbert.fine_tuning.tasks import TASKS
from keras_vitbert.model.classifier import build_classifier
from tests.keras_vitbert.tiny_runs import VOCABULARY
from tests.marks import slow


def test_pictures_and_tables():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    picture = evaluation.confusion_image(confusion, side=30)
    assert picture.shape == (1, 30, 30, 3) and picture.dtype == np.uint8
    brightness = picture[0, 5::10, 5::10].sum(axis=-1)
    assert brightness[0, 0] > brightness[2, 1] == brightness[2, 2] > brightness[0, 1]
    assert brightness[0, 1] > brightness[0, 2] == brightness[1, 1]

    classes = ["cat", "dog", "fox"]
    lines = evaluation.confusion_table(confusion, classes).splitlines()
    assert lines[0] == "| label \\ prediction | cat | dog | fox |"
    assert lines[2:] == ["| cat | 3 | 1 | 0 |", "| dog | 0 | 0 | 0 |", "| fox | 0 | 2 | 2 |"]
    lines = evaluation.confusion_table(confusion, classes, most=2).splitlines()
    assert lines[2:] == ["| fox | dog | 2 |", "| cat | dog | 1 |"]
    assert "| a\\|b | dog |" in evaluation.confusion_table(confusion, ["cat", "dog", "a|b"], most=2)
    lines = evaluation.accuracy_table(confusion, classes).splitlines()
    assert lines[2:] == ["| fox | 0.5000 | 4 |", "| cat | 0.7500 | 4 |", "| dog | nan | 0 |"]


@pytest.mark.parametrize("batch", [4, slow(100)])
def test_every_example_is_predicted_once_in_its_place(text_task, tiny, randomize, batch):
    """Against the network on each example by itself; 13 examples leave a batch of 4 unfilled."""
    config = fine_tuning.get_config("texts", "text")
    config.buckets = (8,)
    split = open_task(TASKS["texts"], config, VOCABULARY, 12, str(text_task)).tests["validation"]
    model = {**tiny, "vocabulary_size": len(VOCABULARY), "max_sequence_length": 12}
    network = randomize(build_classifier(model, "text", 2), 8)
    evaluator = evaluation.Evaluator(network, tf.distribute.get_strategy(), batch)
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
        expected.append(int(np.argmax(network(inputs))))
    assert found.predictions.tolist() == expected and len(set(expected)) == 2
    rows = evaluation.prediction_rows({"dev": found}, ["no", "yes"])
    assert [(row["split"], row["index"]) for row in rows] == [("dev", n) for n in range(13)]
    assert [row["prediction_name"] for row in rows] == [["no", "yes"][n] for n in expected]


def test_an_example_that_is_missing_or_there_twice_is_an_error(text_task, tiny):
    config = fine_tuning.get_config("texts", "text")
    split = open_task(TASKS["texts"], config, VOCABULARY, 12, str(text_task)).tests["validation"]
    model = {**tiny, "vocabulary_size": len(VOCABULARY), "max_sequence_length": 12}
    network = build_classifier(model, "text", 2)
    evaluator = evaluation.Evaluator(network, tf.distribute.get_strategy(), 4)
    for change in (lambda data: data.take(2), lambda data: data.concatenate(data.take(1))):
        changed = types.SimpleNamespace(
            count=split.count,
            evaluation=lambda batch, context, change=change: change(split.evaluation(batch)),
        )
        with pytest.raises(RuntimeError, match="predictions for 13 examples"):
            evaluator.predict(changed)
