"""Presets of this project: read from a folder, written from a trained model."""

import json
import os

import keras
import tensorflow as tf

from keras_vitbert.trained.image_classifier import ViTBertImageClassifier
from keras_vitbert.trained.masked_lm import ViTBertMaskedLM
from keras_vitbert.trained.preprocessors import (
    ViTBertImageClassifierPreprocessor,
    ViTBertImageConverter,
    ViTBertMaskedLMPreprocessor,
    ViTBertTextClassifierPreprocessor,
)
from keras_vitbert.trained.text_classifier import ViTBertTextClassifier
from keras_vitbert.trained.tokenizer import ViTBertTokenizer
from pipelines.command_line import one_line
from pipelines.digests import check_sums

_HEADS = {"image_classifier": "image", "text_classifier": "text", "masked_lm": "mlm"}


def load_preset(path):
    """The task of a preset of this project, or its backbone if it holds no task.

    Args:
        path: str, the folder of a preset of this project.

    Returns:
        `ViTBertImageClassifier`, `ViTBertTextClassifier`, `ViTBertMaskedLM` or `ViTBertBackbone`.

    Raises:
        ValueError: it is damaged.
    """
    check_sums(path)
    file = os.path.join(path, "task.json")  # the preset of a backbone has none
    file = file if tf.io.gfile.exists(file) else os.path.join(path, "config.json")
    try:
        with tf.io.gfile.GFile(file) as stream:
            name = json.load(stream)["registered_name"]
        return keras.saving.get_registered_object(name).from_preset(path)
    # Missing, truncated and unexpected files raise many kinds of errors.
    except Exception as error:
        raise ValueError(
            f"{path}: the preset cannot be loaded ({one_line(error)[:300]})"
        ) from error


def available_kinds(trained):
    """The kinds of preset that a trained model can be written as.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.

    Returns:
        list of str: those of `image_classifier`, `text_classifier` and `masked_lm` that it has a
        head for, and `backbone`.
    """
    return [*(kind for kind, head in _HEADS.items() if head in trained.heads), "backbone"]


def build_task(trained, kind):
    """A trained model as a keras-hub task; they share the backbone.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.
        kind: str, one of `available_kinds(trained)`.

    Returns:
        What `load_preset` returns.
    """
    backbone = trained.backbone
    if kind == "backbone":
        return backbone
    head = trained.heads[_HEADS[kind]]
    if kind == "image_classifier":
        size = backbone.image_size
        preprocessor = ViTBertImageClassifierPreprocessor(
            ViTBertImageConverter((size, size), trained.central_crop), class_names=trained.classes
        )
        task = ViTBertImageClassifier(backbone, head.num_classes, preprocessor, head.kind)
    else:
        tokenizer = ViTBertTokenizer(trained.vocabulary, trained.lower_case)
        length = backbone.max_sequence_length
        if kind == "text_classifier":
            preprocessor = ViTBertTextClassifierPreprocessor(
                tokenizer, length, class_names=trained.classes
            )
            task = ViTBertTextClassifier(backbone, head.num_classes, preprocessor, head.kind)
        else:
            preprocessor = ViTBertMaskedLMPreprocessor(tokenizer, length)
            task = ViTBertMaskedLM(backbone, preprocessor, head.kind)
    (task.mlm_head if kind == "masked_lm" else task.head).set_weights(head.get_weights())
    return task
