"""Images as TFRecords, in the format of the widely used ImageNet converters: read and written."""

import dataclasses
import os

import numpy as np
import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.images import image_decoding, jpeg
from pipelines.shards import damage, tfrecords
from pipelines.shards.records import RecordFiles
from pipelines.shards.shuffled_records import ShuffledRecords

LABEL_OFFSET = 1  # classes of ImageNet's files begin at 1: 0 is background


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRecordFiles:
    """Labelled images in TFRecord files, of ImageNet's usual format by default.

    Attributes:
        records: `RecordFiles`. Images are JPEGs, or other formats that `tf.io.decode_image` reads.
        num_classes: int.
        encoded, label: str, the names of the fields.
        label_offset: int, the label of the first class in the files: 1 in ImageNet's, where 0 is
            background.
        cache: bool, whether training records are kept in memory once they are read.
    """

    records: RecordFiles
    num_classes: int
    encoded: str = "image/encoded"
    label: str = "image/class/label"
    label_offset: int = LABEL_OFFSET
    cache: bool = False

    @property
    def count(self):
        """How many images there are."""
        return self.records.count

    @property
    def sha256(self):
        """Identifies the records, see `RecordFiles.sha256`."""
        return self.records.sha256

    def part(self, ranges):
        """Some of the images.

        Args:
            ranges: list of (first, end), ascending indices; `end` is excluded.

        Returns:
            `ImageRecordFiles`.
        """
        return dataclasses.replace(self, records=self.records.part(ranges))

    def elements(self, seed, start, shard):
        """The endless shuffled stream of a host.

        Args:
            seed: int.
            start: int, the index of the first element, over all hosts.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of (number, serialized record).
        """
        return ShuffledRecords(self.records, seed, shard, self.cache).elements(start)

    def names(self, seed, start, count):
        """The images behind some elements of the shuffled stream: list of str, FILE:PLACE.

        Args:
            seed, start, count: int.
        """
        return ShuffledRecords(self.records, seed).names(start, count)

    known_labels = None  # they are in the records

    def descriptions(self):
        """What identifies each image, its place: iterator of dicts of str, FILE:PLACE."""
        places = (self.records.locate(index) for index in range(self.count))
        return ({"record": f"{os.path.basename(file)}:{place}"} for file, place in places)

    def in_order(self, begin=0, end=None):
        """The records in the order of the files.

        Args:
            begin, end: int, indices; `end` is excluded, None for all that follow.

        Returns:
            `tf.data.Dataset` of serialized records.
        """
        return self.records.in_order(begin, end)

    def read(self, serialized):
        """Parses a record.

        Args:
            serialized: string tensor.

        Returns:
            (encoded image, string tensor, label as it is stored, int64 tensor).
        """
        features = tf.io.parse_single_example(
            serialized,
            {
                self.encoded: tf.io.FixedLenFeature((), tf.string),
                self.label: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        return features[self.encoded], features[self.label]

    def to_labels(self, stored):
        """Labels from 0.

        Args:
            stored: int64 tensor of any shape, labels as they are in the files.

        Returns:
            int32 tensor of that shape.

        Raises:
            tf.errors.InvalidArgumentError: when run, if a label is out of range. It shows the one
                farthest out.
        """
        labels = stored - self.label_offset
        least, largest = tf.reduce_min(labels), tf.reduce_max(labels)
        shown = tf.where(least < 0, least, largest)
        in_range = (shown >= 0) & (shown < self.num_classes)
        message = f"{self.records.pattern}: an image label is out of range (of the stored labels)"
        shown += self.label_offset
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, shown])]):
            return tf.cast(labels, tf.int32)  # in which larger values would wrap around

    def probes(self, begin=0):
        """Dataset with an element for each record; reading that of an unusable record fails."""

        def decoded(serialized):
            encoded, label = self.read(serialized)
            whole = tf.io.decode_image(encoded, channels=3, expand_animations=False)
            view = image_decoding.central_crop(encoded, image_size=1)
            return tf.size(whole) + tf.size(view), self.to_labels(label)

        return self.in_order(begin).map(decoded, available_cores(), deterministic=True)

    def first_damage(self):
        """The first unusable record of the files: `Damage`, or None."""
        return damage.first_damage(self)


def write_image_records(images, labels, prefix, shards, label_offset=LABEL_OFFSET):
    """Writes images and their classes to the files `PREFIX-00000-of-00004` and so on.

    Args:
        images: uint8 array `(count, height, width)` grey or `(count, height, width, 3)` RGB, or an
            iterable of such images, of any sizes.
        labels: iterable of int, the class of each image, from 0.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        label_offset: int, added to every label.

    Returns:
        int, how many images were written.

    Raises:
        ValueError: there are more or fewer images than labels.
    """
    examples = (
        tfrecords.to_example(image_example(image, int(label) + label_offset))
        for image, label in zip(images, labels, strict=True)
    )
    return tfrecords.write_shards(
        examples, os.fspath(prefix), shards, settings={"label_offset": label_offset}
    )


def image_example(image, label):
    """The fields of an ImageNet record of pixels.

    Args:
        image: uint8 array `(height, width)` grey or `(height, width, 3)` RGB.
        label: int, stored as it is.

    Returns:
        Dict of str to bytes, str or int.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., np.newaxis], 3, axis=-1)
    return jpeg_example(jpeg.RgbJpeg(jpeg.encode(image), *image.shape[:2]), label)


def jpeg_example(image, label):
    """The fields of an ImageNet record of a JPEG.

    Args:
        image: `jpeg.RgbJpeg`.
        label: int, stored as it is.

    Returns:
        Dict of str to bytes, str or int. Colour space and channels are those of the image decoded
        with three channels, even if it is grey, as the usual converters write them.
    """
    return {
        "image/encoded": image.encoded,
        "image/format": "JPEG",
        "image/colorspace": "RGB",
        "image/channels": 3,
        "image/height": image.height,
        "image/width": image.width,
        "image/class/label": label,
    }
