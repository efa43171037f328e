"""Predictions of a model, trained or exported, for images and texts."""

import dataclasses
import math
import re

import numpy as np
import tensorflow as tf

from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.served_model import (
    CLASSIFY_IMAGE,
    CLASSIFY_TEXT,
    FILL_MASK,
    ServedModel,
    input_name,
)
from keras_vitbert.trained.sources import EXPORT
from pipelines.command_line import one_line
from pipelines.digests import check_sums
from pipelines.status import counted
from pipelines.text import tf_text
from pipelines.text.wordpiece import MASK


@dataclasses.dataclass(frozen=True)
class Prediction:
    """A model's answers to an image or a text.

    Attributes:
        inputs: dict of str, from its `Item`.
        is_masked: bool, whether masks were filled.
        answers: list of lists of (str, float): classes or tokens with their probabilities, the
            likeliest first; one list for each mask, or a single list.
    """

    inputs: dict[str, str]
    is_masked: bool
    answers: list[list[tuple[str, float]]]


def open_functions(path, top_k):
    """Opens the functions of a model.

    Args:
        path: str, what `trained.finding.find` takes: a run, a preset, a model of another project;
            or a folder that `export` wrote: of a model (its latest version is used) or of a
            version.
        top_k: int, see `ServedModel`.

    Returns:
        dict of the name of a signature to a function.

    Raises:
        ValueError: it is none of these, or damaged.
    """
    source = find(path)
    if source.kind != EXPORT:
        return ServedModel(open_source(source), top_k).functions
    check_sums(source.path)
    tf_text.find()  # registers operations of the graph
    try:
        return dict(tf.saved_model.load(source.path).signatures.items())
    # An IndexError if the file of the variables is too short, a RuntimeError if the graph has
    # unknown operations.
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        if "Op type not registered" in str(error):
            tf_text.require(f"{source.path}: takes text, and")
        raise ValueError(f"{source.path}: cannot be loaded ({one_line(error)})") from error


def choose(functions, items, path):
    """Chooses the signature: masks are filled if the texts have any and the model can.

    Args:
        functions: dict from `open_functions`.
        items: list of `Item`, all images or all texts.
        path: str, of the model, for messages.

    Returns:
        str.

    Raises:
        ValueError: the model has no such signature.
    """
    if "image" in items[0].inputs:
        if CLASSIFY_IMAGE in functions:
            return CLASSIFY_IMAGE
        what = "images"
    else:
        has_mask = any(MASK in text for item in items for text in item.inputs.values())
        if FILL_MASK in functions and (has_mask or CLASSIFY_TEXT not in functions):
            return FILL_MASK
        if CLASSIFY_TEXT in functions:
            return CLASSIFY_TEXT
        what = "texts"
    raise ValueError(f"{path}: has no head for {what}; fine-tune it on some, or give another")


def predict(functions, signature, items, batch=32, top_k=5, left_out=None, path="the model"):
    """Predicts all items.

    Args:
        functions: dict from `open_functions`.
        signature: str from `choose`.
        items: list of `Item`.
        batch: int, how many are predicted at once.
        top_k: int, how many answers are kept.
        left_out: list of str, to which a message is appended for each item that cannot be
            predicted, saying which and why; by default the first such item is an error.
        path: str, of the model, for messages.

    Returns:
        list of `Prediction`, in the order of the items.

    Raises:
        ValueError: a file cannot be read or is not an image, a text has no `[MASK]` to fill, or an
            answer is not finite.
    """
    skipped = None if left_out is None else {}
    # A batch is padded to its longest text.
    order = sorted(range(len(items)), key=lambda number: items[number].length)
    predictions = [None] * len(items)
    for start in counted(range(0, len(order), batch), -(-len(order) // batch)):
        taken = order[start : start + batch]
        results = _ask(
            functions[signature], signature, [items[number] for number in taken], skipped
        )
        for number, answers in zip(taken, results, strict=True):
            if answers is not None:
                kept = [some[:top_k] for some in answers]
                inputs = items[number].inputs
                if not all(math.isfinite(score) for some in kept for _, score in some):
                    raise ValueError(f"{path}: its answer to {items[number].where} is not finite")
                predictions[number] = Prediction(inputs, signature == FILL_MASK, kept)
    if skipped:
        left_out += [skipped[item.where] for item in items if item.where in skipped]
    return [prediction for prediction in predictions if prediction is not None]


def _ask(function, signature, items, skipped=None):
    """The answers for each item; None for one that is added to the dict `skipped`."""
    try:
        values = [item.value() for item in items]
        found = function(**{input_name(signature): tf.constant(values)})
    except (OSError, tf.errors.InvalidArgumentError) as error:
        if len(items) > 1:  # TensorFlow does not say which image is damaged
            return [_ask(function, signature, [item], skipped)[0] for item in items]
        complaint = f"{items[0].where}: {_reason(error)}"
        if skipped is None:
            raise ValueError(complaint) from None
        skipped[items[0].where] = complaint
        return [None]
    if signature != FILL_MASK:
        rows = zip(found["top_k_labels"].numpy(), found["top_k_probabilities"].numpy(), strict=True)
        return [[_pairs(*row)] for row in rows]
    return [
        [_pairs(*mask) for mask in zip(*row, strict=True) if mask[0][0]]  # "" pads the rows
        for row in zip(found["tokens"].numpy(), found["scores"].numpy(), strict=True)
    ]


def _pairs(names, scores):
    """Pairs of str and float; a float has the digits of its float32."""
    return [
        (name.decode(errors="replace"), float(str(np.float32(score))))
        for name, score in zip(names, scores, strict=True)
    ]


def _reason(error):
    """What is wrong with an input."""
    if isinstance(error, OSError):
        return f"cannot be read ({one_line(error)})"
    if asserted := re.search(r"assertion failed: \[text \d+ (.*)\]\n", error.message):
        return f"{asserted[1]}; write {MASK} in place of a word, early in the text"
    # It follows the trace, or the name of the graph, and precedes that of the node.
    reason = re.sub(r"\{\{.*?\}\}", "", error.message.partition("[[")[0]).strip().split("\n")[-1]
    return f"is not a readable image ({reason})"
