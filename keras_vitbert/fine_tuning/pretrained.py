"""What fine-tuning begins with: a pre-trained backbone, or random weights of an architecture."""

import dataclasses
import hashlib
import json
import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.pretraining import check_config, load_config
from keras_vitbert.importing.sources import FINE_TUNED, RUN
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.transfer import transfer
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from pipelines.command_line import UserError
from pipelines.text.wordpiece import read_vocabulary, vocabulary_hash

RANDOM = "rand"  # the row of Table 1 whose weights are fresh
_OWN_WORDS = "vocabulary.txt"
_NOT_OF_A_MODEL = ("name", "dtype", "trainable")  # what a backbone's config holds besides


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A backbone to begin with.

    Attributes:
        name: str, the folder, or `rand`.
        architecture: str, of random weights: what `--architecture` was; else empty.
        step: int, of the checkpoint; 0 for random weights and presets.
        sha256: str, of what it holds: of two checkpoints in one folder only one is meant.
        model: dict, the `model` section of the config that it was made with.
        backbone: `ViTBertBackbone`, or None for random weights.
        vocabulary: list of str, or None.
    """

    name: str
    architecture: str
    step: int
    sha256: str
    model: dict[str, Any]
    backbone: ViTBertBackbone | None
    vocabulary: list[str] | None

    def classifier(self, kind, num_classes, config):
        """A classifier with these weights, as a fine-tuning config wants it.

        Args:
            kind: str, `images` or `text`.
            num_classes: int.
            config: `ConfigDict` of `keras_vitbert.configs.fine_tuning`.

        Returns:
            (`Classifier`, dict of its parts, `encoder`, `embedding` and `head`, to what
            `keras_vitbert.model.transfer` did).
        """
        model = self.fine_tuned_model(kind, config)
        classifier = build_classifier(model, kind, num_classes, config.dtype)
        done = {"encoder": "fresh", "embedding": "fresh", "head": "fresh"}
        if self.backbone is not None:
            parts = transfer(self.backbone, classifier.backbone)
            modality = "image" if kind == "images" else "text"
            done |= {"encoder": parts["encoder"], "embedding": parts[f"{modality}_embedding"]}
        if config.lora_rank:
            classifier.enable_lora(config.lora_rank)
            # Nothing is known there that could be kept.
            classifier.embedding.trainable = done["embedding"] == "fresh"
        return classifier, done

    def fine_tuned_model(self, kind, config):
        """The `model` section as a fine-tuning config changes it.

        Raises:
            UserError: the patch does not divide the resolution, or there are not as many positions
                as tokens.
        """
        model = {**self.model, "dropout": config.dropout}
        if kind == "images":
            patch = model["patch_size"]
            if config.image_size % patch:
                below = config.image_size // patch * patch
                near = f"{below} or {below + patch}" if below else f"{patch}"
                raise UserError(
                    f"--config.image_size={config.image_size}: must be a multiple of the "
                    f"checkpoint's patch, {patch} pixels; the nearest are {near}"
                )
            model["image_size"] = config.image_size
        else:
            longest = model["max_sequence_length"]
            has_positions = self.backbone is not None and self.backbone.vocabulary_size
            if has_positions and config.max_length > longest:
                raise UserError(
                    f"--config.max_length={config.max_length}: the checkpoint has positions for "
                    f"{longest} tokens; set at most that"
                )
            model["max_sequence_length"] = config.max_length or longest
        return model


def open_pretrained(checkpoint, architecture="", vocabulary="", kind="images"):
    """Opens what the flags name.

    Args:
        checkpoint: str, what `keras_vitbert.load` opens but for a fine-tuned run, or `rand`.
        architecture: str, for `rand`: the folder of a run, or a config as `--config` of
            pre-training takes it; `paper` if empty.
        vocabulary: str, a vocabulary file; the run's own if empty.
        kind: str, `images` or `text`, what it is wanted for.

    Returns:
        `Pretrained`.

    Raises:
        UserError: there is no such run, or no vocabulary where one is needed.
    """
    if checkpoint != RANDOM and architecture:
        raise UserError(
            "--architecture goes with --checkpoint=rand alone: a checkpoint has its own; leave it "
            "out"
        )
    if checkpoint == RANDOM:
        opened, own = _open_random(architecture or "paper")
    else:
        opened, own = _open_trained(checkpoint)
    if kind == "text":
        opened = _with_words(opened, vocabulary, own)
    return opened


@dataclasses.dataclass(frozen=True)
class _OwnWords:
    """The vocabulary that a checkpoint was trained with.

    Attributes:
        sha256: str, or None where there is none.
        where: str, what holds it.
        words: list of str, or None where `where` is a file to read.
    """

    sha256: str | None
    where: str
    words: list[str] | None = None


def _open_trained(path):
    source = find(path)
    if source.kind == FINE_TUNED:
        raise UserError(f"{path} holds no run of keras_vitbert.pretrain; give a run's folder")
    trained = open_source(source)
    words = trained.vocabulary
    if source.kind == RUN:
        model, record = trained.record["config"]["model"], trained.record
        # The index of a checkpoint holds the checksums of its tensors.
        index = _bytes_of(os.path.join(trained.checkpoint, "state.index"))
        sha256, own_sha256 = _sha256(record, index), record["vocabulary_sha256"]
        where = os.path.join(path, _OWN_WORDS)
    else:
        config = trained.backbone.get_config()
        model = {name: value for name, value in config.items() if name not in _NOT_OF_A_MODEL}
        weights = b"".join(np.asarray(w.value).tobytes() for w in trained.backbone.weights)
        sha256, own_sha256 = _sha256(model, weights), vocabulary_hash(words) if words else None
        where = "its tokenizer"
    opened = Pretrained(path, "", trained.step, sha256, model, trained.backbone, None)
    return opened, _OwnWords(own_sha256, where, words)


def _open_random(architecture):
    record = RunFolder(architecture).record()
    model = dict(_architecture(architecture, record))
    opened = Pretrained(RANDOM, architecture, 0, _sha256(model), model, None, None)
    sha256 = record["vocabulary_sha256"] if record else None
    return opened, _OwnWords(sha256, os.path.join(architecture, _OWN_WORDS))


def _with_words(opened, vocabulary, own):
    """Adds a vocabulary: that of the file `vocabulary`, or if it is empty the checkpoint's own."""
    if not vocabulary and own.sha256 is None:
        raise UserError(
            f"--checkpoint={opened.name} has no vocabulary, which a text task needs; give one with "
            "--vocabulary=FILE"
        )
    words = read_vocabulary(vocabulary) if vocabulary else own.words or read_vocabulary(own.where)
    if opened.backbone is None or opened.backbone.vocabulary_size is None:
        model = {**opened.model, "vocabulary_size": len(words)}
        return dataclasses.replace(opened, model=model, vocabulary=words)
    if own.sha256 is not None and vocabulary_hash(words) != own.sha256:
        raise UserError(
            f"--vocabulary={vocabulary}: is not the one that {opened.name} was trained with "
            f"({own.where}); leave it out"
        )
    if len(words) > opened.backbone.vocabulary_size:
        raise UserError(
            f"--vocabulary={vocabulary}: has {len(words)} tokens, {opened.name} knows "
            f"{opened.backbone.vocabulary_size}; give the one that it was trained with"
        )
    return dataclasses.replace(opened, vocabulary=words)


def _architecture(name, record):
    """The `model` section of a run's record, or of a config of pre-training."""
    if record is not None:
        if "variant" not in record:
            raise UserError(
                f"--architecture={name}: holds no run of keras_vitbert.pretrain; give a run's "
                "folder, or a config"
            )
        return record["config"]["model"]
    try:
        config = load_config(name)
        check_config(config)
    except UserError as error:
        text = str(error).removeprefix(f"--config={name}: ")
        raise UserError(f"--architecture={name}: {text}") from error
    return config.model.to_dict()


def _sha256(content, more=b""):
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode() + more).hexdigest()


def _bytes_of(path):
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read()
