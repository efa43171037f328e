"""Opens what was trained, wherever it lies: `load`."""

import os

import keras

from keras_vitbert.configs.variants import VARIANTS
from keras_vitbert.hub.image_classifier import ViTBertImageClassifier
from keras_vitbert.hub.presets import load_preset
from keras_vitbert.hub.text_classifier import ViTBertTextClassifier
from keras_vitbert.importing import sources
from keras_vitbert.importing.vit_backbone import import_backbone
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.trained_model import CENTRAL_CROP, TrainedModel
from pipelines.command_line import UserError
from pipelines.tasks.labelled_texts import is_cased
from pipelines.text.wordpiece import read_vocabulary


def load(path, dtype="float32"):
    """Opens a trained model.

    Args:
        path: str: the folder of a run of `pretrain` or `finetune` (of several seeds that with the
            median result) or of a preset, local or `gs://`; or a ViT of another project: a Hugging
            Face folder or `hf://OWNER/NAME`, a keras-hub preset or its name, a `.npz` of Google's.
        dtype: a Keras dtype policy to run it in, such as `mixed_bfloat16`, or `bfloat16` to keep
            the variables in it as well. None for that of its training.

    Returns:
        `TrainedModel`.

    Raises:
        UserError: there is no such model, or it is damaged.

    Example:

    ```python
    trained = keras_vitbert.load("runs/sample-vitbert")
    logits = trained.network({"images": np.zeros((1, 28, 28, 3))})["image_logits"]
    ```
    """
    return open_source(find(path), dtype)


def open_source(source, dtype="float32"):
    """Opens a trained model that was found; see `load`.

    Args:
        source: `keras_vitbert.importing.sources.Source`.
        dtype: a Keras dtype policy, or None.
    """
    if source.kind == sources.EXPORT:
        raise UserError(
            f"{source.label}: is {sources.EXPORT}, which holds no Keras model; give what it was "
            "exported from"
        )
    if source.kind in _OF_RUNS:
        dtype = dtype or source.config["config"].get("dtype", "float32")
        # Variables are read in the dtype that they were written in.
        as_written = keras.DTypePolicy(dtype).variable_dtype == "float32"
        trained = _OF_RUNS[source.kind](source, dtype if as_written else "float32")
    else:
        dtype = dtype or "float32"
        as_written = dtype == "float32"
        trained = _open_preset(source) if source.is_own_preset else _import(source)
    return trained if as_written and not trained.has_lora else trained.in_dtype(dtype)


def _open_run(source, dtype):
    folder, record = RunFolder(source.path), source.config
    folder.check_record(record)
    checkpoint, step = checkpoints.latest(folder.checkpoints)
    variant = VARIANTS.get(record["variant"])
    if checkpoint is None or variant is None:
        raise UserError(
            f"{source.label}: is a run of keras_vitbert.pretrain without a checkpoint; run its "
            "command again"
        )
    network = build_network(
        record["config"]["model"], images=variant.images, text=variant.text, dtype=dtype
    )
    checkpoints.restore_network(checkpoint, network)
    heads, vocabulary, classes = {}, None, None
    if variant.images:
        heads["image"] = network.image_head
        classes = _lines(folder.read("classes.txt"))
    if variant.text:
        heads["mlm"] = network.mlm_head
        vocabulary = read_vocabulary(os.path.join(source.path, "vocabulary.txt"))
    return TrainedModel(
        source.path,
        variant.name,
        network.backbone,
        heads,
        classes,
        vocabulary,
        vocabulary is None or not is_cased(vocabulary),
        record["config"]["data"]["images"]["central_crop"],
        record,
        folder.summary() or {},
        network=network,
        step=step,
        checkpoint=checkpoint,
    )


def _open_fine_tuned(source, dtype):
    folder, record = RunFolder(source.path), source.config
    folder.check_record(record)
    summary, classes = folder.summary(), _lines(folder.read("classes.txt"))
    if summary is None or classes is None:
        raise UserError(
            f"{source.label} holds no finished run of keras_vitbert.finetune; give the folder of "
            "one"
        )
    config = record["config"]
    classifier = build_classifier(record["model"], record["kind"], len(classes), dtype)
    if config["lora_rank"]:
        classifier.enable_lora(config["lora_rank"])
    trial = os.path.join(source.path, summary["model"])
    checkpoint, step = checkpoints.latest(os.path.join(trial, "checkpoints"))
    if checkpoint is None:
        raise UserError(f"{trial}: its checkpoint is gone; fine-tune again")
    checkpoints.restore_network(checkpoint, classifier)
    vocabulary = None
    if classifier.kind == "text":
        vocabulary = read_vocabulary(os.path.join(source.path, "vocabulary.txt"))
    return TrainedModel(
        source.path,
        record["task"],
        classifier.backbone,
        {"image" if classifier.kind == "images" else "text": classifier.head},
        classes,
        vocabulary,
        vocabulary is None or not is_cased(vocabulary),
        config.get("images", {}).get("central_crop", CENTRAL_CROP),
        record,
        summary,
        network=classifier,
        step=step,
        checkpoint=checkpoint,
    )


_OF_RUNS = {sources.RUN: _open_run, sources.FINE_TUNED: _open_fine_tuned}


def _open_preset(source):
    task = load_preset(source.path)
    name = os.path.basename(os.path.normpath(source.path))
    if isinstance(task, ViTBertBackbone):
        return TrainedModel(source.path, name, task, {}, network=task)
    backbone, preprocessor = task.backbone, task.preprocessor
    if isinstance(task, ViTBertImageClassifier):
        return TrainedModel(
            source.path,
            name,
            backbone,
            {"image": task.head},
            preprocessor.class_names,
            central_crop=preprocessor.image_converter.central_crop,
            network=task,
        )
    tokenizer = preprocessor.tokenizer
    is_classifier = isinstance(task, ViTBertTextClassifier)
    return TrainedModel(
        source.path,
        name,
        backbone,
        {"text": task.head} if is_classifier else {"mlm": task.mlm_head},
        preprocessor.class_names if is_classifier else None,
        tokenizer.get_vocabulary(),
        tokenizer.lowercase,
        network=task,
    )


def _import(source):
    name = os.path.basename(os.path.normpath(source.label))
    origin = (
        f"Those of the ViT `{name}`, trained by others: see there for its data and licence. No run "
        "of this project has changed them."
    )
    backbone = import_backbone(source)
    return TrainedModel(source.label, name, backbone, {}, origin=origin, network=backbone)


def _lines(text):
    return None if text is None else text.splitlines()
