"""Figure 6 of fine-tuned runs: their own predictions, beside their own images and texts."""

import csv
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import get_config
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.extras.paper_figures.examples import examples_of, predicted
from keras_vitbert.extras.paper_figures.runs import FineTunedRun
from keras_vitbert.extras.paper_figures.writing import _examples, draw_figures
from keras_vitbert.runs.identity import Identity, experiment_dict
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.text_tables import csv_text
from tests.keras_vitbert.inspection.axes import drawn, texts_of
from tests.keras_vitbert.tiny_runs import summary_of
from tests.keras_vitbert.tiny_tasks import TEXTS, write_images


def predictions_of(run):
    with open(run / summary_of(run)["model"] / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_images_are_those_of_the_rows(tmp_path):
    """A run that is made by hand, on images of which nothing else is known."""
    write_images(tmp_path / "task")
    config = get_config("images", "images").with_values({"image_size": 12})
    task = TASKS["images"], config, None, 0, str(tmp_path / "task")
    names = list(open_task(*task).tests["validation"].descriptions())
    rows = [{"split": "validation", **about, "label": "red"} for about in names]
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    Identity(experiment_dict(config), {"validation": "digest"}).begin(RunFolder(str(run)))
    (run / "summary.json").write_text(json.dumps({"split": "validation", "model": "model"}))
    predictions = run / "model" / "predictions.csv"
    predictions.write_text(csv_text(rows))
    for example in examples_of({"a": FineTunedRun(str(run), task[-1])}, "images", 4):
        path = tmp_path / "task" / "validation" / rows[example.number]["path"]
        whole = tf.io.decode_image(path.read_bytes()).numpy()
        assert example.image.shape == (12, 12, 3) and example.image.dtype == np.uint8
        np.testing.assert_allclose(example.image.mean((0, 1)), whole.mean((0, 1)), atol=5)
    rows[0]["path"] = "other"
    predictions.write_text(csv_text(rows))
    with pytest.raises(ValueError, match=task[-1]):
        examples_of({"a": FineTunedRun(str(run), task[-1])}, "images", 4)


def test_texts_and_what_is_said_of_them(text_run):
    run, rows = FineTunedRun(str(text_run)), predictions_of(text_run)
    examples = examples_of({"run": run}, "text", 3)
    assert len(rows) == TEXTS["dev"] and [e.number for e in examples] == [0, 6, 12]
    for example in examples:
        row = rows[example.number]
        assert example.truth == [row["label"]] and example.asked == "class"
        assert " ".join(word for word, _ in example.words) == f"{row['text']} | {row['text_pair']}"
        [[answers]] = example.answers.values()
        assert answers[0].name == row["prediction"]
    run.split, run.record["inputs"]["test"] = "test", "digest"
    shown = texts_of(drawn(_examples, {"run": run}, 6))
    assert shown.count("true class") == 3 and "true word" not in shown
    assert "Examples of test, and answers" in shown


def test_more_classes_than_are_written():
    """Of more than 20 classes the five likeliest are in the file."""
    ranked = {f"top_{n}": f"class {n}" for n in range(1, 6)}
    ranked |= {f"probability_{n}": f"{0.5 / n}" for n in range(1, 6)}
    answers = predicted({"label": "class 3", **ranked})
    assert [answer.name for answer in answers] == [f"class {n}" for n in range(1, 6)]
    assert [answer.is_true for answer in answers] == [False, False, True, False, False]


def test_runs_of_other_examples_are_refused(text_run, tmp_path):
    copied = shutil.copytree(text_run, tmp_path / "copied")
    path = copied / summary_of(copied)["model"] / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:1], *lines[2:], lines[1]]))
    with pytest.raises(ValueError, match="^b: "):
        examples_of({"a": FineTunedRun(str(text_run)), "b": FineTunedRun(str(copied))}, "text", 2)
    with pytest.raises(ValueError, match="fine-tuned"):
        draw_figures({"a": FineTunedRun(str(copied))}, str(tmp_path / "out"), ["4"], ["png"])
    path.write_text(lines[0])
    with pytest.raises(ValueError, match="predictions.csv"):
        FineTunedRun(str(copied))
    (copied / "summary.json").unlink()
    with pytest.raises(ValueError, match=str(copied)):
        FineTunedRun(str(copied))
