"""What fine-tuning starts from: a pre-trained backbone, or random weights of an architecture."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, TaskSettings, dotted
from keras_vitbert.configs.loading import CONFIGS, load_config
from keras_vitbert.configs.model import RATES
from keras_vitbert.configs.sections import flatten
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import (
    Classifier,
    JointClassifier,
    build_classifier,
    classifiers_of,
)
from keras_vitbert.model.transfer import transfer
from keras_vitbert.runs.provenance import model_digest
from keras_vitbert.trained.finding import RUN, find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.trained.trained_model import origin_of
from pipelines.text.casing import AUTO, case_name
from pipelines.text.wordpiece import read_vocabulary

RANDOM = "rand"  # the row of Table 1 with random weights
_NOT_OF_A_MODEL = ("name", "dtype", "trainable")  # keys of a backbone's config, not of `model`
_PATCHES = 14  # along a side of an image, as in the paper, for a checkpoint that had no images


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone to start from."""

    name: str  # the folder, or `rand`
    architecture: str  # of random weights; else empty
    step: int  # of the checkpoint; 0 for random weights and presets
    sha256: str  # of the content; the folder may hold another checkpoint later
    # The `model` section of the config that it was made with; for images, it has an `image_size`.
    model: dict[str, Any]
    backbone: ViTBertBackbone | None  # None for random weights
    vocabulary: list[str] | None
    case: str | None = None  # of its texts, see `pipelines.text.casing`; None if not recorded
    pooler: keras.layers.Layer | None = None  # a BERT's, which initialises a head of that kind
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)  # of `origin_of`

    @property
    def has_read(self) -> bool:
        """Whether the weights were trained on text."""
        return self.backbone is not None and self.backbone.vocabulary_size is not None

    def classifier(
        self, config: FineTuning, num_classes: Sequence[int]
    ) -> tuple[Classifier | JointClassifier, dict[str, str]]:
        """A classifier of the config's tasks with these weights.

        Also returns what was done, by `encoder`, and by task `embedding` and `head`.
        """
        tasks = {settings.modality: settings for settings in config.tasks.values()}
        counts = dict(zip(tasks, num_classes, strict=True))
        heads = {name: settings.head for name, settings in tasks.items()}
        network = build_classifier(self.fine_tuned_model(config), counts, heads, config.dtype)
        done, copied = {"encoder": "fresh"}, {}
        if self.backbone is not None:
            copied = transfer(self.backbone, network.backbone)
            done["encoder"] = copied["encoder"]
        if config.lora_rank:
            network.enable_lora(config.lora_rank)
        classifiers = classifiers_of(network)
        for section, settings in config.tasks.items():
            classifier = classifiers[settings.modality]
            embedding = copied.get(f"{settings.modality}_embedding", "fresh")
            head = "fresh"
            if settings.head == "bert" and self.pooler is not None:
                classifier.head.hidden.set_weights(self.pooler.get_weights())
                head = "pooler kept, rest fresh"
            done |= {dotted(section, "embedding"): embedding, dotted(section, "head"): head}
            if config.lora_rank:
                # A fresh embedding has no pre-trained weights to keep.
                classifier.embedding.trainable = embedding == "fresh"
        return network, done

    def fine_tuned_model(self, config: FineTuning) -> dict[str, Any]:
        """The `model` section as a fine-tuning config changes it; refuses what does not fit."""
        model = {**self.model, **{name: getattr(config, name) for name in RATES}}
        for settings in config.tasks.values():
            if isinstance(settings, ImageSettings):
                size, patch = settings.image_size, model["patch_size"]
                if size % patch:
                    raise ValueError(
                        f"image_size={size}: must be a multiple of the checkpoint's patch of "
                        f"{patch} pixels"
                    )
                if settings.head == "deit" and model.get("prefix_tokens") != 2:
                    raise ValueError(
                        f"head=deit: needs DeiT's second token, which {self.name} lacks"
                    )
                model["image_size"] = size
            else:
                model["max_sequence_length"] = self.max_length(settings)
        return model

    def max_length(self, settings: TaskSettings) -> int:
        """Tokens of a text; 0 for images."""
        if settings.kind == "images":
            return 0
        longest, asked = self.model["max_sequence_length"], settings.value("max_length")
        if self.has_read and asked > longest:
            raise ValueError(
                f"max_length={asked}: the checkpoint has positions for {longest} tokens"
            )
        return asked or longest


