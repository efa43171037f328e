r"""Predictions as a table for a person, as JSON lines, and as CSV.

Bytes of a file's name that are not UTF-8 are escaped: `caf\xe9.jpg`.
"""

import json

from pipelines.command_line import one_line
from pipelines.files import printable
from pipelines.text_tables import csv_text

FORMATS = ("table", "json", "csv")

_LEAST_INPUT = 16  # characters of an input in a narrow terminal
_GAP = "  "


def as_text(predictions, form, width=0):
    """Formats predictions as text.

    Args:
        predictions: list of `predicting.Prediction`.
        form: str, one of `FORMATS`:

            - `table`: aligned columns, a line for each item, or for each mask;
            - `json`: one object per line: the inputs, and `classes`, a list of `label` and
              `probability`, or `masks`, a list for each mask of `token` and `probability`;
            - `csv`: a line for each item: the inputs, and `label_1`, `probability_1`, ... or
              `mask_1_token_1`, `mask_1_probability_1`, ...
        width: int, the most characters in a line of the table; 0: any number.

    Returns:
        str that ends with a newline.
    """
    if form == "json":
        lines = (json.dumps(_json_row(each), ensure_ascii=False) for each in predictions)
        return "".join(f"{line}\n" for line in lines)
    if form == "csv":
        return csv_text([_csv_row(prediction) for prediction in predictions])
    return _table(predictions, width)


def _inputs(prediction):
    """Its inputs as text: dict of str."""
    return {name: printable(value) for name, value in prediction.inputs.items()}


def _json_row(prediction):
    name = "token" if prediction.is_masked else "label"
    answers = [
        [{name: text, "probability": number} for text, number in some]
        for some in prediction.answers
    ]
    if prediction.is_masked:
        return {**_inputs(prediction), "masks": answers}
    return {**_inputs(prediction), "classes": answers[0]}


def _csv_row(prediction):
    name = "token" if prediction.is_masked else "label"
    row = _inputs(prediction)
    for mask, some in enumerate(prediction.answers, 1):
        prefix = f"mask_{mask}_" if prediction.is_masked else ""
        for rank, (text, number) in enumerate(some, 1):
            row[f"{prefix}{name}_{rank}"] = text
            row[f"{prefix}probability_{rank}"] = number
    return row


def _table(predictions, width):
    input_names = list(predictions[0].inputs)
    is_masked = predictions[0].is_masked
    ranks = max(len(some) for each in predictions for some in each.answers)
    inputs, numbers, answers = [input_names], ["mask"], [[str(n + 1) for n in range(ranks)]]
    for prediction in predictions:
        for mask, some in enumerate(prediction.answers, 1):
            inputs.append([one_line(value) for value in _inputs(prediction).values()])
            numbers.append(str(mask))
            answers.append([f"{text} {number:.4f}" for text, number in some])
    input_columns = [list(column) for column in zip(*inputs, strict=True)]
    answer_columns = [list(column) for column in zip(*answers, strict=True)]
    if is_masked:
        answer_columns.insert(0, numbers)
    if width:
        least = sum(min(_width(column), _LEAST_INPUT) + len(_GAP) for column in input_columns)
        kept = 2 if is_masked else 1
        while len(answer_columns) > kept and least + _total(answer_columns) > width:
            answer_columns.pop()
            answer_columns[-1][0] = answer_columns[-1][0].removesuffix(" …") + " …"
        input_columns = _cut_inputs(input_columns, width - _total(answer_columns))
    columns = input_columns + answer_columns
    widths = [_width(column) for column in columns]
    lines = (
        _GAP.join(cell.ljust(size) for cell, size in zip(cells, widths, strict=True)).rstrip()
        for cells in zip(*columns, strict=True)
    )
    return "".join(f"{line}\n" for line in lines)


def _cut_inputs(columns, room):
    """Shortens the input columns to fit `room`, none below `_LEAST_INPUT`."""
    cut = []
    for number, column in enumerate(columns):
        share = room // (len(columns) - number) - len(_GAP)
        column = [_cut(cell, max(share, _LEAST_INPUT), column[0] == "image") for cell in column]
        room -= _width(column) + len(_GAP)
        cut.append(column)
    return cut


def _cut(text, length, at_start):
    """Shortens a path at its start, a sentence at its end."""
    if len(text) <= length:
        return text
    return "…" + text[len(text) - length + 1 :] if at_start else text[: length - 1] + "…"


def _width(column):
    return max(map(len, column))


def _total(columns):
    return sum(_width(column) + len(_GAP) for column in columns) - len(_GAP)
