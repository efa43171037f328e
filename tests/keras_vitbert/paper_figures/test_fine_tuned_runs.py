"""Figure 6 of fine-tuned runs: their own predictions, beside their own images and texts."""

import csv
import json
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow as tf

from keras_vitbert.paper_figures.figures import qualitative_figure
from keras_vitbert.paper_figures.fine_tuned_runs import FineTunedRun, examples_of
from keras_vitbert.paper_figures.finished_runs import open_runs
from keras_vitbert.paper_figures.writing import _fine_tuned, draw_figures
from pipelines.images.image_records import ImageRecordFiles
from pipelines.shards.records import RecordFiles
from pipelines.shards.tfrecords import to_example, write_shards
from pipelines.tasks import tfds_data
from pipelines.text_tables import csv_text
from tests.keras_vitbert.inspection.axes import by_label, drawn, texts_of
from tests.keras_vitbert.tiny_runs import summary_of
from tests.keras_vitbert.tiny_tasks import CLASSES, IMAGES, TEXTS


def predictions_of(run):
    with open(run / summary_of(run)["model"] / "predictions.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_images_and_what_is_said_of_them(swept, image_task):
    run, rows = FineTunedRun(str(swept), str(image_task)), predictions_of(swept)
    examples = examples_of({"a": run, "b": run}, 4)
    assert [example.number for example in examples] == [0, 3, 7, 10]
    for example in examples:
        row = rows[example.number]
        assert example.label == row["label"]
        for answers in example.answers.values():
            assert [answer.is_true for answer in answers].count(True) == 1
            assert answers[0].name == row["prediction"]
            assert {a.name: a.probability for a in answers} == {
                name: float(row[f"probability_{name}"]) for name in CLASSES
            }
            assert [a.probability for a in answers] == sorted(
                (a.probability for a in answers), reverse=True
            )
        # The brightest channel is the class; all of the height of 14 x 16 pixels is shown.
        channel = example.image.mean((0, 1)).argmax()
        assert example.image.shape == (96, 96, 3) and 2 - channel == CLASSES.index(example.label)
        path = image_task / "validation" / row["path"]
        whole = tf.io.decode_image(path.read_bytes()).numpy().astype(float)
        np.testing.assert_allclose(example.image.mean((0, 1)), whole[:, 1:15].mean((0, 1)), atol=2)
    figure = drawn(qualitative_figure, examples, [], ["a", "b"])
    assert len(by_label(figure, "image ")) == 8


def records_of(folder, rows, pattern, fields):
    """TFRecord files with the images of predictions, and what names each of them.

    Records go to the files in turn.
    """
    encoded, label = fields
    examples = ({encoded: (folder / r["path"]).read_bytes(), label: n} for n, r in enumerate(rows))
    write_shards(map(to_example, examples), str(pattern), 2)
    return [f"{pattern.name}-{n % 2:05}-of-00002:{n // 2}" for n in range(len(rows))]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["records", "tfds", "table"])
def test_images_that_are_no_files(copied, swept, image_task, tmp_path, kind, monkeypatch):
    """Those of record files, of TFDS and of a table are the same as those of files."""
    rows, data = predictions_of(swept), tmp_path / "data"
    data.mkdir()
    folder, column = image_task / "validation", "row" if kind == "table" else "record"
    if kind == "table":
        cells = [{"bytes": (folder / row["path"]).read_bytes(), "path": None} for row in rows]
        labels = [row["label"] for row in rows]
        table = pyarrow.table({"image": cells, "label": labels})
        pyarrow.parquet.write_table(table, data / "validation.parquet")
        names = [str(n) for n in range(1, len(rows) + 1)]
    elif kind == "records":
        fields = "image/encoded", "image/class/label"
        records_of(folder, rows, data / "train", fields)
        names = records_of(folder, rows, data / "validation", fields)
    else:
        pattern = data / "flowers" / "x-validation.tfrecord"
        pattern.parent.mkdir()
        names = records_of(folder, rows, pattern, ("image", "label"))
        config = json.loads((copied / "config.json").read_text())
        config["experiment"]["task"] = "flowers"
        (copied / "config.json").write_text(json.dumps(config))
        store = ImageRecordFiles(RecordFiles.find(f"{pattern}-*"), 3, "image", "label", 0)
        monkeypatch.setattr(tfds_data, "open_builder", lambda *arguments: arguments)
        opened = {(("oxford_flowers102", str(data)), "validation"): store}
        monkeypatch.setattr(tfds_data, "read_images", lambda *arguments: opened[arguments])
    stored = [{column: name, **row} for name, row in zip(names, rows, strict=True)]
    for row in stored:
        del row["path"]
    path = copied / summary_of(copied)["model"] / "predictions.csv"
    path.write_text(csv_text(stored))
    found = examples_of({"a": FineTunedRun(str(copied), str(data))}, 5)
    expected = examples_of({"a": FineTunedRun(str(swept), str(image_task))}, 5)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.label == other.label
    path.write_text(csv_text([{**row, column: f"{row[column]}9"} for row in stored]))
    with pytest.raises(ValueError, match="has no single image"):
        examples_of({"a": FineTunedRun(str(copied), str(data))}, 2)
    with pytest.raises(ValueError, match="'validation'"):
        config = json.loads((swept / "config.json").read_text())
        (copied / "config.json").write_text(json.dumps(config))
        examples_of({"a": FineTunedRun(str(copied), str(image_task))}, 2)


