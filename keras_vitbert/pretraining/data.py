"""Opens the data that a config names and checks them against the model."""

import dataclasses
import os

import tensorflow as tf

from pipelines.command_line import UserError, one_line, say
from pipelines.image_stream import ImageStream
from pipelines.images.image_views import ImageViews
from pipelines.joint_stream import JointStream
from pipelines.shards.damage import check_limit, left_out, without_damaged
from pipelines.shards.records import BadRecord, RecordFiles
from pipelines.shards.shard_manifest import IMAGES, TEXT_EXAMPLES
from pipelines.text.masking import MASKED_RATIO
from pipelines.text.wordpiece import read_vocabulary
from pipelines.text_stream import TextStream

_DAMAGE_SHOWN = 20  # lines
_SAMPLE_CLASSES = list("0123456789")


@dataclasses.dataclass(frozen=True)
class Data:
    """Sources of both modalities, from which a variant takes what it needs.

    Attributes:
        images, image_validation: `ImageStream`.
        texts, text_validation: `TextStream`.
        vocabulary: list of str.
        classes: list of str, the names of the image classes in order; None if unknown.
    """

    images: ImageStream | None
    image_validation: ImageStream | None
    texts: TextStream | None
    text_validation: TextStream | None
    vocabulary: list[str] | None
    classes: list[str] | None = None

    def stream(self, config, images, text):
        """The `JointStream` of a run.

        Args:
            config: `ConfigDict` with `image_batch`, `text_batch` and `seed`.
            images, text: bool, the modalities to use.
        """
        return JointStream(
            images=self.images if images else None,
            image_validation=self.image_validation if images else None,
            texts=self.texts if text else None,
            text_validation=self.text_validation if text else None,
            image_batch=config.image_batch,
            text_batch=config.text_batch,
            seed=config.seed,
        )


def open_data(
    config, cache_dir="", images=True, text=True, max_bad_records=0, cache=False, audits=None
):
    """Opens training and validation data.

    Args:
        config: `ConfigDict`. With `data.source` "sample", the sample data are prepared on demand.
        cache_dir: str, where prepared sample data are kept; see `pipelines.sample`.
        images, text: bool, the modalities to open.
        max_bad_records: int, how many damaged records of all files may be skipped. Above 0, all
            records are checked first.
        cache: bool, whether training records are kept in memory once they have been read.
        audits: has `audit(name)` and `keep_audit(name, content)`, such as a `RunFolder`, to store
            the result of that check; or None.

    Returns:
        `Data`.

    Raises:
        UserError: something is missing, is damaged or does not fit the model.
    """
    data, model = config.data, config.model
    image_files, text_files = data.images, data.text
    vocabulary_path = data.vocabulary
    if data.source == "sample":
        image_files, text_files, vocabulary_path = _sample(config, cache_dir)

    def opened(key, pattern, kind, open_source):
        """A source, without its damaged records if some may be skipped."""
        if not max_bad_records:
            return open_source(RecordFiles.find(pattern, key, kind))
        known = audits.audit(key) if audits else None
        if known is not None and known["pattern"] == pattern:
            records = RecordFiles.from_json(known)
            if records.is_unchanged():
                return open_source(records)
        records = RecordFiles.find(pattern, key, kind, salvage=True)
        source = _opened_at_good(records, open_source, max_bad_records)
        source = without_damaged(source, max_bad_records)
        if audits:
            audits.keep_audit(key, source.records.to_json())
        return source

    sources = dict.fromkeys(("images", "image_validation", "texts", "text_validation"))
    vocabulary = None
    if images:
        for name, split in (("images", "train"), ("image_validation", "validation")):

            def open_images(records, cache=cache and split == "train"):
                return ImageStream(
                    records,
                    model.num_classes,
                    label_offset=data.images.label_offset,
                    cache=cache,
                    views=ImageViews.from_config(model.image_size, data.images),
                ).check()

            key = f"config.data.images.{split}"
            sources[name] = opened(key, image_files[split], IMAGES, open_images)
        _require_batch(sources["images"], config.image_batch, "image_batch")
    if text:
        if not vocabulary_path:
            raise UserError("--config.data.vocabulary is empty; give a vocabulary file")
        vocabulary = read_vocabulary(vocabulary_path)
        if len(vocabulary) > model.vocabulary_size:
            raise UserError(
                f"{vocabulary_path} has {len(vocabulary)} entries, the model has "
                f"{model.vocabulary_size}; set --config.model.vocabulary_size={len(vocabulary)}"
            )
        for name, split in (("texts", "train"), ("text_validation", "validation")):

            def open_texts(records, cache=cache and split == "train"):
                return TextStream.open(
                    records,
                    vocabulary,
                    model.vocabulary_size,
                    model.max_sequence_length,
                    masking=data.text.masking.to_dict(),
                    cache=cache,
                )

            key = f"config.data.text.{split}"
            sources[name] = opened(key, text_files[split], TEXT_EXAMPLES, open_texts)
        _require_batch(sources["texts"], config.text_batch, "text_batch")
    classes = _classes(data, image_files["train"], model.num_classes) if images else None
    opened_data = Data(**sources, vocabulary=vocabulary, classes=classes)
    damaged = left_out(opened_data)
    check_limit(damaged, max_bad_records)
    _report(damaged)
    return opened_data


def _opened_at_good(records, open_source, limit):
    """A source of salvaged records, starting at the first one that is not damaged."""
    while True:
        try:
            return open_source(records)
        except BadRecord as error:
            if len(records.damaged) >= limit or records.count == 1:
                raise
            records = records.without({0: error.reason})


def _report(damaged):
    for damage in damaged[:_DAMAGE_SHOWN]:
        say(f"left out: {damage}")
    if len(damaged) > _DAMAGE_SHOWN:
        say(f"left out: {len(damaged) - _DAMAGE_SHOWN} more")


def _sample(config, cache_dir):
    from pipelines import sample

    model = config.model
    prepared = sample.prepare(
        cache_dir or None,
        vocabulary_size=model.vocabulary_size,
        max_length=model.max_sequence_length,
        max_predictions=round(MASKED_RATIO * model.max_sequence_length),
        seed=config.seed,
    )
    say(f"sample data in {prepared.folder}")
    images = {"train": prepared.image_train, "validation": prepared.image_validation}
    text = {"train": prepared.text_train, "validation": prepared.text_validation}
    return images, text, prepared.vocabulary


def _classes(data, pattern, count):
    """The names of the classes: the sample's, or from `classes.txt` beside the training images."""
    if data.source == "sample":
        return _SAMPLE_CLASSES if len(_SAMPLE_CLASSES) == count else None
    path = os.path.join(os.path.dirname(pattern), "classes.txt")
    try:
        if not tf.io.gfile.exists(path):
            return None
        with tf.io.gfile.GFile(path) as file:
            classes = file.read().splitlines()
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({one_line(error)}); fix or remove it") from error
    return classes if len(classes) == count else None


def _require_batch(source, batch, key):
    if source.records.count < batch:
        raise UserError(
            f"{source.records.pattern} holds {source.records.count} records, fewer than one "
            f"step takes; set --config.{key} to at most that"
        )
