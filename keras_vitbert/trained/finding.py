"""Finds the model at a path: a run, a preset, an exported model, a model of another project."""

import dataclasses
import glob
import os
import re
from typing import Any

import tensorflow as tf

from keras_vitbert.runs.run_folder import RunFolder
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

_HUBS = ("hf://", "kaggle://")
_WEIGHTS = (".safetensors", ".weights.h5")  # the latter of Keras; `tf_model.h5` is not read
_FETCHED = ["*.json", "*.txt", *(f"*{suffix}" for suffix in _WEIGHTS)]
_FETCHED_ELSE = ["*.bin"]  # of PyTorch, if there are no others
_SAVED_MODEL = "saved_model.pb"
_OWN_MODELS = os.path.join(os.path.dirname(os.path.dirname(__file__)), "weights")


@dataclasses.dataclass(frozen=True)
class Source:
    """The place of a trained model, and its kind."""

    kind: str  # one of this module's constants
    path: str  # a folder, a checkpoint's prefix or a file
    label: str  # the path as it was given, for messages
    config: dict[str, Any] = dataclasses.field(default_factory=dict)  # of config.json

    @property
    def is_own_preset(self) -> bool:
        """Whether it is a preset of this project."""
        return "keras_vitbert>" in str(self.config.get("registered_name"))


def find(path: str) -> Source:
    """Finds the model at a path; what is not local is fetched to its cache.

    It may be a folder, a file, `hf://OWNER/NAME`, `kaggle://HANDLE`, a name of `own_models()`, or
    that of a keras-hub preset.

    Raises:
        ValueError: there is no model, it cannot be fetched, or it is of no known kind.
    """
    folder = None
    if path.startswith(_HUBS):
        folder = _fetch(path)
    elif tf.io.gfile.isdir(path):
        folder = path
    elif tf.io.gfile.exists(path + ".index"):
        return Source(GOOGLE_BERT, path, path)
    elif tf.io.gfile.exists(path):
        if path.endswith(".npz"):
            return Source(GOOGLE_VIT, path, path)
    elif path in own_models():
        folder = os.path.join(_OWN_MODELS, path)
    elif handle := _preset_handle(path):
        folder = _fetch(handle)
    source = _in_folder(folder, path) if folder else None
    if source is None:
        raise ValueError(f"{path}: no model is there; {WANTED}")
    return source


def own_models() -> list[str]:
    """The names of the models that come with this project."""
    return sorted(os.listdir(_OWN_MODELS)) if os.path.isdir(_OWN_MODELS) else []


def columns_of(path: str) -> list[str]:
    """The sentence columns that a run was fine-tuned on; none if it is something else."""
    if path.startswith(_HUBS) or not tf.io.gfile.isdir(path) or find(path).kind != FINE_TUNED:
        return []
    record = RunFolder(path).record() or {}
    return record.get("columns", {}).get("sentences", [])


def exported_versions(folder: str) -> list[int]:
    """The versions of an exported model in a local folder, ascending."""
    paths = glob.glob(os.path.join(glob.escape(folder), "*", _SAVED_MODEL))
    names = (os.path.basename(os.path.dirname(path)) for path in paths)
    return sorted(int(name) for name in names if re.fullmatch(r"[0-9]+", name))


def read_json(path: str) -> dict[str, Any] | None:
    """The JSON object in a small file, local or `gs://`; None if there is no such file."""
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path) as file:
            return json_object(file.read())
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from error


def _in_folder(path: str, label: str) -> Source | None:
    config = read_json(os.path.join(path, "config.json"))
    if config is None:
        if tf.io.gfile.exists(os.path.join(path, _SAVED_MODEL)):
            return Source(EXPORT, path, label)
        if versions := exported_versions(path):
            return Source(EXPORT, os.path.join(path, str(versions[-1])), label)
        if tf.io.gfile.exists(os.path.join(path, "bert_config.json")):
            checkpoint = _only_checkpoint(path)
            return Source(GOOGLE_BERT, checkpoint, label) if checkpoint else None
        return None
    if "experiment" in config or "schema" in config:
        record = RunFolder(path).record() or {}  # refuses that of another version
        return Source(RUN if "variant" in record["experiment"] else FINE_TUNED, path, label, record)
    if "registered_name" in config:
        return Source(PRESET, path, label, config)
    if "model_type" in config or "architectures" in config:
        return Source(HUGGING_FACE, path, label, config)
    return None


def _only_checkpoint(folder: str) -> str | None:
    """The prefix of `bert_model.ckpt`, or of the only checkpoint in a folder."""
    names = tf.io.gfile.listdir(folder)
    prefixes = [name.removesuffix(".index") for name in names if name.endswith(".index")]
    prefixes = ["bert_model.ckpt"] if "bert_model.ckpt" in prefixes else prefixes
    return os.path.join(folder, prefixes[0]) if len(prefixes) == 1 else None


def _fetch(handle: str) -> str:
    """The local folder of `hf://OWNER/NAME` or of a Kaggle handle."""
    import huggingface_hub
    import kagglehub

    try:
        if handle.startswith("hf://"):
            name = handle.removeprefix("hf://").strip("/")
            folder = huggingface_hub.snapshot_download(name, allow_patterns=_FETCHED)
            if not any(file.endswith(_WEIGHTS) for file in os.listdir(folder)):
                huggingface_hub.snapshot_download(name, allow_patterns=_FETCHED_ELSE)
            return folder
        return kagglehub.model_download(handle.removeprefix("kaggle://"))
    except Exception as error:  # of the network, the name, permissions or the disk
        raise ValueError(
            f"{handle}: cannot be fetched ({type(error).__name__}: {one_line(error)[:160]})"
        ) from error


def _preset_handle(name: str) -> str | None:
    """The Kaggle handle of a keras-hub preset."""
    if "/" in name:
        return None
    from keras_hub import models

    for task in (models.ImageClassifier, models.MaskedLM, models.TextClassifier, models.Backbone):
        presets: Any = task.presets
        if name in presets:
            return presets[name]["kaggle_handle"]
    return None
