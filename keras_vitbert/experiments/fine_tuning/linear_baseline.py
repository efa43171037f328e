"""A linear model on the inputs themselves: what a fine-tuned model has to beat.

It takes seconds and has seen no other data, so a pre-trained encoder that scores below it has not
paid off, however far it is above the majority class.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.experiments.fine_tuning.task_data import cut
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts

Split = LabelledImages | LabelledTexts

_SIDE = 32  # pixels; larger images are shrunk, so that the normal equations stay small
_MOST = {"pixels": 5_000, "TF-IDF": 20_000}  # training examples, for the same reason
_BATCH = 256


def linear_baseline(train: Split, test: Split) -> dict[str, Any]:
    """Ridge regression on pixels, or on the TF-IDF of words and word pairs.

    Returns:
        `accuracy` on the split that the fine-tuned model is measured on, `inputs` (`pixels` or
        `TF-IDF`), and `training_examples`, at most some thousand, drawn by `cut`.
    """
    inputs = "pixels" if isinstance(train, LabelledImages) else "TF-IDF"
    most = _MOST[inputs]
    if train.count > most:
        _, train = cut(train, most / train.count)
    accuracy = _on_pixels(train, test) if inputs == "pixels" else _on_words(train, test)
    return {"accuracy": accuracy, "inputs": inputs, "training_examples": train.count}


def better_by(accuracy: float, reference: float, count: int) -> tuple[float, float] | None:
    """How far a score of `count` examples lies above another one, if by more than the error.

    Returns:
        (the difference, its standard error as if the examples were independent), or None if the
        difference is no larger.
    """
    error = math.sqrt(sum(p * (1 - p) for p in (accuracy, reference)) / count)
    difference = accuracy - reference
    return (difference, error) if difference > error else None


def _on_pixels(train, test):
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
    pixels, labels = (np.concatenate(part) for part in zip(*_pixels(train), strict=True))
    model.fit(pixels, labels)
    right = sum(int((model.predict(images) == classes).sum()) for images, classes in _pixels(test))
    return right / test.count


def _pixels(split):
    """Flat images and labels, batch by batch: as a model is evaluated on them, but smaller."""
    for batch in split.evaluation(_BATCH):
        there = batch["weights"].numpy() > 0
        images = batch["images"]
        if images.shape[1] > _SIDE:
            images = tf.image.resize(images, (_SIDE, _SIDE), antialias=True)
        flat = images.numpy().reshape(len(there), -1)
        yield flat[there].astype(np.float64), batch["labels"].numpy()[there]


def _on_words(train, test):
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline

    # Every character but blanks counts: scikit-learn's own pattern drops "I", "a" and "!", and
    # fails on texts of nothing else.
    pattern = r"\w+|[^\w\s]"
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
    model = make_pipeline(words, RidgeClassifier())
    model.fit(_texts(train), train.labels)
    return float(model.score(_texts(test), test.labels))


def _texts(split):
    rows = split.rows
    if rows.second is None:
        return rows.first
    return [" ".join(pair) for pair in zip(rows.first, rows.second, strict=True)]