def open_pretrained(
    checkpoint: str,
    architecture: str = "",
    vocabulary: str = "",
    modalities: Sequence[str] = ("image",),
) -> Pretrained:
    """Opens what `keras_vitbert.load` takes, or `rand`, for tasks on `image`, `text` or both.

    The architecture of `rand` is that of another checkpoint, or of a config of pre-training;
    `paper` if empty. `vocabulary` is a file; the checkpoint's own if empty.
    """
    if checkpoint == RANDOM:
        opened = _open_random(architecture or "paper")
        if vocabulary:
            opened = dataclasses.replace(opened, vocabulary=None, case=None)
    elif architecture:
        raise ValueError(
            f"architecture={architecture}: is for random weights; {checkpoint} has its own"
        )
    else:
        opened = _open_trained(checkpoint)
    if "image" in modalities:
        size = opened.model["image_size"] or _PATCHES * opened.model["patch_size"]
        opened = dataclasses.replace(opened, model={**opened.model, "image_size": size})
    if "text" in modalities:
        return _with_vocabulary(opened, vocabulary)
    return dataclasses.replace(opened, vocabulary=None)


def _open_trained(path: str) -> Pretrained:
    source = find(path)
    trained = open_source(source)
    if source.kind == RUN:
        model = trained.record["experiment"]["model"]
    else:
        config = trained.backbone.get_config()
        model = {name: value for name, value in config.items() if name not in _NOT_OF_A_MODEL}
    settings = flatten(trained.record["experiment"]) if trained.record else {"data.case": ""}
    case = settings.get("data.case", settings.get("text.data.case", AUTO))
    return Pretrained(
        name=source.label,
        architecture="",
        step=trained.step,
        sha256=model_digest(trained.network),
        model=model,
        backbone=trained.backbone,
        vocabulary=trained.vocabulary,
        case=case_name(trained.lower_case) if trained.vocabulary and case != AUTO else None,
        pooler=_pooler(trained.network),
        origin=origin_of(trained),
    )


def _pooler(network: Any) -> keras.layers.Layer | None:
    """The pooler of a BERT, or None."""
    for name in ("nsp_head", "head"):
        head: Any = getattr(network, name, None)
        if getattr(head, "activation", None) == "tanh":
            return head.hidden
    return getattr(network, "pooler", None)


def _open_random(architecture: str) -> Pretrained:
    name, tokens, case = architecture.partition(":")[0], None, None
    if name in CONFIGS or name.endswith(".py"):  # also beside a folder of that name
        model = load_config(architecture).with_sizes().model.to_dict()
    else:
        like = _open_trained(architecture)
        model, tokens, case = like.model, like.vocabulary, like.case
    sha256 = hashlib.sha256(json.dumps(model, sort_keys=True).encode()).hexdigest()
    return Pretrained(RANDOM, architecture, 0, sha256, model, None, tokens, case)


def _with_vocabulary(opened: Pretrained, path: str) -> Pretrained:
    """Sets the vocabulary: that of the file `path`, or if it is empty the checkpoint's own."""
    tokens = read_vocabulary(path) if path else opened.vocabulary
    if tokens is None:
        raise ValueError(
            f"{opened.name}: has no vocabulary, which a text task needs; give a file of one"
        )
    backbone = opened.backbone
    if backbone is None or backbone.vocabulary_size is None:
        model = {**opened.model, "vocabulary_size": len(tokens)}
        return dataclasses.replace(opened, model=model, vocabulary=tokens)
    too_many = len(tokens) > backbone.vocabulary_size
    if opened.vocabulary not in (None, tokens) or too_many:
        raise ValueError(f"{path}: is not the vocabulary that {opened.name} was trained with")
    return dataclasses.replace(opened, vocabulary=tokens)
