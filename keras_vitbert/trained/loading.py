"""Opens a trained model of any kind: `load`."""

import os
from typing import Any

import keras

from keras_vitbert.configs.devices import Devices
from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, classes_file
from keras_vitbert.configs.sections import flatten
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import (
    Classifier,
    JointClassifier,
    build_classifier,
    classifiers_of,
)
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.identity import config_of
from keras_vitbert.runs.provenance import names_digest
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained import finding, google_and_keras_hub, hub, hugging_face
from keras_vitbert.trained.trained_model import CENTRAL_CROP, TrainedModel
from pipelines.command_line import one_line, say
from pipelines.digests import check_sums
from pipelines.text.casing import is_lower
from pipelines.text.wordpiece import read_vocabulary


def load(path: str, dtype: str | None = "float32") -> TrainedModel:
    """Opens a trained model.

    Args:
        path: the folder of a run of `pretrain` or `finetune` (of several seeds the one with the
            median result) or of a preset, local or `gs://`; or a BERT or ViT of another project: a
            Hugging Face folder or `hf://OWNER/NAME`, a keras-hub preset or its name, a checkpoint
            of Google's BERT, a `.npz` of Google's ViT.
        dtype: a Keras dtype policy to run it in, such as `mixed_bfloat16`, or `bfloat16` to keep
            the variables in it as well. None for the policy of its training.

    Raises:
        ValueError: there is no such model, or it is damaged.

    Example:

    ```python
    trained = keras_vitbert.load("runs/sample-vitbert")
    logits = trained.network({"images": np.zeros((1, 28, 28, 3))})["image_logits"]
    ```
    """
    return open_source(finding.find(path), dtype)


def open_source(source: finding.Source, dtype: str | None = "float32") -> TrainedModel:
    """Opens a trained model that was found; see `load`."""
    if source.kind == finding.EXPORT:
        raise ValueError(f"{source.label}: is {finding.EXPORT}, which holds no Keras model")
    if source.kind in (finding.RUN, finding.FINE_TUNED):
        dtype = dtype or Devices().dtype(source.config["experiment"]["dtype"])
        # Variables are read in the dtype that they were written in.
        as_written = keras.DTypePolicy(dtype).variable_dtype == "float32"
        trained = _open_run(source, dtype if as_written else "float32")
    elif source.is_own_preset:
        trained, as_written = _open_preset(source), dtype in (None, "float32")
    else:
        return _import(source, dtype or "float32")
    return trained if as_written and not trained.has_lora else trained.in_dtype(dtype or "float32")


def _open_run(source: finding.Source, dtype: str) -> TrainedModel:
    """The model of a run of either command, from its latest checkpoint."""
    folder, record = RunFolder(source.path), source.config
    config, summary, central_crop = config_of(record), folder.summary() or {}, CENTRAL_CROP
    names = {name: _names(folder, name) for name in ("classes", "text_classes")}
    if source.kind == finding.RUN:
        check_sums(folder.path)  # if the run is a shared one
        place, variant = folder.checkpoints, config.variant_spec
        sizes, name = config.model.to_dict(), variant.name
        network = build_network(sizes, images=variant.images, text=variant.text, dtype=dtype)
        heads = {"image": network.image_head, "mlm": network.mlm_head}
        central_crop = config.data.images.central_crop
    elif summary and names["classes"] is not None:
        place, name = os.path.join(folder.path, summary["model"], "checkpoints"), config.task_names
        network = _fine_tuned(config, record["model"], names, dtype)
        heads = {name: classifier.head for name, classifier in classifiers_of(network).items()}
        for settings in config.tasks.values():
            if isinstance(settings, ImageSettings):
                central_crop = settings.images.central_crop
    else:
        raise ValueError(f"{folder.path}: holds no finished run of keras_vitbert.finetune")
    checkpoint, step = checkpoints.latest(place)
    if checkpoint is None:
        raise ValueError(f"{place}: holds no checkpoint; run its command again")
    checkpoints.restore_network(checkpoint, network)
    heads = {name: head for name, head in heads.items() if head is not None}
    vocabulary, lower_case = None, True
    if {"mlm", "text"} & heads.keys():
        vocabulary = vocabulary_of(folder.path, record)
        settings = flatten(record["experiment"])
        case = settings.get("data.case") or settings["text.data.case"]
        lower_case = is_lower(case, vocabulary)
    for name_of_file, classes in names.items():
        known = record["inputs"].get(name_of_file)
        if known and names_digest(classes or []) != known:
            raise ValueError(
                f"{folder.path}/{name_of_file}.txt: does not name the classes that the run was "
                "trained with"
            )
    if summary.get("steps", step) != step:
        say(f"{checkpoint}: is an older checkpoint, the run ended at step {summary['steps']}")
    return TrainedModel(
        *(folder.path, name, network.backbone, heads, names["classes"], vocabulary, lower_case),
        *(central_crop, record, summary),
        network=network,
        step=step,
        checkpoint=checkpoint,
        text_classes=names["text_classes"],
    )


