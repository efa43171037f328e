"""A trained model with all that its use requires: backbone, heads, vocabulary and class names."""

import dataclasses
import functools
import re
from typing import Any

import keras
import numpy as np

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import BertMaskedLMHead

CENTRAL_CROP = 0.875
_SYNSET = r"n\d{8}"
_UNKNOWN_SHARE = 0.05  # of class names that neither list knows


@dataclasses.dataclass(frozen=True)
class TrainedModel:
    """A trained model, and what its use requires.

    Attributes:
        path: str, the folder it comes from.
        name: str, the variant or the task.
        backbone: `ViTBertBackbone`.
        heads: dict of the trained heads, layers of `keras_vitbert.model`: `image` and `text`
            on the class token of that modality, and `mlm` on masked tokens.
        classes: list of str, the class names in order, or None.
        vocabulary: list of str, or None.
        lower_case: bool, of the vocabulary.
        central_crop: float, the fraction of an image's shorter side that is used.
        record: dict, the content of the run's config.json; empty if there is none.
        summary: dict, the results of the run; empty if there are none.
        origin: str, who trained the weights, in a sentence; empty for this project.
        network: the Keras model as it was trained, which takes images as integers in 0 to 255 or
            floats in [0, 1]. It is the `PreTrainingNetwork` of a run of `pretrain`, the
            `Classifier` of one of `finetune` (with separate LoRA updates), or the task or backbone
            of a preset. For an imported model it is a `Classifier` if that classifies texts, else a
            `PreTrainingNetwork`.
        step: int, of the checkpoint; 0 if there is none.
        checkpoint: str, the folder of the checkpoint; empty if there is none.
    """

    path: str
    name: str
    backbone: ViTBertBackbone
    heads: dict[str, Any]
    classes: list[str] | None = None
    vocabulary: list[str] | None = None
    lower_case: bool = True
    central_crop: float = CENTRAL_CROP
    record: dict[str, Any] = dataclasses.field(default_factory=dict)
    summary: dict[str, Any] = dataclasses.field(default_factory=dict)
    origin: str = ""
    network: keras.Model | None = None
    step: int = 0
    checkpoint: str = ""

    @property
    def has_lora(self):
        """Whether kernels of the backbone have separate low-rank updates."""
        layers = self.backbone._flatten_layers()
        return any(getattr(layer, "lora_enabled", False) for layer in layers)

    def in_dtype(self, dtype):
        """The same model in another dtype policy, with the LoRA updates added to the kernels.

        Args:
            dtype: str; `bfloat16` also keeps the variables in it.

        Returns:
            `TrainedModel`.
        """
        backbone = _rebuilt(self.backbone, dtype)
        heads = {}
        for name, head in self.heads.items():
            heads[name] = _rebuilt(head, dtype, backbone.hidden_dim)
            if isinstance(head, BertMaskedLMHead):
                heads[name].tie(backbone.text_embedding.word_embedding)
        return dataclasses.replace(self, backbone=backbone, heads=heads)


def _rebuilt(layer, dtype, hidden_dim=None):
    """A layer or model with the same weights in another dtype policy, and without LoRA."""
    new = type(layer).from_config({**layer.get_config(), "dtype": dtype})
    if not new.built:
        new.build((None, None, hidden_dim))
    for ours, theirs in zip(new._flatten_layers(), layer._flatten_layers(), strict=True):
        store = {}
        theirs.save_own_variables(store)  # adds the LoRA updates to the kernel
        ours.load_own_variables(store)
    return new


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


def _meanings(name):
    """All names of a class, normalised: set of str."""
    if re.fullmatch(_SYNSET, name):
        return {name, _imagenet_names().get(name, name)}
    return {_spelled(synonym) for synonym in name.split(",")}


def _spelled(name):
    return " ".join(re.sub(r"[_-]", " ", name).lower().split())


@functools.cache
def _imagenet_names():
    """WordNet id to name of ImageNet's 1,000 classes."""
    import keras_hub

    best = keras_hub.utils.decode_imagenet_predictions(
        np.eye(1000, dtype=np.float32), top=1, include_synset_ids=True
    )
    return {synset: _spelled(name) for [(synset, name, _)] in best}
