"""Images as TFRecords, in the format of the widely used ImageNet converters: read and written."""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.images import image_decoding, jpeg
from pipelines.images.image_views import ImageViews
from pipelines.shards.records import Damage, RecordFiles, first_damage
from pipelines.shards.shard_files import to_example, write_shards
from pipelines.shards.streams import ShuffledRecords

LABEL_OFFSET = 1  # classes of ImageNet's files begin at 1: 0 is background


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRecordFiles:
    """Labelled images in TFRecord files, of ImageNet's usual format by default."""

    records: RecordFiles
    num_classes: int
    encoded: str = "image/encoded"  # the names of the fields
    label: str = "image/class/label"
    label_offset: int = LABEL_OFFSET  # the label of the first class in the files

    known_labels = None  # they are in the records

    def __post_init__(self) -> None:
        for path, manifest in self.records.manifests.items():
            offset = manifest["settings"].get("label_offset", self.label_offset)
            if offset != self.label_offset:
                raise ValueError(
                    f"{path}: the label of the first class is {offset}, data.images.label_offset "
                    f"is {self.label_offset}"
                )

    @property
    def count(self) -> int:
        return self.records.count

    @property
    def sha256(self) -> str:
        return self.records.sha256

    def part(self, ranges: list[tuple[int, int]]) -> Self:
        """Some of the images: ascending ranges of indices, their ends excluded."""
        return dataclasses.replace(self, records=self.records.part(ranges))

    def elements(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        """A host's share of the endless shuffled stream, see `ShuffledRecords.elements`."""
        return ShuffledRecords(self.records, seed, shard).elements(start)

    def names(self, seed: int, start: int, count: int) -> list[str]:
        """The images behind some elements of the shuffled stream, FILE:PLACE."""
        return ShuffledRecords(self.records, seed).names(start, count)

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each image, its place: FILE:PLACE."""
        places = (self.records.locate(index) for index in range(self.count))
        return ({"record": f"{os.path.basename(file)}:{place}"} for file, place in places)

    def in_order(self, begin: int = 0, end: int | None = None) -> tf.data.Dataset:
        """The serialized records in the order of the files."""
        return self.records.in_order(begin, end)

    def read(self, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Parses a record: (encoded image, string, label as it is stored, int64)."""
        kinds = {self.encoded: tf.string, self.label: tf.int64}
        features = tf.io.parse_single_example(
            serialized, {name: tf.io.FixedLenFeature((), kind) for name, kind in kinds.items()}
        )
        return features[self.encoded], features[self.label]

    def to_labels(self, stored: tf.Tensor) -> tf.Tensor:
        """Labels from 0, int32, of those in the files, int64; fails on one out of range."""
        labels = stored - self.label_offset
        least, largest = tf.reduce_min(labels), tf.reduce_max(labels)
        shown = tf.where(least < 0, least, largest)
        in_range = (shown >= 0) & (shown < self.num_classes)
        shown += self.label_offset
        message = (
            f"{self.records.pattern}: an image label is out of range, {self.label_offset} to "
            f"{self.label_offset + self.num_classes - 1} by model.num_classes and "
            "data.images.label_offset"
        )
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, shown])]):
            return tf.cast(labels, tf.int32)  # in which larger values would wrap around

    def probes(self, begin: int = 0) -> tf.data.Dataset:
        """An element for each record; reading that of an unusable record fails."""

        def decoded(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            encoded, label = self.read(serialized)
            whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            view = image_decoding.central_crop(encoded, image_size=1)
            return tf.size(whole) + tf.size(view), self.to_labels(label)

        return self.in_order(begin).map(decoded, available_cores(), deterministic=True)

    def first_damage(self) -> Damage | None:
        """The first unusable record of the files."""
        return first_damage(self)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageStream(ImageRecordFiles):
    """Labelled images in TFRecord files, and the views taken of them."""

    views: ImageViews = dataclasses.field(kw_only=True)

    def training(
        self, seed: int, start: int, batch: int, shard: tuple[int, int] = (1, 0)
    ) -> tf.data.Dataset:
        """Endless batches, see `ImageViews.training`."""
        return self.views.training(self, seed, start, batch, shard)

    def validation(self, begin: int = 0, end: int | None = None) -> tf.data.Dataset:
        """Single central views in the order of the files, see `ImageViews.validation`."""
        return self.views.validation(self, begin, end)

    def labels(self) -> tf.data.Dataset:
        """The labels alone, from 0, in the order of the files."""
        return self.in_order().map(lambda serialized: self.to_labels(self.read(serialized)[1]))


def write_image_records(
    images: Iterable[np.ndarray],
    labels: Iterable[int],
    prefix: str | os.PathLike,
    shards: int,
    label_offset: int = LABEL_OFFSET,
) -> int:
    """Writes uint8 images, grey or RGB of any sizes, and their labels from 0; returns how many.

    The files are `PREFIX-00000-of-00004` and so on, local or `gs://`.
    """
    examples = (
        to_example(image_example(image, int(label) + label_offset))
        for image, label in zip(images, labels, strict=True)
    )
    return write_shards(
        examples, os.fspath(prefix), shards, settings={"label_offset": label_offset}
    )


def image_example(image: np.ndarray, label: int) -> dict[str, bytes | str | int]:
    """The fields of an ImageNet record of uint8 pixels, grey or RGB."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., np.newaxis], 3, axis=-1)
    return jpeg_example(jpeg.RgbJpeg(jpeg.encode(image), *image.shape[:2]), label)


def jpeg_example(image: jpeg.RgbJpeg, label: int) -> dict[str, bytes | str | int]:
    """The fields of an ImageNet record of a JPEG."""
    return {
        "image/encoded": image.encoded,
        "image/format": "JPEG",
        # Of the image decoded with three channels, even if it is grey: as other converters do.
        "image/colorspace": "RGB",
        "image/channels": 3,
        "image/height": image.height,
        "image/width": image.width,
        "image/class/label": label,
    }