def _fine_tuned(
    config: FineTuning, model: dict[str, Any], names: dict[str, Any], dtype: str
) -> Classifier | JointClassifier:
    """The network of a fine-tuning, by the names of its classes."""
    counts, heads = {}, {}
    for section, settings in config.tasks.items():
        counts[settings.modality] = len(names[classes_file(section)])
        heads[settings.modality] = settings.head
    network = build_classifier(model, counts, heads, dtype)
    if config.lora_rank:
        network.enable_lora(config.lora_rank)
    return network


def vocabulary_of(path: str, record: dict[str, Any]) -> list[str]:
    """The vocabulary of the run in a folder, which must be that of its record."""
    path = os.path.join(path, "vocabulary.txt")
    vocabulary = read_vocabulary(path)
    if names_digest(vocabulary) != record["inputs"]["vocabulary"]:
        raise ValueError(f"{path}: is not the vocabulary that the run was trained with")
    return vocabulary


def _names(folder: RunFolder, name: str) -> list[str] | None:
    text = folder.read(f"{name}.txt")
    return None if text is None else text.splitlines()


def _open_preset(source: finding.Source) -> TrainedModel:
    task = hub.load_preset(source.path)
    name = os.path.basename(os.path.normpath(source.path))
    if isinstance(task, ViTBertBackbone):
        return TrainedModel(source.path, name, task, {}, network=task)
    preprocessor: Any = task.preprocessor
    classes = getattr(preprocessor, "class_names", None)
    about: dict[str, Any] = {"network": task, "classes": classes}
    if isinstance(task, hub.ViTBertImageClassifier):
        heads = {"image": task.head}
        about["central_crop"] = preprocessor.image_converter.central_crop
    else:
        is_classifier = isinstance(task, hub.ViTBertTextClassifier)
        heads = {"text": task.head} if is_classifier else {"mlm": task.mlm_head}
        tokenizer = preprocessor.tokenizer
        about |= {"vocabulary": tokenizer.get_vocabulary(), "lower_case": tokenizer.lowercase}
    return TrainedModel(source.path, name, task.backbone, heads, **about)


_READERS = {
    finding.HUGGING_FACE: hugging_face.read,
    finding.PRESET: google_and_keras_hub.read_keras_hub,
    finding.GOOGLE_BERT: google_and_keras_hub.read_google_bert,
    finding.GOOGLE_VIT: google_and_keras_hub.read_google_vit,
}


def _import(source: finding.Source, dtype: str) -> TrainedModel:
    """The `TrainedModel` of a BERT or ViT of another project."""
    try:
        return _READERS[source.kind](source).open(source, dtype)
    # Where a file is damaged or has another content, libraries raise many kinds of errors.
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(
            f"{source.label}: cannot be read as {source.kind}: {kind}{one_line(error)[:400]}"
        ) from error
