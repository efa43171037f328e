"""What fine-tuning starts from: a pre-trained backbone, or random weights of an architecture."""

import dataclasses
import hashlib
import json
import os
from typing import Any

import keras

from keras_vitbert.configs.loading import CONFIGS, load_config
from keras_vitbert.configs.model import RATES
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.transfer import transfer
from keras_vitbert.runs.provenance import model_digest, origin_of
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.finding import FINE_TUNED, RUN, find, own_models
from keras_vitbert.trained.loading import open_source, vocabulary_of
from pipelines.text.casing import AUTO, case_name
from pipelines.text.wordpiece import read_vocabulary

RANDOM = "rand"  # the row of Table 1 with random weights
_NOT_OF_A_MODEL = ("name", "dtype", "trainable")  # keys of a backbone's config, not of `model`
_PATCHES = 14  # along a side of an image, as in the paper, for a checkpoint that had no images


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone to start from.

    Attributes:
        name: str, the folder, or `rand`.
        architecture: str, of random weights; else empty.
        step: int, of the checkpoint; 0 for random weights and presets.
        sha256: str, of the content; the folder may hold another checkpoint later.
        model: dict, the `model` section of the config that it was made with. For images it has an
            `image_size`, even if the checkpoint is of texts alone.
        backbone: `ViTBertBackbone`, or None for random weights.
        vocabulary: list of str, or None.
        case: str, the case of its texts, see `pipelines.text.casing`; None if it is not recorded.
        pooler: `keras.layers.Dense` of a BERT, which initialises a head of that kind; or None.
        origin: dict, of `keras_vitbert.runs.provenance.origin_of`; empty for random weights.
    """

    name: str
    architecture: str
    step: int
    sha256: str
    model: dict[str, Any]
    backbone: ViTBertBackbone | None
    vocabulary: list[str] | None
    case: str | None = None
    pooler: keras.layers.Layer | None = None
    origin: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def has_read(self):
        """Whether the weights were trained on text."""
        return self.backbone is not None and self.backbone.vocabulary_size is not None

    def classifier(self, kind, num_classes, config):
        """Builds a classifier with these weights.

        Args:
            kind: str, `images` or `text`.
            num_classes: int.
            config: `FineTuning`.

        Returns:
            (`Classifier`, dict of its parts, `encoder`, `embedding` and `head`, to what
            `keras_vitbert.model.transfer` did).
        """
        model = self.fine_tuned_model(kind, config)
        classifier = build_classifier(model, kind, num_classes, config.dtype, config.head)
        done = {"encoder": "fresh", "embedding": "fresh", "head": "fresh"}
        if self.backbone is not None:
            parts = transfer(self.backbone, classifier.backbone)
            modality = "image" if kind == "images" else "text"
            done |= {"encoder": parts["encoder"], "embedding": parts[f"{modality}_embedding"]}
        if config.head == "bert" and self.pooler is not None:
            classifier.head.hidden.set_weights(self.pooler.get_weights())
            done["head"] = "pooler kept, rest fresh"
        if config.lora_rank:
            classifier.enable_lora(config.lora_rank)
            # A fresh embedding has no pre-trained weights to keep.
            classifier.embedding.trainable = done["embedding"] == "fresh"
        return classifier, done

    def fine_tuned_model(self, kind, config):
        """The `model` section as a fine-tuning config changes it.

        Args:
            kind: str, `images` or `text`.
            config: `FineTuning`.

        Returns:
            dict.

        Raises:
            ValueError: the patch does not divide the resolution, the head needs a token that the
                checkpoint lacks, or there are fewer positions than tokens.
        """
        model = {**self.model, **{name: getattr(config, name) for name in RATES}}
        if kind == "images":
            patch = model["patch_size"]
            if config.image_size % patch:
                below = config.image_size // patch * patch
                near = f"{below} or {below + patch}" if below else f"{patch}"
                raise ValueError(
                    f"image_size={config.image_size}: must be a multiple of the "
                    f"checkpoint's patch, {patch} pixels; the nearest are {near}"
                )
            model["image_size"] = config.image_size
            if config.head == "deit" and model.get("prefix_tokens") != 2:
                raise ValueError(
                    f"head=deit: needs DeiT's second token, which {self.name} lacks; give vit"
                )
        else:
            longest = model["max_sequence_length"]
            if self.has_read and config.max_length > longest:
                raise ValueError(
                    f"max_length={config.max_length}: the checkpoint has positions for "
                    f"{longest} tokens; set at most that"
                )
            model["max_sequence_length"] = config.max_length or longest
        return model

    def max_length(self, config):
        """Tokens of a text, for a `FineTuning`; 0 for images."""
        if config.kind == "images":
            return 0
        return self.fine_tuned_model("text", config)["max_sequence_length"]


def open_pretrained(checkpoint, architecture="", vocabulary="", kind="images"):
    """Opens what the flags name.

    Args:
        checkpoint: str, what `keras_vitbert.load` takes, or `rand`.
        architecture: str, for `rand`: anything that `checkpoint` may be except a fine-tuned run,
            used for its architecture only, or a config of pre-training; `paper` if empty.
        vocabulary: str, a vocabulary file; the checkpoint's own if empty.
        kind: str, `images` or `text`, of the task.

    Returns:
        `Pretrained`; without a vocabulary for images.

    Raises:
        ValueError: there is no such run, or no vocabulary for text.
    """
    if checkpoint != RANDOM and architecture:
        raise ValueError(
            f"architecture={architecture}: is for random weights; {checkpoint} has its own"
        )
    if checkpoint == RANDOM:
        opened = _open_random(architecture or "paper", kind == "text" and not vocabulary)
    else:
        opened = _open_trained(find(checkpoint))
    if kind == "images":
        size = opened.model["image_size"] or _PATCHES * opened.model["patch_size"]
        model = {**opened.model, "image_size": size}
        return dataclasses.replace(opened, model=model, vocabulary=None)
    return _with_vocabulary(opened, vocabulary)


def _open_trained(source):
    trained = open_source(source)
    if source.kind == RUN:
        model = trained.record["experiment"]["model"]
    else:
        config = trained.backbone.get_config()
        model = {name: value for name, value in config.items() if name not in _NOT_OF_A_MODEL}
    case = None
    if trained.vocabulary and not (trained.record and _case(trained.record) is None):
        case = case_name(trained.lower_case)
    rest = model, trained.backbone, trained.vocabulary, case, _pooler(trained.network)
    sha256 = model_digest(trained.network)
    return Pretrained(source.label, "", trained.step, sha256, *rest, origin_of(trained))


def _pooler(network):
    """The pooler of a BERT, or None."""
    for name in ("nsp_head", "head"):
        head = getattr(network, name, None)
        if getattr(head, "activation", None) == "tanh":
            return head.hidden
    return getattr(network, "pooler", None)


def _case(record):
    """The case of texts in a run's record, or None if it has none."""
    case = record["experiment"]["data"].get("case", AUTO)
    return None if case == AUTO else case


