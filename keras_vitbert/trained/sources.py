"""The input of a reader of trained models: the path of a model, and its kind."""

import dataclasses
from typing import Any

import tensorflow as tf

from pipelines.command_line import one_line
from pipelines.files import json_object

RUN = "a run of keras_vitbert.pretrain"
FINE_TUNED = "a run of keras_vitbert.finetune"
EXPORT = "a model that keras_vitbert.export wrote"
PRESET = "a keras-hub preset"
HUGGING_FACE = "a Hugging Face model"
GOOGLE_BERT = "Google's BERT checkpoint"
GOOGLE_VIT = "Google's ViT .npz"

WANTED = (
    "give the folder of a run, of a Hugging Face model or of a keras-hub preset, hf://OWNER/NAME, "
    "a preset's name such as vitbert_small, a checkpoint of Google's BERT or a .npz of Google's "
    "ViT"
)


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained model that was found.

    Attributes:
        kind: str, one of this module's constants.
        path: str, a folder, a checkpoint's prefix or a file.
        label: str, the path as it was given, for messages.
        config: dict, the content of config.json; empty if there is none.
    """

    kind: str
    path: str
    label: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_own_preset(self):
        """Whether it is a preset of this project."""
        return "keras_vitbert>" in str(self.config.get("registered_name"))


def read_json(path: str) -> dict[str, Any] | None:
    """The JSON object in a small file, local or `gs://`; None if there is no such file."""
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            return json_object(file.read())
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error
