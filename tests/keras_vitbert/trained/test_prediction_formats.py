"""Predictions as text."""

import csv
import io
import json
import os

import pytest

from keras_vitbert.trained.predicting import Prediction
from keras_vitbert.trained.prediction_formats import FORMATS, as_text


@pytest.mark.parametrize("form", FORMATS)
def test_bytes_of_a_name_that_are_no_text_are_escaped(form):
    name = os.fsdecode(b"caf\xe9.jpg")
    text = as_text([Prediction({"image": name}, False, [[("cat", 0.5)]])], form)
    assert text.encode() and r"caf\xe9.jpg" in text.replace(r"\\", "\\")


def test_numbers_and_names_come_back():
    """From JSON lines and from CSV, of classes and of masks."""
    inputs = {"text": 'a "b", c', "text_pair": "d\te"}
    classes = [Prediction(inputs, False, [[("né", 0.75), ("no", 0.25)]])]
    masks = [
        Prediction({"text": "[MASK] [MASK]"}, True, [[("a", 0.5), (",", 0.25)], [("b", 1.0)]]),
        Prediction({"text": "[MASK]"}, True, [[('"', 0.125)]]),
    ]
    [row] = [json.loads(line) for line in as_text(classes, "json").splitlines()]
    assert [tuple(each.values()) for each in row.pop("classes")] == [("né", 0.75), ("no", 0.25)]
    assert row == inputs
    rows = [json.loads(line) for line in as_text(masks, "json").splitlines()]
    for row, prediction in zip(rows, masks, strict=True):
        found = [[(each["token"], each["probability"]) for each in some] for some in row["masks"]]
        assert found == prediction.answers
    [row] = csv.DictReader(io.StringIO(as_text(classes, "csv")))
    assert {name: row[name] for name in inputs} == inputs
    assert (row["label_1"], float(row["probability_2"])) == ("né", 0.25)
    first, second = csv.DictReader(io.StringIO(as_text(masks, "csv")))
    assert (first["mask_1_token_2"], first["mask_2_token_1"]) == (",", "b")
    assert second["mask_1_token_1"] == '"' and not second["mask_2_token_1"]
