"""Files of predictions."""

import os

import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import summaries
from keras_vitbert.experiments.fine_tuning.prediction_files import prediction_rows
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from pipelines.text_tables import csv_text
from tests.keras_vitbert.experiments.fine_tuning.test_summaries import predictions_of
from tests.keras_vitbert.tiny_tasks import CLASSES, write_images


@pytest.fixture
def data(tmp_path):
    """A task of images, each of which has a name that is not UTF-8."""
    write_images(tmp_path, counts={"train": 3, "validation": 3})
    for path in tmp_path.glob("*/*/*.jpg"):
        os.rename(path, os.fsencode(path.parent) + b"/caf\xe9-\xc3\xa9.jpg")
    config = fine_tuning.get_config("images", "images").with_values({"image_size": 6})
    return open_task(TASKS["images"], config, None, 0, str(tmp_path))


def test_names_of_files_that_are_not_utf_8_are_escaped(data):
    split = data.tests["validation"]
    predictions = predictions_of(split, 3, {0: (1, 0.75)})
    rows = prediction_rows({"validation": predictions}, {"validation": split}, CLASSES)
    wanted = [rf"{name}/caf\xe9-é.jpg" for name in CLASSES]
    assert [row["path"] for row in rows] == wanted
    assert wanted[2] in csv_text(rows).encode().decode()
    records = TaskStream(data.train, seed=0, steps=1, batch=2).batch_records(0)
    assert set(records["images"]) < set(wanted)
    assert summaries.wrong_images(split, predictions, [0], CLASSES, "x").ndim == 3
