"""What fine-tuning begins with: a pre-trained network, or random weights of an architecture."""

import dataclasses
import hashlib
import json
import os

import tensorflow as tf

from keras_vitbert import checkpoints
from keras_vitbert.command_line import UserError
from keras_vitbert.fine_tuning.classifier import build_classifier
from keras_vitbert.fine_tuning.transfer import transfer
from keras_vitbert.loading import load_network
from keras_vitbert.run_folder import RunFolder
from keras_vitbert.settings import check_config, load_config
from pipelines.text.vocabularies import read_vocabulary, vocabulary_hash

RANDOM = "rand"  # the row of Table 1 whose weights are fresh
_OWN_WORDS = "vocabulary.txt"


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network to begin with.

    Attributes:
        name: str, the folder, or `rand`.
        architecture: str, of random weights: what `--architecture` was; else empty.
        step: int, of the checkpoint; 0 for random weights.
        sha256: str, of what it holds: of two checkpoints in one folder only one is meant.
        model: dict, the `model` section of the config that it was made with.
        network: `PreTrainingNetwork`, or None for random weights.
        vocabulary: list of str, or None.
    """

    name: str
    architecture: str
    step: int
    sha256: str
    model: dict
    network: object
    vocabulary: list | None

    def classifier(self, kind, num_classes, config):
        """A classifier with this network's weights, as a fine-tuning config wants it.

        Args:
            kind: str, `images` or `text`.
            num_classes: int.
            config: `ConfigDict` of `keras_vitbert.configs.fine_tuning`.

        Returns:
            (`Classifier`, dict of what was transferred, see `keras_vitbert.fine_tuning.transfer`).
        """
        model = self.fine_tuned_model(kind, config)
        classifier = build_classifier(model, kind, num_classes, config.dtype)
        done = {"encoder": "fresh", "embedding": "fresh", "head": "fresh"}
        if self.network is not None:
            done = transfer(self.network, classifier)
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
            has_positions = self.network is not None and self.network.backbone.vocabulary_size
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
        checkpoint: str, the folder of a pre-training run, or `rand`.
        architecture: str, for `rand`: the folder of a run, or a config as `--config` of
            pre-training takes it; `paper` if empty.
        vocabulary: str, a vocabulary file; the run's own if empty.
        kind: str, `images` or `text`, what it is wanted for.

    Returns:
        `Pretrained`.

    Raises:
        UserError: there is no such run, or no vocabulary where one is needed.
    """
    step, network = 0, None
    if checkpoint != RANDOM:
        if architecture:
            raise UserError(
                "--architecture goes with --checkpoint=rand alone: a checkpoint has its own; "
                "leave it out"
            )
        network, record = load_network(checkpoint)
        path, step = checkpoints.latest(RunFolder(checkpoint).checkpoints)
        # The index of a checkpoint holds the checksums of its tensors.
        sha256 = _sha256(record, _bytes_of(os.path.join(path, "state.index")))
        model, own_words = record["config"]["model"], record["vocabulary_sha256"]
        words_file = os.path.join(checkpoint, _OWN_WORDS)
    else:
        architecture = architecture or "paper"
        record = RunFolder(architecture).record()
        model = _architecture(architecture, record)
        sha256 = _sha256(model)
        own_words = record["vocabulary_sha256"] if record else None
        words_file = os.path.join(architecture, _OWN_WORDS)
    words = None
    if kind == "text":
        words = _vocabulary(vocabulary, words_file, own_words, checkpoint)
        knows_words = network is not None and network.backbone.vocabulary_size is not None
        if knows_words and vocabulary_hash(words) != own_words:
            raise UserError(
                f"--vocabulary={vocabulary}: is not the one that {checkpoint} was trained with "
                f"({words_file}); leave it out"
            )
        if not knows_words:
            model = {**model, "vocabulary_size": len(words)}
    return Pretrained(checkpoint, architecture, step, sha256, dict(model), network, words)


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


def _vocabulary(path, words_file, own_words, checkpoint):
    if path:
        return read_vocabulary(path)
    if own_words is None:
        raise UserError(
            f"--checkpoint={checkpoint} has no vocabulary, which a text task needs; give one with "
            "--vocabulary=FILE"
        )
    return read_vocabulary(words_file)
