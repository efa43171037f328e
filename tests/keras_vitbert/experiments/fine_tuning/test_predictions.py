"""Files, tables and pictures of predictions that are made up."""

import os

import numpy as np

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import predictions
from keras_vitbert.experiments.fine_tuning.evaluation import Predictions
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from pipelines.text_tables import csv_text
from tests.keras_vitbert.tiny_tasks import CLASSES, write_images


def predictions_of(split, num_classes, wrong):
    """Right ones, but for `wrong`: dict of an index to (prediction, its probability)."""
    labels = np.concatenate([b["labels"] for b in split.evaluation(1).as_numpy_iterator()])
    numbers = np.concatenate([b["numbers"] for b in split.evaluation(1).as_numpy_iterator()])
    labels = labels[np.argsort(numbers)]
    probabilities = np.zeros((split.count, num_classes), np.float32)
    probabilities[np.arange(split.count), labels] = 1
    for index, (prediction, share) in wrong.items():
        probabilities[index] = 0
        probabilities[index, [labels[index], prediction]] = 1 - share, share
    ranked = np.argsort(-probabilities, axis=1, kind="stable").astype(np.int32)
    losses = -np.log(probabilities[np.arange(split.count), labels])
    ordered = np.take_along_axis(probabilities, ranked, axis=1)
    return Predictions(labels, losses, ranked, ordered, num_classes)


def test_a_table_of_classes_begins_with_the_worst():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    lines = predictions.class_table(confusion, ["cat", "a|b", "fox"]).splitlines()
    assert lines[0] == "| class | examples | recall | precision | f1 |"
    assert lines[2:] == [
        "| fox | 4 | 0.5000 | 1.0000 | 0.6667 |",
        "| cat | 4 | 0.7500 | 1.0000 | 0.8571 |",
        "| a\\|b | 0 |  | 0.0000 | 0.0000 |",
    ]


def test_names_of_files_that_are_not_utf_8_are_escaped(tmp_path):
    write_images(tmp_path, counts={"train": 3, "validation": 3})
    for path in tmp_path.glob("*/*/*.jpg"):
        os.rename(path, os.fsencode(path.parent) + b"/caf\xe9-\xc3\xa9.jpg")
    config = fine_tuning.get_config("images", "images").with_values({"image_size": 6})
    data = open_task(TASKS["images"], config, None, 0, str(tmp_path))
    split = data.tests["validation"]
    found = predictions_of(split, 3, {0: (1, 0.75)})
    rows = predictions.prediction_rows({"validation": found}, {"validation": split}, CLASSES)
    wanted = [rf"{name}/caf\xe9-é.jpg" for name in CLASSES]
    assert [row["path"] for row in rows] == wanted
    assert wanted[2] in csv_text(rows).encode().decode()
    records = TaskStream(data.train, seed=0, steps=1, batch=2).batch_records(0)
    assert set(records["images"]) < set(wanted)