def _open_random(architecture, needs_vocabulary):
    is_config = architecture.partition(":")[0] in CONFIGS  # also beside a folder of that name
    is_model = "://" in architecture or os.path.isdir(architecture) or architecture in own_models()
    source = find(architecture) if is_model and not is_config else None
    if source is not None and source.kind not in (RUN, FINE_TUNED):
        like = _open_trained(source)
        tokens, case = (like.vocabulary, like.case) if needs_vocabulary else (None, None)
        sha256 = _sha256(like.model)
        return Pretrained(RANDOM, architecture, 0, sha256, like.model, None, tokens, case)
    record = RunFolder(source.path).record() if source else None
    model = dict(_architecture(architecture, record))
    tokens = case = None
    if needs_vocabulary and record and "vocabulary" in record["inputs"]:
        tokens, case = vocabulary_of(source.path, record), _case(record)
    return Pretrained(RANDOM, architecture, 0, _sha256(model), model, None, tokens, case)


def _with_vocabulary(opened, path):
    """Sets the vocabulary: that of the file `path`, or if it is empty the checkpoint's own."""
    tokens = read_vocabulary(path) if path else opened.vocabulary
    if tokens is None:
        raise ValueError(
            f"{opened.name}: has no vocabulary, which a text task needs; give a file of one"
        )
    if not opened.has_read:
        model = {**opened.model, "vocabulary_size": len(tokens)}
        return dataclasses.replace(opened, model=model, vocabulary=tokens)
    if opened.vocabulary not in (None, tokens):
        raise ValueError(
            f"{path}: is not the one that {opened.name} was trained with; leave it out"
        )
    if len(tokens) > opened.backbone.vocabulary_size:
        raise ValueError(
            f"{path}: has {len(tokens)} tokens, {opened.name} only "
            f"{opened.backbone.vocabulary_size}; give the one that it was trained with"
        )
    return dataclasses.replace(opened, vocabulary=tokens)


def _architecture(name, record):
    """The `model` section of a run's record, or of a config of pre-training."""
    if record is not None:
        if "variant" not in record["experiment"]:
            raise ValueError(
                f"{name}: holds no run of keras_vitbert.pretrain; give a run's folder, or a config"
            )
        return record["experiment"]["model"]
    return load_config(name).with_sizes().model.to_dict()


def _sha256(content):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
