"""Opens the data that a config names and checks them against the model."""

import dataclasses
import os

import tensorflow as tf

from keras_vitbert.configs import sample as sample_config
from keras_vitbert.configs.model import PAPER_SIZES
from keras_vitbert.configs.pretraining import Pretraining
from pipelines.command_line import one_line, say
from pipelines.images.image_records import ImageStream
from pipelines.images.image_views import ImageViews
from pipelines.joint_stream import JointStream
from pipelines.prepare import sample
from pipelines.shards.records import RecordFiles, check_limit, left_out, open_without_damaged
from pipelines.text.casing import case_of, recorded_case
from pipelines.text.wordpiece import MASKED_RATIO, read_vocabulary
from pipelines.text_stream import TextStream

_DAMAGE_SHOWN = 20  # lines
_SAMPLE_CLASSES = list("0123456789")


@dataclasses.dataclass(frozen=True)
class Data:
    """Sources of the modalities, from which a variant takes what it needs; None if not opened.

    Attributes:
        images, image_validation: `ImageStream`.
        texts, text_validation: `TextStream`.
        vocabulary: list of str.
        case: str, whether texts are lower-cased, see `pipelines.text.casing`; None without texts.
        classes: list of str, the names of the image classes in order; None if unknown.
        sizes: dict of `num_classes`, `vocabulary_size` and `max_sequence_length` to the values in
            the data, for open data only; see `Pretraining.with_sizes`.
    """

    images: ImageStream | None = None
    image_validation: ImageStream | None = None
    texts: TextStream | None = None
    text_validation: TextStream | None = None
    vocabulary: list[str] | None = None
    case: str | None = None
    classes: list[str] | None = None
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def stream(self, config: Pretraining) -> JointStream:
        """The batches of a run, of its variant's modalities."""
        images, text = config.parts.images, config.parts.text
        return JointStream(
            images=self.images if images else None,
            image_validation=self.image_validation if images else None,
            texts=self.texts if text else None,
            text_validation=self.text_validation if text else None,
            image_batch=config.image_batch,
            text_batch=config.text_batch,
            seed=config.seed,
            packed_parts=config.accumulation if config.data.packing else 0,
        )


def open_data(config, cache_dir="", skip_damaged=0):
    """Opens training and validation data.

    Args:
        config: `Pretraining`; with `data.source` "sample", the sample data are prepared on demand.
            Only the modalities of its variant are opened.
        cache_dir: str, where prepared sample data are kept; see `pipelines.prepare.sample`.
        skip_damaged: int, how many damaged records of all files may be skipped. Above 0, all
            records are checked first.

    Returns:
        `Data`.

    Raises:
        ValueError: something is missing, is damaged or does not fit the model.
    """
    data, model = config.data, config.model
    if data.source == "sample":
        data = _sample(config, cache_dir)

    def opened(key, pattern, open_source):
        """A source, without its damaged records if some may be skipped."""
        if not pattern:
            raise ValueError(f"{key} is empty; give a pattern of files, see docs/data.md")
        if not skip_damaged:
            return open_source(RecordFiles.find(pattern))
        return open_without_damaged(pattern, open_source, skip_damaged)

    def open_both(modality, open_source, batch):
        """The sources of training and of validation."""
        files = getattr(data, modality)
        train, validation = (
            opened(f"data.{modality}.{split}", pattern, open_source)
            for split, pattern in (("train", files.train), ("validation", files.validation))
        )
        if train.records.count < getattr(config, batch):
            raise ValueError(
                f"{train.records.pattern} holds {train.records.count} records, fewer than one step "
                f"takes; set {batch} to at most that"
            )
        return train, validation

    def open_images(records):
        views = ImageViews.from_config(model.image_size, data.images)
        offset = data.images.label_offset
        count = sizes["num_classes"]
        return ImageStream(records, count, label_offset=offset, views=views)

    def open_texts(records):
        size, length = sizes["vocabulary_size"], model.max_sequence_length
        return TextStream.open(records, vocabulary, size, length, data.text.masking.to_dict())

    parts = {"sizes": {}}
    sizes = parts["sizes"]
    if config.parts.images:
        parts["classes"], sizes["num_classes"] = _classes(data, model.num_classes)
        parts["images"], parts["image_validation"] = open_both("images", open_images, "image_batch")
    if config.parts.text:
        if not data.vocabulary:
            raise ValueError("data.vocabulary is empty; give a vocabulary file")
        vocabulary = parts["vocabulary"] = read_vocabulary(data.vocabulary)
        size = sizes["vocabulary_size"] = model.vocabulary_size or len(vocabulary)
        if len(vocabulary) > size:
            raise ValueError(
                f"{data.vocabulary} has {len(vocabulary)} entries, the model has {size}; leave "
                "model.vocabulary_size out"
            )
        if len(vocabulary) < size:
            say(
                f"model.vocabulary_size={size}: {data.vocabulary} has {len(vocabulary)} "
                "entries; the other rows are never trained"
            )
        parts["texts"], parts["text_validation"] = open_both("text", open_texts, "text_batch")
        both = (parts["texts"], parts["text_validation"])
        manifests = {k: m for source in both for k, m in source.records.manifests.items()}
        recorded = recorded_case(manifests)
        parts["case"] = case_of(data.vocabulary, vocabulary, data.case, recorded)
        sizes["max_sequence_length"] = max(parts["texts"].length, parts["text_validation"].length)
    opened_data = Data(**parts)
    damaged = left_out(opened_data)
    check_limit(damaged, skip_damaged)
    for damage in damaged[:_DAMAGE_SHOWN]:
        say(f"left out: {damage}")
    if len(damaged) > _DAMAGE_SHOWN:
        say(f"left out: {len(damaged) - _DAMAGE_SHOWN} more")
    return opened_data


def _sample(config, cache_dir):
    """Prepares the sample; returns the `data` section of a config with the sample's files."""
    usual = sample_config.get_config().model
    length = config.model.max_sequence_length or usual.max_sequence_length
    prepared = sample.prepare(
        cache_dir or None,
        vocabulary_size=config.model.vocabulary_size or usual.vocabulary_size,
        max_length=length,
        max_predictions=round(MASKED_RATIO * length),
        seed=config.seed,
    )
    say(f"sample data in {prepared.folder}")
    return config.data.with_values(
        {
            "images.train": prepared.image_train,
            "images.validation": prepared.image_validation,
            "text.train": prepared.text_train,
            "text.validation": prepared.text_validation,
            "vocabulary": prepared.vocabulary,
        }
    )


def _classes(data, count):
    """(names of the classes or None, their number); the number is `count` unless that is 0.

    The names are the sample's, or those in `classes.txt` beside the training images.
    """
    if data.source == "sample":
        path, names = "the sample", _SAMPLE_CLASSES
    else:
        path = os.path.join(os.path.dirname(data.images.train), "classes.txt")
        names = _read_classes(path)
    if names is None:
        if not count:
            count = PAPER_SIZES["num_classes"]
            say(
                f"{path}: not found, so the number of classes is unknown; assuming {count:,} "
                "(model.num_classes)"
            )
        return None, count
    if count not in (0, len(names)):
        raise ValueError(
            f"model.num_classes={count}: {path} has {len(names)} classes; leave it out, "
            "or fix the file"
        )
    return names, len(names)


def _read_classes(path):
    try:
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            return file.read().splitlines()
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({one_line(error)}); fix or remove it") from error
