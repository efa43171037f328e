"""Predictions as text."""

import csv
import io
import json
import os

import pytest

from keras_vitbert.trained.predicting import Prediction
from keras_vitbert.trained.prediction_formats import FORMATS, as_text


def test_a_table_has_aligned_columns():
    predictions = [
        Prediction({"image": "some/x.jpg"}, False, [[("cat", 0.5), ("dog", 0.25)]]),
        Prediction({"image": "y.jpg"}, False, [[("hippopotamus", 0.75)]]),
    ]
    assert as_text(predictions, "table").splitlines() == [
        "image       1                    2",
        "some/x.jpg  cat 0.5000           dog 0.2500",
        "y.jpg       hippopotamus 0.7500",
    ]
    texts = [Prediction({"text": "[MASK] b\nc"}, True, [[("yes", 1.0)]] * 2)]
    lines = [line.split() for line in as_text(texts, "table").splitlines()]
    assert lines[0] == ["text", "mask", "1"]
    assert lines[1:] == [["[MASK]", "b", "c", str(n), "yes", "1.0000"] for n in (1, 2)]


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_of_a_name_that_are_no_text_are_escaped(form):
    name = os.fsdecode(b"caf\xe9.jpg")
    text = as_text([Prediction({"image": name}, False, [[("cat", 0.5)]])], form)
    assert text.encode() and r"caf\xe9.jpg" in text.replace(r"\\", "\\")


def test_numbers_and_names_come_back():
    """From JSON lines and from CSV, of classes and of masks."""
    classes = [
        Prediction(
            {"text": 'a "b", c', "text_pair": "d\te"}, False, [[("né", 0.75), ("no", 0.25)]]
        ),
        Prediction({"text": "", "text_pair": "x"}, False, [[("no", 0.5), ("né", 0.5)]]),
    ]
    masks = [
        Prediction({"text": "[MASK] [MASK]"}, True, [[("a", 0.5), (",", 0.25)], [("b", 1.0)]]),
        Prediction({"text": "[MASK]"}, True, [[('"', 0.125)]]),
    ]
    rows = [json.loads(line) for line in as_text(classes, "json").splitlines()]
    for row, prediction in zip(rows, classes, strict=True):
        assert {name: row[name] for name in prediction.inputs} == prediction.inputs
        found = [(each["label"], each["probability"]) for each in row["classes"]]
        assert [found] == prediction.answers
    rows = [json.loads(line) for line in as_text(masks, "json").splitlines()]
    for row, prediction in zip(rows, masks, strict=True):
        found = [[(each["token"], each["probability"]) for each in some] for some in row["masks"]]
        assert found == prediction.answers
    rows = list(csv.DictReader(io.StringIO(as_text(classes, "csv"))))
    for row, prediction in zip(rows, classes, strict=True):
        [answers] = prediction.answers
        for rank, (name, number) in enumerate(answers, 1):
            assert (row[f"label_{rank}"], float(row[f"probability_{rank}"])) == (name, number)
        assert {name: row[name] for name in prediction.inputs} == prediction.inputs
    first, second = csv.DictReader(io.StringIO(as_text(masks, "csv")))
    assert (first["mask_1_token_2"], first["mask_2_token_1"]) == (",", "b")
    assert second["mask_1_token_1"] == '"' and not second["mask_2_token_1"]
