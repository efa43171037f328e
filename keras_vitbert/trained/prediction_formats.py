r"""Predictions as a table for a person, as JSON lines, and as CSV.

Bytes of a file's name that are not UTF-8 are escaped: `caf\xe9.jpg`.
"""

import io
import json

from pipelines.command_line import one_line
from pipelines.files import printable
from pipelines.text_tables import csv_text

FORMATS = ("table", "json", "csv")


def as_text(predictions, form, width=0):
    """Formats predictions as text that ends with a newline.

    Args:
        predictions: list of `predicting.Prediction`.
        form: str, one of `FORMATS`:

            - `table`: aligned columns, a line for each item, or for each mask;
            - `json`: one object per line: the inputs, and `classes`, a list of `label` and
              `probability`, or `masks`, a list for each mask of `token` and `probability`;
            - `csv`: a line for each item: the inputs, and `label_1`, `probability_1`, ... or
              `mask_1_token_1`, `mask_1_probability_1`, ...
        width: int, the most characters in a line of the table; 0: any number.
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
    from rich.console import Console
    from rich.table import Table

    first = predictions[0]
    ranks = max(len(some) for each in predictions for some in each.answers)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in first.inputs:  # which are wrapped in a narrow terminal, and the answers cut
        table.add_column(name, overflow="fold")
    for name in [*["mask"] * first.is_masked, *map(str, range(1, ranks + 1))]:
        table.add_column(name, no_wrap=True)
    for prediction in predictions:
        for mask, some in enumerate(prediction.answers, 1):
            cells = [one_line(value) for value in _inputs(prediction).values()]
            cells += [str(mask)] * first.is_masked
            table.add_row(*cells, *(f"{text} {number:.4f}" for text, number in some))
    file = io.StringIO()
    plain = {"markup": False, "emoji": False, "highlight": False, "color_system": None}
    Console(file=file, width=width or 1_000_000, **plain).print(table)
    return "".join(f"{line.rstrip()}\n" for line in file.getvalue().splitlines())
