"""What a path to a trained model is."""

import dataclasses
import json
import os

import tensorflow as tf

from pipelines.command_line import UserError, one_line

RUN = "a run of keras_vitbert.pretrain"
PRESET = "a keras-hub preset"
HUGGING_FACE = "a Hugging Face model"
GOOGLE_BERT = "Google's BERT checkpoint"
GOOGLE_VIT = "Google's ViT .npz"

WANTED = (
    "give the folder of a run, of a Hugging Face model or of a keras-hub preset, hf://OWNER/NAME, "
    "a preset's name, a checkpoint of Google's BERT or a .npz of Google's ViT"
)
_FETCHED = ["*.json", "*.txt", "*.safetensors", "*.h5"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A trained model that was found.

    Attributes:
        kind: str, one of this module's constants.
        path: str, where it lies: a folder, a checkpoint's prefix or a file.
        label: str, the path as it was given, for messages.
        config: dict, the content of config.json; empty where there is none.
    """

    kind: str
    path: str
    label: str
    config: dict = dataclasses.field(default_factory=dict)


def find_source(path):
    """Says what a path is; `hf://OWNER/NAME` and names of presets are fetched to their caches.

    Args:
        path: str.

    Returns:
        `Source`.

    Raises:
        UserError: there is nothing there, it cannot be fetched, or it is nothing known.
    """
    if path.startswith("hf://"):
        return _folder(_from_hugging_face(path), path)
    if path.startswith("kaggle://"):
        return _folder(_from_kaggle(path, path), path)
    if tf.io.gfile.isdir(path):
        return _folder(path, path)
    if _exists(path + ".index"):
        return Source(GOOGLE_BERT, path, path)
    if path.endswith(".npz") and _exists(path):
        return Source(GOOGLE_VIT, path, path)
    if _exists(path):
        raise UserError(f"{path}: is a file of no known kind; {WANTED}")
    handle = _preset_handle(path)
    if handle is not None:
        return _folder(_from_kaggle(handle, path), path)
    raise UserError(f"{path}: no such folder, file or preset; {WANTED}")


def require_kind(source, kinds, what):
    """Refuses a source that is of none of the kinds.

    Args:
        source: `Source`.
        kinds: collection of this module's constants.
        what: str, what is wanted of it: `images` or `texts`.
    """
    if source.kind not in kinds:
        raise UserError(f"{source.label}: is {source.kind}, which knows no {what}; {WANTED}")


def read_text(path, label):
    """The text of a small file, or None where it is not there."""
    try:
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return file.read()
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(f"{label}: {os.path.basename(path)} cannot be read ({error})") from error


def read_json(path, label):
    """The JSON object in a small file, or None where it is not there."""
    text = read_text(path, label)
    if text is None:
        return None
    try:
        content = json.loads(text)
    except ValueError as error:
        reason = one_line(error)
    else:
        if isinstance(content, dict):
            return content
        reason = "no JSON object"
    raise UserError(
        f"{label}: {os.path.basename(path)} is damaged ({reason}); bring it back"
    ) from None


def _exists(path):
    try:
        return tf.io.gfile.exists(path)
    except tf.errors.OpError as error:  # of a remote path
        raise UserError(f"{path}: cannot be read ({one_line(error.message)}); {WANTED}") from error


def _folder(path, label):
    config = read_json(os.path.join(path, "config.json"), label)
    if config is None:
        if tf.io.gfile.exists(os.path.join(path, "bert_config.json")):
            return Source(GOOGLE_BERT, _checkpoint(path, label), label)
        raise UserError(f"{label}: holds no model (there is no config.json); {WANTED}")
    if "variant" in config and "config" in config:
        return Source(RUN, path, label, config)
    if "registered_name" in config:
        return Source(PRESET, path, label, config)
    if "model_type" in config or "architectures" in config:
        return Source(HUGGING_FACE, path, label, config)
    found = ", ".join(config) or "nothing"
    raise UserError(f"{label}: its config.json is of no known kind (it holds {found}); {WANTED}")


def _checkpoint(folder, label):
    """The prefix of the one checkpoint in a folder, or of `bert_model.ckpt`."""
    names = tf.io.gfile.listdir(folder)
    prefixes = sorted(name.removesuffix(".index") for name in names if name.endswith(".index"))
    if "bert_model.ckpt" in prefixes:
        prefixes = ["bert_model.ckpt"]
    if len(prefixes) != 1:
        raise UserError(
            f"{label}: holds {len(prefixes)} checkpoints beside bert_config.json; give the prefix "
            f"of one, such as {os.path.join(folder, 'bert_model.ckpt')}"
        )
    return os.path.join(folder, prefixes[0])


def _from_hugging_face(path):
    import huggingface_hub

    try:
        return huggingface_hub.snapshot_download(
            path.removeprefix("hf://").strip("/"), allow_patterns=_FETCHED
        )
    except Exception as error:  # of the network, of the name, of permissions, of the disk
        raise _not_fetched(path, error) from error


def _from_kaggle(handle, label):
    import kagglehub

    try:
        return kagglehub.model_download(handle.removeprefix("kaggle://"))
    except Exception as error:
        raise _not_fetched(label, error) from error


def _preset_handle(name):
    """Where a preset of keras-hub lies, or None where it has none of that name."""
    if "/" in name:
        return None
    import keras_hub

    for task in ("ImageClassifier", "MaskedLM", "Backbone"):
        preset = getattr(keras_hub.models, task).presets.get(name)
        if preset is not None:
            return preset["kaggle_handle"]
    return None


def _not_fetched(label, error):
    reason = one_line(error)
    if len(reason) > 160:
        reason = f"{reason[:160]}..."
    return UserError(
        f"{label}: cannot be fetched ({type(error).__name__}: {reason}); mend the name or the "
        "network, or give a folder on disk"
    )
