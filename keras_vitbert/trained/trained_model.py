"""A trained model with all that its use requires: backbone, heads, vocabulary and class names."""

import dataclasses
import functools
import os
import re
from typing import Any

import keras
import numpy as np

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import BertMaskedLMHead
from keras_vitbert.runs.provenance import run_provenance, weights_sha256
from keras_vitbert.trained.finding import read_json

CENTRAL_CROP = 0.875
ORIGIN_FILE = "origin.json"  # of presets and exports: what `origin_of` returns
_SYNSET = r"n\d{8}"
_UNKNOWN_SHARE = 0.05  # of class names that neither list knows


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model, and what its use requires; see `keras_vitbert.load`.

    The `network` is the Keras model as it was trained. It takes images as integers in 0 to 255 or
    floats in [0, 1]. It is the `PreTrainingNetwork` of a run of `pretrain`, the `Classifier` or
    `JointClassifier` of one of `finetune` (with separate LoRA updates), or the task or backbone of
    a preset. For an imported
    model it is a `Classifier` if that classifies texts, else a `PreTrainingNetwork`.
    """

    path: str  # the folder it comes from
    name: str  # the variant or the task
    backbone: ViTBertBackbone
    # `image` and `text` on the class token of that modality, `mlm` on masked tokens: layers of
    # `keras_vitbert.model.heads`
    heads: dict[str, Any]
    # The names of classes in order; of two tasks, those of images, see `classes_of`
    classes: list[str] | None = None
    vocabulary: list[str] | None = None
    lower_case: bool = True  # of the vocabulary
    central_crop: float = CENTRAL_CROP  # the fraction of an image's shorter side that is used
    record: dict[str, Any] = dataclasses.field(default_factory=dict)  # a run's config.json
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)  # its results
    origin: str = ""  # who trained the weights, in a sentence; empty for this project
    network: Any = None
    step: int = 0  # of the checkpoint
    checkpoint: str = ""  # its folder
    text_classes: list[str] | None = None  # where both images and texts are classified

    def classes_of(self, head: str) -> list[str] | None:
        """The names of the classes of a head, `image` or `text`, in order, if they are known."""
        return self.text_classes if head == "text" and "image" in self.heads else self.classes

    @property
    def has_lora(self) -> bool:
        """Whether kernels of the backbone have separate low-rank updates."""
        layers = self.backbone._flatten_layers()
        return any(getattr(layer, "lora_enabled", False) for layer in layers)

    def in_dtype(self, dtype: str) -> "TrainedModel":
        """The same model in another dtype policy, with the LoRA updates added to the kernels.

        `bfloat16` also keeps the variables in it.
        """
        backbone = _rebuild(self.backbone, dtype)
        heads = {}
        for name, head in self.heads.items():
            heads[name] = _rebuild(head, dtype, backbone.hidden_dim)
            if isinstance(head, BertMaskedLMHead):
                heads[name].tie(backbone.text_embedding.word_embedding)
        return dataclasses.replace(self, backbone=backbone, heads=heads)


def _rebuild(layer: keras.layers.Layer, dtype: str, hidden_dim: int | None = None) -> Any:
    """A layer or model with the same weights in another dtype policy, and without LoRA."""
    new = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if not new.built:
        new.build((None, None, hidden_dim))
    for ours, theirs in zip(new._flatten_layers(), layer._flatten_layers(), strict=True):
        store = {}
        theirs.save_own_variables(store)  # adds the LoRA updates to the kernel
        ours.load_own_variables(store)
    return new


def origin_of(trained: TrainedModel) -> dict[str, Any]:
    """A model's provenance, for files derived from it.

    JSON-serialisable: `name`, `step`, `weights_sha256` of its backbone, and `made_of`: for a run,
    what `run_provenance` returns; for a preset, its own `origin.json`.
    """
    file, earlier = os.path.join(trained.path, ORIGIN_FILE), None
    if trained.record:
        earlier = run_provenance(trained.record, trained.summary)
    elif os.path.isfile(file):
        earlier = read_json(file)
    return {
        "name": trained.name,
        "step": trained.step,
        "weights_sha256": weights_sha256(trained.backbone),
        "made_of": earlier or {},
    }


def first_difference(ours: list[str], theirs: list[str]) -> int | None:
    """The first index at which two lists of class names differ; None if they name the same classes.

    Case, underscores and hyphens do not count. A name may be a comma-separated list of synonyms:
    one in common is enough. A WordNet id, such as n01440764, stands for ImageNet's name of its
    class. Other lists use other names for some classes, so a few names that belong to none of the
    ids do not count as a difference.
    """
    known = set().union(*map(_meanings, ours))
    unknown = []
    for index, (our, their) in enumerate(zip(ours, theirs, strict=True)):
        meanings = _meanings(their)
        if _meanings(our) & meanings:
            continue
        if not re.fullmatch(_SYNSET, our) or meanings & known:
            return index
        unknown.append(index)
    return unknown[0] if len(unknown) > _UNKNOWN_SHARE * len(ours) else None


def _meanings(name: str) -> set[str]:
    """All names of a class, normalised."""
    if re.fullmatch(_SYNSET, name):
        return {name, _imagenet_names().get(name, name)}
    return {_normalise(synonym) for synonym in name.split(",")}


def _normalise(name: str) -> str:
    return " ".join(re.sub(r"[_-]", " ", name).lower().split())


@functools.cache
def _imagenet_names() -> dict[str, str]:
    """WordNet id to name of ImageNet's 1,000 classes."""
    import keras_hub

    best = keras_hub.utils.decode_imagenet_predictions(
        np.eye(1000, dtype=np.float32), top=1, include_synset_ids=True
    )
    return {synset: _normalise(name) for [(synset, name, _)] in best}
