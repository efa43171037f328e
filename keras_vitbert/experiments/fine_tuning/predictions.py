r"""What is kept of the predictions for a split: a file for a spreadsheet, and TensorBoard's pages.

The file has one row per example:

| column | |
| --- | --- |
| `split` | |
| `path`; `line` or `row`; `record` | the file; the row of a table; a record, as FILE:PLACE |
| `text`, `text_pair` | texts |
| `label`, `prediction` | names of classes |
| `probability_CLASS` | one column per class, if there are at most 20 |
| `top_1`, `probability_1`, ... | otherwise the five most probable classes |

The rows of a split are in the natural order of their files and lines: `9.jpg` precedes `10.jpg`.
Bytes of a file's name that are not UTF-8 are escaped: `caf\xe9.jpg`.
"""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.experiments.fine_tuning.evaluation import (
    Predictions,
    Split,
    class_measures,
    logged,
)
from keras_vitbert.inspection.drawing import picture, style
from keras_vitbert.inspection.example_figures import confusion_figure
from keras_vitbert.runs.callbacks import tensorboard_tag
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.files import natural
from pipelines.text_tables import markdown_table

_MOST_ROWS = 200  # classes of a table


def predictions_file(section: str = "") -> str:
    """The name of a trial's file for the task in a section of its config."""
    return f"{section}_predictions.csv" if section else "predictions.csv"


def of_section(path: str, section: str) -> str:
    """The user's file for one of two tasks: NAME-image.csv or NAME-text.csv."""
    stem, suffix = os.path.splitext(path)
    return f"{stem}-{section}{suffix}" if section else path


def prediction_rows(
    predictions: dict[str, Predictions], splits: dict[str, Split], classes: list[str]
) -> list[dict[str, Any]]:
    """The rows of a file of predictions, by column; predictions and splits by name."""
    rows = []
    for name, answers in predictions.items():
        examples = list(splits[name].descriptions())
        order = range(len(examples))
        if {"path", "line", "row"} & set(examples[0]):
            order = sorted(order, key=lambda index: natural(next(iter(examples[index].values()))))
        for index in order:
            row = {
                "split": name,
                **examples[index],
                "label": classes[answers.labels[index]],
                "prediction": classes[answers.predictions[index]],
            }
            shares = answers.ranked_probabilities[index]
            ranked = list(zip(answers.ranked[index], shares, strict=True))
            if len(ranked) == len(classes):
                row |= {f"probability_{classes[label]}": f"{p:.6g}" for label, p in sorted(ranked)}
            else:
                for rank, (label, p) in enumerate(ranked, 1):
                    row |= {f"top_{rank}": classes[label], f"probability_{rank}": f"{p:.6g}"}
            rows.append(row)
    return rows


def write_pages(
    folder: RunFolder,
    section: str,
    name: str,
    predictions: Predictions,
    classes: list[str],
    step: int,
    is_first: bool = True,
) -> None:
    """Writes the last evaluation of a split, of the task in a section, for TensorBoard.

    The curve of the first split, which is also evaluated during training, ends here.
    """
    confusion, measures = predictions.confusion, predictions.measures()
    prefix = f"{section}_" if section else ""
    tags = {
        tensorboard_tag(f"{prefix}{measure}") if is_first else f"{measure}/{name}": value
        for measure, value in logged(measures).items()
    }
    folder.log_scalars("validation", step, tags)
    title = f"{name}, step {step:,}"
    share = f"{measures['accuracy']:.1%} of {len(predictions.labels):,} right"
    if (writer := folder.summary_writer("validation")) is None:  # another process writes
        return
    with writer.as_default(step=np.int64(step)), style():
        drawn = picture(confusion_figure(confusion, classes, f"{title}: {share}"))
        tf.summary.image(f"confusion/{name}", drawn[None])
        tf.summary.text(f"classes/{name}", class_table(confusion, classes))
    writer.flush()


def class_table(confusion: np.ndarray, classes: list[str]) -> str:
    """How well every class is predicted, in Markdown; the lowest recall first."""
    measured = class_measures(confusion, classes)
    measured.sort(key=lambda row: 2 if row["recall"] is None else row["recall"])

    def cell(value: Any) -> Any:
        return f"{value:.4f}" if isinstance(value, float) else "" if value is None else value

    head = ["class", "examples", "recall", "precision", "f1"]
    return markdown_table(head, [list(map(cell, row.values())) for row in measured[:_MOST_ROWS]])
