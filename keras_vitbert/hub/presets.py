"""Presets of this project: read from a folder, written from a trained model."""

import json
import os

import keras
import tensorflow as tf

from keras_vitbert.hub.image_classifier import ViTBertImageClassifier
from keras_vitbert.hub.masked_lm import ViTBertMaskedLM
from keras_vitbert.hub.preprocessors import (
    ViTBertImageClassifierPreprocessor,
    ViTBertImageConverter,
    ViTBertMaskedLMPreprocessor,
    ViTBertTextClassifierPreprocessor,
)
from keras_vitbert.hub.text_classifier import ViTBertTextClassifier
from keras_vitbert.hub.tokenizer import ViTBertTokenizer
from keras_vitbert.model.backbone import ViTBertBackbone
from pipelines.command_line import UserError, one_line

BACKBONE = "backbone"
_HEADS = {"image_classifier": "image", "text_classifier": "text", "masked_lm": "mlm"}
KINDS = (*_HEADS, BACKBONE)

_TASK_FILE = "task.json"  # of keras-hub: there is none in the preset of a backbone


def load_preset(path):
    """The task of a preset of this project, or its backbone where it holds no task.

    Args:
        path: str, a folder.

    Returns:
        `ViTBertImageClassifier`, `ViTBertTextClassifier`, `ViTBertMaskedLM` or `ViTBertBackbone`.

    Raises:
        UserError: it is a preset of another project, or damaged.
    """
    file = os.path.join(path, _TASK_FILE)
    file = file if tf.io.gfile.exists(file) else os.path.join(path, "config.json")
    try:
        with tf.io.gfile.GFile(file) as stream:
            name = json.load(stream)["registered_name"]
        cls = keras.saving.get_registered_object(name)
        is_ours = cls is not None and (
            cls is ViTBertBackbone or cls.backbone_cls is ViTBertBackbone
        )
        if is_ours:
            return cls.from_preset(path)
    # Missing, truncated and unexpected files raise many kinds of errors.
    except Exception as error:
        raise UserError(
            f"{path}: the preset cannot be loaded ({one_line(error)[:300]}); write it again"
        ) from error
    raise UserError(f"{path}: is a preset of {name}, not of ViT-BERT; give one of this project")


def available_kinds(trained):
    """The `KINDS` of preset that a trained model can be written as.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.

    Returns:
        list of str: those that it has heads for, and `backbone`.
    """
    return [*(kind for kind, head in _HEADS.items() if head in trained.heads), BACKBONE]


def build_task(trained, kind):
    """A trained model as a keras-hub task; they share the backbone.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.
        kind: str, one of `available_kinds(trained)`.

    Returns:
        What `load_preset` returns.
    """
    backbone = trained.backbone
    if kind == BACKBONE:
        return backbone
    head = trained.heads[_HEADS[kind]]
    if kind == "image_classifier":
        size = backbone.image_size
        preprocessor = ViTBertImageClassifierPreprocessor(
            ViTBertImageConverter((size, size), trained.central_crop), class_names=trained.classes
        )
        task = ViTBertImageClassifier(backbone, head.num_classes, preprocessor)
    else:
        tokenizer = ViTBertTokenizer(trained.vocabulary, trained.lower_case)
        length = backbone.max_sequence_length
        if kind == "text_classifier":
            preprocessor = ViTBertTextClassifierPreprocessor(
                tokenizer, length, class_names=trained.classes
            )
            task = ViTBertTextClassifier(backbone, head.num_classes, preprocessor)
        else:
            task = ViTBertMaskedLM(backbone, ViTBertMaskedLMPreprocessor(tokenizer, length))
    (task.mlm_head if kind == "masked_lm" else task.head).set_weights(head.get_weights())
    return task
