r"""Predictions as a table for a person, as JSON lines, and as CSV.

Bytes of a file's name that are not UTF-8 are escaped: `caf\xe9.jpg`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.command_line import one_line
from pipelines.files import printable
from pipelines.text_tables import csv_text

if TYPE_CHECKING:
    from keras_vitbert.trained.predicting import Prediction

FORMATS = ("table", "json", "csv")


def as_text(predictions: Sequence[Prediction], form: str) -> str:
    """Formats predictions as text that ends with a newline.

    - `table`: aligned columns, a line for each item, or for each mask;
    - `json`: one object per line: the inputs, and `classes`, a list of `label` and `probability`,
      or `masks`, a list for each mask of `token` and `probability`;
    - `csv`: a line for each item: the inputs, and `label_1`, `probability_1`, ... or
      `mask_1_token_1`, `mask_1_probability_1`, ...
    """
    if form == "json":
        lines = (json.dumps(_json_row(each), ensure_ascii=False) for each in predictions)
        return "".join(f"{line}\n" for line in lines)
    if form == "csv":
        return csv_text([_csv_row(prediction) for prediction in predictions])
    return _table(predictions)


def _inputs(prediction: Prediction) -> dict[str, str]:
    return {name: printable(value) for name, value in prediction.inputs.items()}


def _json_row(prediction: Prediction) -> dict[str, Any]:
    name = "token" if prediction.is_masked else "label"
    answers = [
        [{name: text, "probability": number} for text, number in some]
        for some in prediction.answers
    ]
    if prediction.is_masked:
        return {**_inputs(prediction), "masks": answers}
    return {**_inputs(prediction), "classes": answers[0]}


def _csv_row(prediction: Prediction) -> dict[str, Any]:
    name = "token" if prediction.is_masked else "label"
    row: dict[str, Any] = _inputs(prediction)
    for mask, some in enumerate(prediction.answers, 1):
        prefix = f"mask_{mask}_" if prediction.is_masked else ""
        for rank, (text, number) in enumerate(some, 1):
            row[f"{prefix}{name}_{rank}"] = text
            row[f"{prefix}probability_{rank}"] = number
    return row


def _table(predictions: Sequence[Prediction]) -> str:
    first = predictions[0]
    ranks = max(len(some) for each in predictions for some in each.answers)
    rows = [[*first.inputs, *["mask"] * first.is_masked, *map(str, range(1, ranks + 1))]]
    for prediction in predictions:
        inputs = [one_line(value) for value in _inputs(prediction).values()]
        for mask, some in enumerate(prediction.answers, 1):
            answers = [f"{text} {number:.4f}" for text, number in some]
            answers += [""] * (ranks - len(some))
            rows.append([*inputs, *[str(mask)] * first.is_masked, *answers])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
