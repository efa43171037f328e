"""Figure 6 of fine-tuned runs: their own predictions, beside their own images and texts.

The runs are made by hand.
"""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import get_config
from keras_vitbert.experiments.fine_tuning.task_data import open_task
from keras_vitbert.experiments.fine_tuning.tasks import TASKS
from keras_vitbert.extras.paper_figures.examples import examples_of
from keras_vitbert.extras.paper_figures.runs import FineTunedRun, open_runs
from keras_vitbert.extras.paper_figures.writing import _examples, draw_figures
from keras_vitbert.runs.identity import Identity, experiment_dict
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.text_tables import csv_text
from tests.keras_vitbert.inspection.axes import drawn, texts_of
from tests.keras_vitbert.tiny_tasks import write_images

IMAGES = get_config("images", "images").with_values({"image_size": 12})
TEXTS = get_config("texts", "texts")
ROWS = [
    {
        "split": "dev",
        "text": f"text {n}",
        "text_pair": "a b",
        "label": "yes",
        "probability_no": 0.5 + 0.1 * n,
        "probability_yes": 0.5 - 0.1 * n,
    }
    for n in range(5)
]


@pytest.fixture
def tuned(tmp_path):
    """`tuned(name, config, rows, images="") -> FineTunedRun`, with these rows of predictions."""

    def tuned(name, config, rows, images=""):
        folder = tmp_path / name
        (folder / "model").mkdir(parents=True)
        split = rows[0]["split"] if rows else "dev"
        Identity(experiment_dict(config), {split: "digest"}).begin(RunFolder(str(folder)))
        (folder / "summary.json").write_text(json.dumps({"split": split, "model": "model"}))
        (folder / "model" / "predictions.csv").write_text(csv_text(rows) if rows else "split\n")
        return FineTunedRun(str(folder), images)

    return tuned


def test_images_are_those_of_the_rows(tuned, tmp_path):
    folder = str(tmp_path / "task")
    write_images(tmp_path / "task")
    data = open_task(TASKS["images"], IMAGES, None, 0, folder).tests["validation"]
    rows = [{"split": "validation", **about, "label": "red"} for about in data.descriptions()]
    for example in examples_of({"a": tuned("a", IMAGES, rows, folder)}, "images", 4):
        path = tmp_path / "task" / "validation" / rows[example.number]["path"]
        whole = tf.io.decode_image(path.read_bytes()).numpy()
        assert example.image.shape == (12, 12, 3) and example.image.dtype == np.uint8
        np.testing.assert_allclose(example.image.mean((0, 1)), whole.mean((0, 1)), atol=5)
    rows[0]["path"] = "other"
    with pytest.raises(ValueError, match=folder):
        examples_of({"b": tuned("b", IMAGES, rows, folder)}, "images", 4)


def test_texts_and_what_is_said_of_them(tuned):
    run = tuned("a", TEXTS, ROWS)
    examples = examples_of({"run": run}, "text", 3)
    assert [e.number for e in examples] == [0, 2, 4]
    for example in examples:
        assert example.truth == ["yes"] and example.asked == "class"
        assert " ".join(word for word, _ in example.words) == f"text {example.number} | a b"
        [[answers]] = example.answers.values()
        probability = pytest.approx(0.5 + 0.1 * example.number)
        assert ("no", probability, False) in answers and len(answers) == 2
        assert answers[0].probability == probability
    shown = texts_of(drawn(_examples, {"run": run}, 6))
    assert shown.count("true class") == 3 and "true word" not in shown
    assert "Examples of dev, and answers" in shown


def test_a_run_of_two_tasks_is_shown_by_task(tmp_path):
    write_images(tmp_path / "task")
    config = get_config("images,texts", "both").with_values({"image.image_size": 12})
    data = open_task(TASKS["images"], IMAGES, None, 0, str(tmp_path / "task")).tests["validation"]
    of_all = {
        "split": "validation",
        "label": "red",
        "probability_red": 0.9,
        "probability_blue": 0.1,
    }
    images = [of_all | about for about in data.descriptions()]
    (tmp_path / "run" / "model").mkdir(parents=True)
    folder = RunFolder(str(tmp_path / "run"))
    Identity(experiment_dict(config), {"image.validation": "1", "text.dev": "2"}).begin(folder)
    tasks = {"image": {"split": "validation"}, "text": {"split": "dev"}}
    folder.write_json("summary.json", {"model": "model", "tasks": tasks})
    for section, rows in (("image", images), ("text", ROWS)):
        folder.write(f"model/{section}_predictions.csv", csv_text(rows))
    runs = open_runs([folder.path], str(tmp_path / "task"))
    assert list(runs) == ["run-image", "run-text"]
    shown = texts_of(drawn(_examples, runs, 2))
    assert {"red (example 0)", "true class"} <= set(shown)
    assert any(text.startswith("Example 0: text 0 | a b") for text in shown)
    with pytest.raises(ValueError, match=f"{folder.path}.*--images"):
        examples_of({"run": open_runs([folder.path])["run-image"]}, "images", 1)


def test_runs_of_other_examples_are_refused(tuned, tmp_path):
    run, other = tuned("a", TEXTS, ROWS), tuned("b", TEXTS, [*ROWS[1:], ROWS[0]])
    with pytest.raises(ValueError, match="^b: "):
        examples_of({"a": run, "b": other}, "text", 2)
    with pytest.raises(ValueError, match="fine-tuned"):
        draw_figures({"a": run}, str(tmp_path / "out"), ["4"], ["png"])
    with pytest.raises(ValueError, match="predictions.csv"):
        tuned("c", TEXTS, [])
    (tmp_path / "a" / "summary.json").unlink()
    with pytest.raises(ValueError, match=str(tmp_path / "a")):
        FineTunedRun(str(tmp_path / "a"))