def test_texts_and_what_is_said_of_them(text_run):
    run, rows = FineTunedRun(str(text_run)), predictions_of(text_run)
    examples = examples_of({"run": run}, 3)
    assert len(rows) == TEXTS["dev"] and [e.number for e in examples] == [0, 6, 12]
    for example in examples:
        row = rows[example.number]
        assert example.truth == [row["label"]] and example.asked == "class"
        assert " ".join(word for word, _ in example.words) == f"{row['text']} | {row['text_pair']}"
        [[answers]] = example.answers.values()
        assert answers[0].name == row["prediction"]
    run.summary["split"], run.record["inputs"]["test"] = "test", "digest"
    shown = texts_of(drawn(_fine_tuned, {"run": run}, 6))
    assert shown.count("true class") == 3 and "true word" not in shown
    assert "Examples of test, and answers" in shown


@pytest.mark.slow
def test_other_figures_and_other_runs(text_run, finished, tmp_path, capsys):
    runs = open_runs([str(text_run), str(finished("joint"))])
    tuned = {name: run for name, run in runs.items() if isinstance(run, FineTunedRun)}
    assert len(tuned) == 1
    with pytest.raises(ValueError, match="fine-tuned"):
        draw_figures(tuned, str(tmp_path / "out"), ["4"], ["png"])
    assert not (tmp_path / "out").exists()
    written = draw_figures(runs, str(tmp_path / "out"), ["6"], ["png"])
    assert written == [str(tmp_path / "out" / "figure6.png")]
    assert "fine-tuned runs" in capsys.readouterr().err


@pytest.mark.slow
def test_more_classes_than_are_written(swept, image_task):
    """Of more than 20 classes the five likeliest are in the file."""
    run = FineTunedRun(str(swept), str(image_task))
    ranked = {f"top_{n}": f"class {n}" for n in range(1, 6)}
    ranked |= {f"probability_{n}": f"{0.5 / n}" for n in range(1, 6)}
    answers = run.answers({"label": "class 3", **ranked})
    assert [answer.name for answer in answers] == [f"class {n}" for n in range(1, 6)]
    assert [answer.is_true for answer in answers] == [False, False, True, False, False]


@pytest.fixture
def copied(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "copied")


@pytest.mark.slow
def test_what_cannot_be_shown(copied, swept, image_task, tmp_path):
    with pytest.raises(ValueError, match="^images: "):
        examples_of({"run": FineTunedRun(str(swept))}, 2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError):
        examples_of({"run": FineTunedRun(str(swept), str(tmp_path / "empty"))}, 2)
    path = copied / summary_of(copied)["model"] / "predictions.csv"
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + IMAGES["validation"]
    path.write_text("".join([*lines[:1], *lines[2:], lines[1]]))
    both = {"a": FineTunedRun(str(swept), str(image_task)), "b": FineTunedRun(str(copied))}
    with pytest.raises(ValueError, match="^b: "):
        examples_of(both, 2)
    path.write_text(lines[0])
    with pytest.raises(ValueError, match="predictions.csv"):
        FineTunedRun(str(copied))
    (copied / "summary.json").unlink()
    with pytest.raises(ValueError, match=str(copied)):
        FineTunedRun(str(copied))
