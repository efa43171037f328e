"""Opens the data that a config names and checks them against the model."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from keras_vitbert.configs import sample as sample_config
from keras_vitbert.configs.data import Data as DataSection
from keras_vitbert.configs.model import PAPER_SIZES
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.command_line import say
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
    """Sources of the modalities, from which a variant takes what it needs; None if not opened."""

    images: ImageStream | None = None
    image_validation: ImageStream | None = None
    texts: TextStream | None = None
    text_validation: TextStream | None = None
    vocabulary: list[str] | None = None
    case: str | None = None  # whether texts are lower-cased, see `pipelines.text.casing`
    classes: list[str] | None = None  # their names in order; None if unknown
    # `num_classes`, `vocabulary_size` and `max_sequence_length` of open data, for
    # `Pretraining.with_sizes`.
    sizes: dict[str, int] = dataclasses.field(default_factory=dict)

    def stream(self, config: Pretraining) -> JointStream:
        """The batches of a run, of its variant's modalities."""
        images, text = config.variant_spec.images, config.variant_spec.text
        return JointStream(
            images=self.images if images else None,
            image_validation=self.image_validation if images else None,
            texts=self.texts if text else None,
            text_validation=self.text_validation if text else None,
            image_batch_size=config.image_batch_size,
            text_batch_size=config.text_batch_size,
            seed=config.seed,
            packed_micro_batches=config.accumulation if config.data.packing else 0,
        )


def open_data(
    config: Pretraining, cache_dir: str = "", skip_damaged: int = 0, cache: bool = False
) -> Data:
    """Opens training and validation data of the modalities of a config's variant.

    The sample data are prepared on demand, in `cache_dir`. Up to `skip_damaged` records are left
    out; above 0, all are checked first. With `cache`, training records stay in memory.
    """
    data, model = config.data, config.model
    if data.source == "sample":
        data = _sample(config, cache_dir)

    def open_both(modality: str, open_source: Callable, batch_field: str) -> tuple[Any, Any]:
        """The sources of training and of validation."""
        sources = []
        for split in ("train", "validation"):
            pattern = data.value(f"{modality}.{split}")
            if not pattern:
                raise ValueError(f"data.{modality}.{split} is empty; give a pattern of files")
            if skip_damaged:
                sources.append(open_without_damaged(pattern, open_source, skip_damaged))
            else:
                sources.append(open_source(RecordFiles.find(pattern)))
        train, validation = sources
        if train.records.count < config.value(batch_field):
            raise ValueError(
                f"{train.records.pattern} holds {train.records.count} records, fewer than a step "
                f"takes; set {batch_field} to at most that"
            )
        if cache:
            records = dataclasses.replace(train.records, in_memory=True)
            train = dataclasses.replace(train, records=records)
        return train, validation

    opened, sizes = {}, {}
    if config.variant_spec.images:
        classes, sizes["num_classes"] = _classes(data, model.num_classes)
        offset = data.images.label_offset
        views = ImageViews.from_config(model.image_size, data.images)

        def open_images(records: RecordFiles) -> ImageStream:
            count = sizes["num_classes"]
            return ImageStream(records, count, label_offset=offset, views=views)

        images, image_validation = open_both("images", open_images, "image_batch_size")
        opened |= {"images": images, "image_validation": image_validation, "classes": classes}
    if config.variant_spec.text:
        if not data.vocabulary:
            raise ValueError("data.vocabulary is empty; give a vocabulary file")
        vocabulary = read_vocabulary(data.vocabulary)
        size, count = model.vocabulary_size or len(vocabulary), len(vocabulary)
        if count > size:
            raise ValueError(f"model.vocabulary_size={size}: {data.vocabulary} has {count} entries")
        if count < size:
            say(
                f"model.vocabulary_size={size}: {data.vocabulary} has {count} entries; the other "
                "rows are never trained"
            )
        length, masking = model.max_sequence_length, data.text.masking.to_dict()

        def open_texts(records: RecordFiles) -> TextStream:
            return TextStream.open(records, vocabulary, size, length, masking)

        texts = open_both("text", open_texts, "text_batch_size")
        manifests = {k: m for source in texts for k, m in source.records.manifests.items()}
        case = case_of(data.vocabulary, vocabulary, data.case, recorded_case(manifests))
        sizes |= {
            "vocabulary_size": size,
            "max_sequence_length": max(source.length for source in texts),
        }
        opened |= {"texts": texts[0], "text_validation": texts[1]}
        opened |= {"vocabulary": vocabulary, "case": case}
    sources = Data(**opened, sizes=sizes)
    damaged = left_out(sources)
    check_limit(damaged, skip_damaged)
    for damage in damaged[:_DAMAGE_SHOWN]:
        say(f"left out: {damage}")
    return sources


def _sample(config: Pretraining, cache_dir: str) -> DataSection:
    """Prepares the sample; returns the `data` section of a config with the sample's files."""
    usual = sample_config.get_config().model
    length = min(sample.LENGTH, config.model.max_sequence_length or usual.max_sequence_length)
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


def _classes(data: DataSection, count: int) -> tuple[list[str] | None, int]:
    """(names of the classes or None, their number); the number is `count` unless that is 0.

    The names are the sample's, or those in `classes.txt` beside the training images.
    """
    names, folder = _SAMPLE_CLASSES, os.path.dirname(data.images.train)
    if data.source != "sample":
        text = RunFolder(folder).read("classes.txt")
        names = None if text is None else text.splitlines()
    if names is None:
        if not count:
            count = PAPER_SIZES["num_classes"]
            say(f"model.num_classes: assuming {count:,}, as {folder}/classes.txt is not there")
        return None, count
    if count not in (0, len(names)):
        raise ValueError(
            f"model.num_classes={count}: the images have {len(names)} classes, see classes.txt"
        )
    return names, len(names)
