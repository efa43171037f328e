"""What fine-tuning starts from: a pre-trained backbone, or random weights of an architecture."""

import dataclasses
import hashlib
import json
from typing import Any

import keras

from keras_vitbert.configs.fine_tuning import FineTuning, ImageTask
from keras_vitbert.configs.loading import CONFIGS, load_config
from keras_vitbert.configs.model import RATES
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import Classifier, build_classifier
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

    def classifier(self, config: FineTuning, num_classes: int) -> tuple[Classifier, dict[str, str]]:
        """A classifier with these weights; by `encoder`, `embedding`, `head`, what was done."""
        kind, model = config.kind, self.fine_tuned_model(config)
        classifier = build_classifier(model, kind, num_classes, config.dtype, config.head)
        done = {"encoder": "fresh", "embedding": "fresh", "head": "fresh"}
        if self.backbone is not None:
            copied = transfer(self.backbone, classifier.backbone)
            modality = "image" if kind == "images" else "text"
            done |= {"encoder": copied["encoder"], "embedding": copied[f"{modality}_embedding"]}
        if config.head == "bert" and self.pooler is not None:
            classifier.head.hidden.set_weights(self.pooler.get_weights())
            done["head"] = "pooler kept, rest fresh"
        if config.lora_rank:
            classifier.enable_lora(config.lora_rank)
            # A fresh embedding has no pre-trained weights to keep.
            classifier.embedding.trainable = done["embedding"] == "fresh"
        return classifier, done

    def fine_tuned_model(self, config: FineTuning) -> dict[str, Any]:
        """The `model` section as a fine-tuning config changes it; refuses what does not fit."""
        model = {**self.model, **{name: getattr(config, name) for name in RATES}}
        if isinstance(config, ImageTask):
            patch = model["patch_size"]
            if config.image_size % patch:
                raise ValueError(
                    f"image_size={config.image_size}: must be a multiple of the checkpoint's patch "
                    f"of {patch} pixels"
                )
            if config.head == "deit" and model.get("prefix_tokens") != 2:
                raise ValueError(f"head=deit: needs DeiT's second token, which {self.name} lacks")
            return {**model, "image_size": config.image_size}
        longest, asked = model["max_sequence_length"], config.value("max_length")
        if self.has_read and asked > longest:
            raise ValueError(
                f"max_length={asked}: the checkpoint has positions for {longest} tokens"
            )
        return {**model, "max_sequence_length": asked or longest}

    def max_length(self, config: FineTuning) -> int:
        """Tokens of a text; 0 for images."""
        if config.kind == "images":
            return 0
        return self.fine_tuned_model(config)["max_sequence_length"]


def open_pretrained(
    checkpoint: str, architecture: str = "", vocabulary: str = "", kind: str = "images"
) -> Pretrained:
    """Opens what `keras_vitbert.load` takes, or `rand`, for a task of `images` or `text`.

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
    if kind == "images":
        size = opened.model["image_size"] or _PATCHES * opened.model["patch_size"]
        model = {**opened.model, "image_size": size}
        return dataclasses.replace(opened, model=model, vocabulary=None)
    return _with_vocabulary(opened, vocabulary)


def _open_trained(path: str) -> Pretrained:
    source = find(path)
    trained = open_source(source)
    if source.kind == RUN:
        model = trained.record["experiment"]["model"]
    else:
        config = trained.backbone.get_config()
        model = {name: value for name, value in config.items() if name not in _NOT_OF_A_MODEL}
    case = trained.record["experiment"]["data"].get("case", AUTO) if trained.record else ""
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
