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
from keras_vitbert.inspection.example_figures import confusion_figure, image_grid
from keras_vitbert.runs.callbacks import tensorboard_tag
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.files import natural
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.text_tables import markdown_table

FILE = "predictions.csv"
_MOST_IMAGES, _MOST_TEXTS = 32, 30  # wrong examples
_LETTERS = 400  # characters of a text, at most
_MOST_ROWS = 200  # classes of a table


def prediction_rows(
    predictions: dict[str, Predictions], splits: dict[str, Split], classes: list[str]
) -> list[dict[str, Any]]:
    """The rows of a file of predictions, by column; predictions and splits by name."""
    rows = []
    for name, found in predictions.items():
        examples = list(splits[name].descriptions())
        order = range(len(examples))
        if {"path", "line", "row"} & set(examples[0]):
            order = sorted(order, key=lambda index: natural(next(iter(examples[index].values()))))
        for index in order:
            row = {
                "split": name,
                **examples[index],
                "label": classes[found.labels[index]],
                "prediction": classes[found.predictions[index]],
            }
            ranked = list(zip(found.ranked[index], found.ranked_probabilities[index], strict=True))
            if len(ranked) == len(classes):
                row |= {f"probability_{classes[label]}": f"{p:.6g}" for label, p in sorted(ranked)}
            else:
                for rank, (label, p) in enumerate(ranked, 1):
                    row |= {f"top_{rank}": classes[label], f"probability_{rank}": f"{p:.6g}"}
            rows.append(row)
    return rows


def write_pages(
    folder: RunFolder,
    name: str,
    split: Split,
    predictions: Predictions,
    classes: list[str],
    step: int,
    is_first: bool = True,
) -> None:
    """Writes the last evaluation of a split for TensorBoard.

    Args:
        folder: it writes.
        name: of the split.
        is_first: whether the split is also evaluated during training; its curve ends here.
    """
    confusion, measures = predictions.confusion, predictions.measures()
    tags = {
        tensorboard_tag(measure) if is_first else f"{measure}/{name}": value
        for measure, value in logged(measures).items()
    }
    folder.log_scalars("validation", step, tags)
    title = f"{name}, step {step:,}"
    share = f"{measures['accuracy']:.1%} of {len(predictions.labels):,} right"
    writer = folder.summary_writer("validation")
    with writer.as_default(step=np.int64(step)):
        with style():
            drawn = picture(confusion_figure(confusion, classes, f"{title}: {share}"))
        tf.summary.image(f"confusion/{name}", drawn[None])
        tf.summary.text(f"classes/{name}", class_table(confusion, classes))
        is_images = isinstance(split, LabelledImages)
        wrong = certain_errors(predictions, _MOST_IMAGES if is_images else _MOST_TEXTS)
        if wrong and is_images:
            drawn = wrong_images(split, predictions, wrong, classes, title)
            tf.summary.image(f"wrong/{name}", drawn[None])
        elif wrong:
            tf.summary.text(f"wrong/{name}", wrong_texts(split, predictions, wrong, classes))
    writer.flush()


def class_table(confusion: np.ndarray, classes: list[str]) -> str:
    """How well every class is predicted, in Markdown; the lowest recall first."""
    measured = class_measures(confusion, classes)
    measured.sort(key=lambda row: 2 if row["recall"] is None else row["recall"])

    def cell(value):
        return f"{value:.4f}" if isinstance(value, float) else "" if value is None else value

    head = ["class", "examples", "recall", "precision", "f1"]
    text = markdown_table(head, [list(map(cell, row.values())) for row in measured[:_MOST_ROWS]])
    if len(measured) > _MOST_ROWS:
        text += f"\n\nThe {_MOST_ROWS} of {len(measured):,} classes with the lowest recall."
    return text


def certain_errors(predictions: Predictions, most: int) -> list[int]:
    """Indices of the wrong predictions with the highest probabilities, the highest first."""
    [wrong] = np.nonzero(predictions.predictions != predictions.labels)
    order = np.argsort(-predictions.ranked_probabilities[wrong, 0], kind="stable")
    return wrong[order[:most]].tolist()


def wrong_images(
    split: LabelledImages,
    predictions: Predictions,
    wrong: list[int],
    classes: list[str],
    title: str,
) -> np.ndarray:
    """Draws wrongly classified images as the network sees them: uint8 `(height, width, 3)`."""
    ascending = sorted(wrong)
    part = split.part([(index, index + 1) for index in ascending])
    found = [image for batch in part.evaluation(len(wrong)) for image in batch["images"].numpy()]
    names = [next(iter(about.values()), "") for about in part.descriptions()]
    places = [ascending.index(index) for index in wrong]
    captions = [
        [f"is {label}", f"not {prediction}", f"{mine}, {its}", names[place]]
        for place, (label, prediction, mine, its) in zip(
            places, _answers(predictions, wrong, classes), strict=True
        )
    ]
    title = f"{title}: {_count(predictions, wrong)}"
    note = "probabilities: of the prediction, of the label"
    with style():
        return picture(image_grid([found[place] for place in places], captions, title, note))


def wrong_texts(
    split: Split, predictions: Predictions, wrong: list[int], classes: list[str]
) -> str:
    """Wrongly classified texts as a Markdown table."""
    about = list(split.part(wrong).descriptions())
    head = [*about[0], "label", "prediction", "its probability", "of the label"]
    rows = [
        [*(t if len(t) <= _LETTERS else f"{t[:_LETTERS]} …" for t in texts.values()), *answer]
        for texts, answer in zip(about, _answers(predictions, wrong, classes), strict=True)
    ]
    return f"{markdown_table(head, rows)}\n\n{_count(predictions, wrong)}."


def _count(predictions, wrong):
    count = np.count_nonzero(predictions.predictions != predictions.labels)
    return f"{len(wrong)} of {count:,} wrong predictions, the most certain ones"


def _answers(predictions, indices, classes):
    """Yields label, prediction, and the prediction's and the label's probabilities, as texts."""
    for index in indices:
        mine = predictions.ranked_probabilities[index, 0]
        its = np.exp(-predictions.losses[index])
        label, prediction = predictions.labels[index], predictions.predictions[index]
        yield classes[label], classes[prediction], f"{mine:.1%}", f"{its:.1%}"
