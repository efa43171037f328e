"""Labelled images of a downstream task: files of a folder, or records of TFRecord files."""

import dataclasses
import functools
import os

from pipelines.command_line import UserError
from pipelines.images import image_sources, jpeg
from pipelines.images.image_lists import ImageList, entry_file, read_entry
from pipelines.images.image_views import ImageViews
from pipelines.shards.host_shares import filled, host_stream, shard, share
from pipelines.shards.records import RecordFiles
from pipelines.shards.shuffled_records import ShuffledRecords


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels from 0, for training and for evaluation.

    Attributes:
        store: `ImageFiles` or `ImageRecordFiles`, where they lie.
        views: `ImageViews`, how they are cut, augmented and mixed.
    """

    store: "ImageFiles | ImageRecordFiles"
    views: ImageViews

    @property
    def count(self):
        """How many images there are."""
        return self.store.count

    def part(self, begin, end):
        """The images `begin` to `end` alone."""
        return dataclasses.replace(self, store=self.store.part(begin, end))

    def training(self, seed, step, batch, context=None):
        """Endless dataset of batches from a step on.

        Every image comes once an epoch, in an order that depends on (seed, epoch) alone.

        Args:
            seed, step: int.
            batch: int, images a step over all replicas.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            `tf.data.Dataset` of dicts: `images` and `labels`, and where images are mixed
            `mix_labels` and `mix_weights`; see `image_views.ImageViews.training`.
        """
        stream = self.store.elements(seed, step * batch, shard(context))
        stream = self.views.training(
            stream, self.store.read, seed, share(batch, context), self.store.to_labels
        )
        return host_stream(
            stream.map(lambda b: {name.removeprefix("image_"): b[name] for name in b})
        )

    def evaluation(self, batch, context=None):
        """Dataset that holds every image once, a host's share of them.

        Returns:
            `tf.data.Dataset` of dicts: `images`, `labels`, `numbers` (-1 where the last batch is
            filled up) and `weights` (0 there).
        """
        import tensorflow as tf

        hosts, host = shard(context)
        size = self.evaluation_batches(batch) * batch // hosts
        begin, end = (min(place * size, self.count) for place in (host, host + 1))
        stream = self.views.validation(
            self.store.in_order(begin, end), self.store.read, self.store.to_labels
        )
        numbers = tf.data.Dataset.range(begin, end, output_type=tf.int32)
        stream = tf.data.Dataset.zip(stream, numbers).map(
            lambda example, number: {
                "images": example["images"],
                "labels": example["image_labels"],
                "numbers": number,
            }
        )
        stream = filled(stream, size, "weights", numbers=-1)
        return host_stream(stream.batch(share(batch, context), drop_remainder=True))

    def evaluation_batches(self, batch):
        """Steps of an evaluation."""
        return -(-self.count // batch)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files of a folder that holds a folder a class.

    Attributes:
        images: `ImageList`, in the order of evaluation.
    """

    images: ImageList

    @classmethod
    def find(cls, folder, classes=None):
        """Lists a folder, and shuffles the list once, always in the same way.

        So a part of it is a random one.

        Returns:
            (`ImageFiles`, list of str with the names of the classes).

        Raises:
            UserError: there are no images, or there is a class that is not among `classes`.
        """
        images, classes = image_sources.list_folder(folder, classes)
        return cls(images.shuffled(seed=0)), classes

    @property
    def count(self):
        """How many images there are."""
        return len(self.images)

    @property
    def labels(self):
        """int32 array of all labels."""
        return self.images.entries["label"]

    def part(self, begin, end):
        """The images `begin` to `end` alone."""
        return ImageFiles(dataclasses.replace(self.images, entries=self.images.entries[begin:end]))

    @functools.cached_property
    def _table(self):
        """Paths and labels as tensors."""
        import tensorflow as tf

        files = (entry_file(self.images.source, entry) for entry in self.images.entries)
        paths = [os.fsencode(file) for file in files]  # names need not be UTF-8
        with tf.init_scope():  # it may be asked for first while a graph is being made
            return tf.constant(paths), tf.constant(self.labels, tf.int64)

    def elements(self, seed, start, shard):
        """Endless dataset of (number, place in the list) of a host."""
        import tensorflow as tf

        hosts, host = shard
        first = start + (host - start) % hosts

        def element(number):
            epoch, place = number // self.count, number % self.count
            key = tf.random.stateless_uniform((2,), [seed, epoch], 1, 2**61, dtype=tf.int64)
            return number, tf.random.experimental.index_shuffle(place, key, self.count - 1)

        return tf.data.Dataset.range(first, 2**62, hosts).map(element)

    def in_order(self, begin, end):
        """Dataset of the places `begin` to `end`."""
        import tensorflow as tf

        return tf.data.Dataset.range(begin, end)

    def read(self, place):
        """(encoded image, label)."""
        import tensorflow as tf

        paths, labels = self._table
        return tf.io.read_file(paths[place]), labels[place]

    def to_labels(self, stored):
        """Labels as int32."""
        import tensorflow as tf

        return tf.cast(stored, tf.int32)

    def first_damage(self):
        """What is wrong with the first file that does not decode, with its path; or None."""
        for entry in self.images.entries:
            try:
                jpeg.to_rgb_jpeg(read_entry(self.images.source, entry))
            except (OSError, jpeg.DamagedImage) as error:
                return f"{entry_file(self.images.source, entry)}: {error}"
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class ImageRecordFiles:
    """Images in TFRecord files: ImageNet's usual format, or that of TensorFlow Datasets.

    Attributes:
        records: `RecordFiles`.
        num_classes: int.
        encoded, label: str, the names of the fields.
        label_offset: int, the label of the first class in the files.
    """

    records: RecordFiles
    num_classes: int
    encoded: str = "image"
    label: str = "label"
    label_offset: int = 0

    @property
    def count(self):
        """How many images there are."""
        return self.records.count

    def part(self, begin, end):
        """The images `begin` to `end` alone."""
        return dataclasses.replace(self, records=self.records.part(begin, end))

    def elements(self, seed, start, shard):
        """Endless dataset of (number, serialized record) of a host."""
        return ShuffledRecords(self.records, seed, shard).elements(start)

    def in_order(self, begin, end):
        """Dataset of the serialized records `begin` to `end`."""
        return self.records.in_order(begin, end)

    def read(self, serialized):
        """(encoded image, stored label)."""
        import tensorflow as tf

        features = tf.io.parse_single_example(
            serialized,
            {
                self.encoded: tf.io.FixedLenFeature((), tf.string),
                self.label: tf.io.FixedLenFeature((), tf.int64),
            },
        )
        return features[self.encoded], features[self.label]

    def to_labels(self, stored):
        """Labels from 0 as int32; fails if one is out of range."""
        import tensorflow as tf

        labels = tf.cast(stored, tf.int32) - self.label_offset
        in_range = tf.reduce_all((labels >= 0) & (labels < self.num_classes))
        message = f"{self.records.pattern}: an image label is out of range (of the stored labels)"
        with tf.control_dependencies([tf.debugging.Assert(in_range, [message, stored])]):
            return tf.identity(labels)

    def first_damage(self):
        """What is wrong with the first record that cannot be used, with its file; or None."""
        for number, serialized in enumerate(self.records.in_order()):
            file, place = self.records.locate(number)
            try:
                encoded, _ = self.read(serialized)
                jpeg.to_rgb_jpeg(encoded.numpy())
            except Exception as error:  # the parser and the decoder fail in many ways
                return f"{file}, record {place}: {error}"
        return None


def require_batch(images, batch, source):
    """Refuses fewer images than one step takes.

    Raises:
        UserError: there are fewer.
    """
    if images.count < batch:
        raise UserError(
            f"{source}: holds {images.count:,} training images, fewer than one step takes; set "
            f"--config.batch to at most that (it is {batch})"
        )
