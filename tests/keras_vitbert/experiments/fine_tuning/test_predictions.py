"""Files, tables and pictures of predictions that are made up."""

import os

import numpy as np
import pytest

from keras_vitbert.configs import fine_tuning
from keras_vitbert.experiments.fine_tuning import predictions
from keras_vitbert.experiments.fine_tuning.evaluation import Predictions
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.experiments.fine_tuning.trials import TaskStream
from pipelines.text_tables import csv_text
from tests.keras_vitbert.tiny_runs import VOCABULARY
from tests.keras_vitbert.tiny_tasks import CLASSES, write_images


@pytest.fixture(scope="module")
def splits(text_task, image_task):
    """The validation split of each kind of task."""
    opened = {}
    for name, folder in (("texts", text_task), ("images", image_task)):
        values = {"bucket_boundaries": (10,)} if name == "texts" else {"image_size": 6}
        config = fine_tuning.get_config(name, TASKS[name].kind).with_values(values)
        data = open_task(TASKS[name], config, VOCABULARY, 16, str(folder))
        opened[name] = data.tests["validation"]
    return opened


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


def test_wrong_texts_are_those_of_the_file(splits, text_task):
    split, classes = splits["texts"], ["no", "yes"]
    lines = (text_task / "dev.tsv").read_text().splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    other = [1 - classes.index(row[3]) for row in rows]
    found = predictions_of(split, 2, {2: (other[2], 0.75), 5: (other[5], 0.875)})
    wrong = predictions.certain_errors(found, 9)
    assert wrong == [5, 2] and predictions.certain_errors(found, 1) == [5]
    head, _, *shown, _, note = predictions.wrong_texts(split, found, wrong, classes).splitlines()
    assert (
        head == "| line | text | text_pair | label | prediction | its probability | of the label |"
    )
    for line, index, shares in zip(
        shown, wrong, (["87.5%", "12.5%"], ["75.0%", "25.0%"]), strict=True
    ):
        _, _, *cells = line.strip("| ").split(" | ")
        assert line.startswith(f"| {index + 2} | ")
        assert cells == [rows[index][2], rows[index][3], classes[other[index]], *shares]
    assert note == "2 of 2 wrong predictions, the most certain ones."


def test_wrong_images_are_those_of_the_folder(splits, monkeypatch):
    """Each beside its own caption, the most certain error first."""
    split, shown = splits["images"], []

    def image_grid(images, captions, title, note):
        shown.extend(zip(images, captions, strict=True))
        return title

    monkeypatch.setattr(predictions, "image_grid", image_grid)
    monkeypatch.setattr(predictions, "picture", lambda title: title)
    every = {int(b["numbers"][0]): b for b in split.evaluation(1).as_numpy_iterator()}
    labels = {index: int(batch["labels"][0]) for index, batch in every.items()}
    found = predictions_of(split, 3, {n: ((labels[n] + 1) % 3, 0.6 + n / 100) for n in (1, 4, 7)})
    wrong = predictions.certain_errors(found, 2)
    title = predictions.wrong_images(split, found, wrong, CLASSES, "it")
    assert wrong == [7, 4] and title == "it: 2 of 3 wrong predictions, the most certain ones"
    names = [next(iter(about.values())) for about in split.descriptions()]
    for index, (image, caption) in zip(wrong, shown, strict=True):
        np.testing.assert_array_equal(image, every[index]["images"][0])
        label, prediction = CLASSES[labels[index]], CLASSES[(labels[index] + 1) % 3]
        shares = f"{0.6 + index / 100:.1%}, {0.4 - index / 100:.1%}"
        assert caption == [f"is {label}", f"not {prediction}", shares, names[index]]
        assert names[index].startswith(label)


def test_a_table_of_classes_begins_with_the_worst():
    confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
    lines = predictions.class_table(confusion, ["cat", "a|b", "fox"]).splitlines()
    assert lines[0] == "| class | examples | recall | precision | f1 |"
    assert lines[2:] == [
        "| fox | 4 | 0.5000 | 1.0000 | 0.6667 |",
        "| cat | 4 | 0.7500 | 1.0000 | 0.8571 |",
        "| a\\|b | 0 |  | 0.0000 | 0.0000 |",
    ]
    many = predictions.class_table(np.diag(np.full(201, 3)), [f"c{n}" for n in range(201)])
    assert len(many.splitlines()) == 204
    assert many.endswith("The 200 of 201 classes with the lowest recall.")


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
    assert predictions.wrong_images(split, found, [0], CLASSES, "x").ndim == 3
