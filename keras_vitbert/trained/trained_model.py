"""A trained model for what comes after training: backbone, heads, words and names in one place."""

import dataclasses
import json
import os

import keras
import tensorflow as tf

from keras_vitbert.fine_tuning.evaluate_only import load_classifier
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.loading import load_network
from pipelines.command_line import UserError
from pipelines.tasks.labelled_texts import is_cased
from pipelines.text.wordpiece import read_vocabulary

CENTRAL_CROP = 0.875


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model that was trained, and what it takes to use it.

    Attributes:
        path: str, the folder it comes from.
        name: str, the variant or the task.
        backbone: `ViTBertBackbone`.
        heads: dict of layers: `image` and `text`, an `MLPHead` on the class token of that
            modality, and `mlm`, a `MaskedLMHead`; those that were trained.
        classes: list of str, the names of the classes in order, or None.
        vocabulary: list of str, or None.
        lower_case: bool, of the vocabulary.
        central_crop: float, of images: the fraction of the shorter side that is seen.
        record: dict, the content of the run's config.json; empty where there is none.
        summary: dict, what the run measured; empty where there is none.
        origin: str, who trained the weights, in a sentence; empty for this project.
    """

    path: str
    name: str
    backbone: ViTBertBackbone
    heads: dict
    classes: list | None = None
    vocabulary: list | None = None
    lower_case: bool = True
    central_crop: float = CENTRAL_CROP
    record: dict = dataclasses.field(default_factory=dict)
    summary: dict = dataclasses.field(default_factory=dict)
    origin: str = ""

    def in_dtype(self, dtype):
        """The same in another dtype policy, with updates of LoRA added to the kernels.

        Args:
            dtype: str, such as `bfloat16`, in which the variables are then kept as well.
        """
        backbone = _rebuilt(self.backbone, dtype)
        heads = {name: _rebuilt(head, dtype) for name, head in self.heads.items()}
        return dataclasses.replace(self, backbone=backbone, heads=heads)


def open_trained(path, dtype="float32"):
    """Opens the folder of a run of `pretrain` or `finetune`, or a preset of this project.

    Args:
        path: str.
        dtype: a Keras dtype policy.

    Returns:
        `Trained`.

    Raises:
        UserError: there is none of these, or it is damaged.
    """
    kind = _kind(path)
    if kind == "preset":
        trained = _open_preset(path)
    elif kind == "fine-tuned":
        trained = _open_fine_tuned(path)
    else:
        trained = _open_pretrained(path)
    return trained.in_dtype(dtype) if dtype != "float32" or _has_lora(trained.backbone) else trained


def open_or_import(path):
    """The same as `open_trained`, and of a ViT that others have trained the backbone.

    Args:
        path: str, also what `keras_vitbert.importing.find_source` takes.

    Returns:
        `Trained`.

    Raises:
        UserError: there is no such model, or it is none of these.
    """
    if is_run(path) or is_own_preset(path):
        return open_trained(path)
    from keras_vitbert.importing import import_vit
    from keras_vitbert.importing.vit_backbone import build_backbone

    name = os.path.basename(os.path.normpath(path))
    origin = (
        f"Those of the ViT `{name}`, trained by others: see there for its data and licence. No run "
        "of this project has changed them."
    )
    return Trained(path, name, build_backbone(import_vit(path), path), {}, origin=origin)


def is_own_preset(path):
    """Whether a folder is a preset of this project."""
    return "keras_vitbert>" in (_config(path) or {}).get("registered_name", "")


def is_preset(path):
    """Whether a folder is a preset, of whatever model."""
    content = _config(path)
    return content is not None and "registered_name" in content


def is_run(path):
    """Whether a folder is that of a run of `pretrain` or `finetune`."""
    content = _config(path)
    return content is not None and "config" in content and bool({"variant", "task"} & set(content))


def _kind(path):
    if is_preset(path):
        return "preset"
    if not tf.io.gfile.isdir(path):
        raise UserError(f"{path}: no such folder; give that of a run, or a preset")
    record = RunFolder(path).record()
    if record is None:
        raise UserError(
            f"{path} holds no run of keras_vitbert.pretrain or finetune, and no preset; give the "
            "folder of one"
        )
    return "fine-tuned" if "task" in record else "pre-trained"


def _config(path):
    try:
        with tf.io.gfile.GFile(os.path.join(path, "config.json")) as file:
            content = json.load(file)
    except (tf.errors.OpError, ValueError):
        return None  # what is wrong with it is told by those that need it
    return content if isinstance(content, dict) else None


def _open_pretrained(path):
    network, record = load_network(path)
    folder, backbone = RunFolder(path), network.backbone
    heads, vocabulary, classes = {}, None, None
    if backbone.image_size is not None:
        heads["image"] = network.image_head
        classes = _lines(folder.read("classes.txt"))
    if backbone.vocabulary_size is not None:
        heads["mlm"] = network.mlm_head
        vocabulary = read_vocabulary(os.path.join(path, "vocabulary.txt"))
    return Trained(
        path,
        record["variant"],
        backbone,
        heads,
        classes,
        vocabulary,
        vocabulary is None or not is_cased(vocabulary),
        record["config"]["data"]["images"]["central_crop"],
        record,
        folder.summary() or {},
    )


def _open_fine_tuned(path):
    classifier, record = load_classifier(path, "float32")
    vocabulary = None
    if classifier.kind == "text":
        vocabulary = read_vocabulary(os.path.join(path, "vocabulary.txt"))
    return Trained(
        path,
        record["task"],
        classifier.backbone,
        {"image" if classifier.kind == "images" else "text": classifier.head},
        record["classes"],
        vocabulary,
        vocabulary is None or not is_cased(vocabulary),
        record["config"].get("images", {}).get("central_crop", CENTRAL_CROP),
        record,
        RunFolder(path).summary(),
    )


def _open_preset(path):
    from keras_vitbert import hub

    task = hub.load_task(path)
    backbone = task if isinstance(task, ViTBertBackbone) else task.backbone
    name = os.path.basename(os.path.normpath(path))
    if task is backbone:
        return Trained(path, name, backbone, {})
    preprocessor = task.preprocessor
    if isinstance(task, hub.ViTBertImageClassifier):
        return Trained(
            path,
            name,
            backbone,
            {"image": task.head},
            preprocessor.class_names,
            central_crop=preprocessor.image_converter.central_crop,
        )
    tokenizer = preprocessor.tokenizer
    is_classifier = isinstance(task, hub.ViTBertTextClassifier)
    return Trained(
        path,
        name,
        backbone,
        {"text": task.head} if is_classifier else {"mlm": task.mlm_head},
        preprocessor.class_names if is_classifier else None,
        tokenizer.get_vocabulary(),
        tokenizer.lowercase,
    )


def _lines(text):
    return None if text is None else text.splitlines()


def _has_lora(backbone):
    return any(getattr(layer, "lora_enabled", False) for layer in backbone._flatten_layers())


def _rebuilt(layer, dtype):
    """A layer or model with the same weights in another dtype policy, and without LoRA."""
    new = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if not new.built:
        new.build((None, None, layer.hidden.kernel.shape[0]))
    for ours, theirs in zip(new._flatten_layers(), layer._flatten_layers(), strict=True):
        if getattr(theirs, "lora_enabled", False):
            ours.kernel.assign(keras.ops.convert_to_numpy(theirs.kernel))
            if ours.bias is not None:
                ours.bias.assign(keras.ops.convert_to_numpy(theirs.bias))
            continue
        mine = [*ours._trainable_variables, *ours._non_trainable_variables]
        other = [*theirs._trainable_variables, *theirs._non_trainable_variables]
        for variable, value in zip(mine, other, strict=True):
            variable.assign(keras.ops.cast(value.value, variable.dtype))
    return new
