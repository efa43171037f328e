"""A trial's evaluation in TensorBoard: scalars, confusion, classes, wrong examples."""

import numpy as np
import tensorflow as tf

from keras_vitbert.experiments.fine_tuning import metrics
from keras_vitbert.experiments.fine_tuning.prediction_files import described
from keras_vitbert.inspection.drawing import picture, style
from keras_vitbert.inspection.example_figures import confusion_figure, image_grid
from keras_vitbert.runs.callbacks import tensorboard_tag
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.text_tables import markdown_table

_MOST_IMAGES, _MOST_TEXTS = 32, 30  # wrong examples
_LETTERS = 400  # characters of a text, at most
_MOST_ROWS = 200  # classes of a table
# The settings of a trial that the HParams tab shows, if its kind has them.
COMPARED = (
    *("task", "checkpoint", "purpose", "seed", "steps", "batch", "image_size", "max_length"),
    *("dropout", "attention_dropout", "stochastic_depth", "label_smoothing", "lora_rank"),
    *("images.mixup", "images.cutmix"),
    *(
        f"optimizer.{key}"
        for key in ("name", "learning_rate", "weight_decay", "layer_decay", "ema")
    ),
)


def logged(measures):
    """The measures of a split that are logged during training: dict of name to float.

    Args:
        measures: dict, of `Predictions.measures`.
    """
    names = (*metrics.METRICS, "ece")
    return {"loss": measures["log_loss"], **{name: measures[name] for name in names}}


def write_summaries(folder, name, split, predictions, classes, step, is_first=True):
    """Writes the final evaluation of a split for TensorBoard.

    Args:
        folder: `RunFolder`, which writes.
        name: str, of the split.
        split: `LabelledImages` or `LabelledTexts`.
        predictions: `Predictions`.
        classes: list of str.
        step: int.
        is_first: bool, whether the split is also evaluated during training; its curve ends here.
    """
    confusion, measures = predictions.confusion, predictions.measures()
    tags = {
        tensorboard_tag(measure) if is_first else f"{measure}/{name}": value
        for measure, value in logged(measures).items()
    }
    folder.log_scalars("validation", step, tags)
    title = f"{name}, step {step:,}: {measures['accuracy']:.1%} of {len(predictions.labels):,}"
    writer = folder.summary_writer("validation")
    with writer.as_default(step=np.int64(step)):
        with style():
            drawn = picture(confusion_figure(confusion, classes, f"{title} right"))
        tf.summary.image(f"confusion/{name}", drawn[None])
        tf.summary.text(f"classes/{name}", class_table(confusion, classes))
        if isinstance(split, LabelledImages):
            wrong = most_certain_errors(predictions, _MOST_IMAGES)
            if wrong:
                drawn = wrong_images(split, predictions, wrong, classes, f"{name}, step {step:,}")
                tf.summary.image(f"wrong/{name}", drawn[None])
        else:
            wrong = most_certain_errors(predictions, _MOST_TEXTS)
            if wrong:
                tf.summary.text(f"wrong/{name}", wrong_texts(split, predictions, wrong, classes))
    writer.flush()


def class_table(confusion, classes):
    """How well every class is predicted, in Markdown; the lowest recall first.

    Args:
        confusion: int array `(classes, classes)`.
        classes: list of str.

    Returns:
        str.
    """
    measured = metrics.class_measures(confusion, classes)
    measured.sort(key=lambda row: 2 if row["recall"] is None else row["recall"])

    def cell(value):
        return f"{value:.4f}" if isinstance(value, float) else "" if value is None else value

    head = ["class", "examples", "recall", "precision", "f1"]
    rows = [list(map(cell, row.values())) for row in measured[:_MOST_ROWS]]
    text = markdown_table(head, rows)
    if len(measured) > _MOST_ROWS:
        text += f"\n\nThe {_MOST_ROWS} of {len(measured):,} classes with the lowest recall."
    return text


def most_certain_errors(predictions, most):
    """The wrong predictions with the highest probabilities.

    Args:
        predictions: `Predictions`.
        most: int, how many at most.

    Returns:
        list of int, indices of examples; the highest probability first.
    """
    [wrong] = np.nonzero(predictions.predictions != predictions.labels)
    order = np.argsort(-predictions.ranked_probabilities[wrong, 0], kind="stable")
    return wrong[order[:most]].tolist()


def wrong_images(split, predictions, wrong, classes, title):
    """Draws wrongly classified images, as the network sees them.

    Args:
        split: `LabelledImages`.
        predictions: `Predictions` of the split.
        wrong: list of int, indices, at least one.
        classes: list of str.
        title: str.

    Returns:
        uint8 `(height, width, 3)`.
    """
    ascending = sorted(wrong)
    part = split.part([(index, index + 1) for index in ascending])
    found = [image for batch in part.evaluation(len(wrong)) for image in batch["images"].numpy()]
    names = [next(iter(about.values()), "") for about in described(part)]
    images, captions = [], []
    for index, answer in zip(wrong, _answers(predictions, wrong, classes), strict=True):
        place = ascending.index(index)
        label, prediction, mine, its = answer
        images.append(found[place])
        captions.append([f"is {label}", f"not {prediction}", f"{mine}, {its}", names[place]])
    count = np.count_nonzero(predictions.predictions != predictions.labels)
    title = f"{title}: {len(wrong)} of {count:,} wrong predictions, the most certain ones"
    note = "probabilities: of the prediction, of the label"
    with style():
        return picture(image_grid(images, captions, title, note))


def wrong_texts(split, predictions, wrong, classes):
    """Wrongly classified texts as a Markdown table.

    Args:
        split: `LabelledTexts`.
        predictions: `Predictions` of the split.
        wrong: list of int, indices, at least one.
        classes: list of str.

    Returns:
        str.
    """
    about = list(split.part(wrong).descriptions())
    head = [*about[0], "label", "prediction", "its probability", "of the label"]
    answers = _answers(predictions, wrong, classes)
    rows = [
        [*(_cut(text) for text in texts.values()), *answer]
        for texts, answer in zip(about, answers, strict=True)
    ]
    count = np.count_nonzero(predictions.predictions != predictions.labels)
    note = f"{len(wrong)} of {count:,} wrong predictions, the most certain ones."
    return f"{markdown_table(head, rows)}\n\n{note}"


def _cut(text):
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]} …"


def _answers(predictions, indices, classes):
    """Yields label, prediction, and the prediction's and the label's probabilities, as texts."""
    for index in indices:
        pair = predictions.labels[index], predictions.predictions[index]
        mine = predictions.ranked_probabilities[index, 0]
        its = predictions.label_probabilities[index]
        yield *(classes[label] for label in pair), f"{mine:.1%}", f"{its:.1%}"
