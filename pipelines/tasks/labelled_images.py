"""Labelled images of a downstream task: files of a folder, or records of TFRecord files."""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os

import numpy as np
import tensorflow as tf

from pipelines.command_line import UserError
from pipelines.files import sampled_digest
from pipelines.images import image_sources, jpeg
from pipelines.images.image_lists import ImageList, entry_file, entry_name, read_entry
from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.host_shares import host_stream, one_pass, shard, share

_SAMPLED_FILES = 1_000
_FILE_THREADS = 16  # they wait for the disk or the network


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels from 0, for training and for evaluation.

    Attributes:
        store: `ImageFiles` or `ImageRecordFiles`, where they lie.
        views: `ImageViews`, how they are cropped, augmented and mixed.
    """

    store: "ImageFiles | ImageRecordFiles"
    views: ImageViews

    @property
    def count(self):
        """How many images there are."""
        return self.store.count

    @property
    def sha256(self):
        """Tells other images from these: the `sha256` of the store."""
        return self.store.sha256

    def part(self, ranges):
        """Some of the images.

        Args:
            ranges: list of (first, end), ascending indices; `end` is excluded.

        Returns:
            `LabelledImages`.
        """
        return dataclasses.replace(self, store=self.store.part(ranges))

    def training(self, seed, step, batch, context=None):
        """Endless dataset of batches from a step on.

        Every image comes once an epoch, in an order that depends on (seed, epoch) alone.

        Args:
            seed: int.
            step: int, the step of the first batch.
            batch: int, images a step over all replicas.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            `tf.data.Dataset` of dicts: `images` and `labels`, and where images are mixed
            `mix_labels` and `mix_weights`; see `image_views.ImageViews.training`.
        """
        stream = self.views.training(
            self.store, seed, step * batch, share(batch, context), shard(context)
        )
        return host_stream(
            stream.map(lambda b: {name.removeprefix("image_"): b[name] for name in b})
        )

    def evaluation(self, batch, context=None):
        """Dataset that holds every image once, a host's share of them.

        Args:
            batch: int, images a step over all replicas.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            `tf.data.Dataset` of dicts: `images`, `labels`, `numbers` (their indices, -1 where the
            last batch is filled up) and `weights` (0 there).
        """

        def read(begin, end):
            stream = self.views.validation(self.store, begin, end)
            numbers = tf.data.Dataset.range(begin, end, output_type=tf.int32)
            return tf.data.Dataset.zip(stream, numbers).map(
                lambda example, number: {
                    "images": example["images"],
                    "labels": example["image_labels"],
                    "numbers": number,
                }
            )

        steps = self.evaluation_batches(batch)
        return host_stream(one_pass(read, self.count, batch, steps, "weights", context, numbers=-1))

    def evaluation_batches(self, batch):
        """The number of steps of an evaluation.

        Args:
            batch: int, images a step over all replicas.

        Returns:
            int.
        """
        return -(-self.count // batch)


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files in a folder that holds a folder a class.

    Attributes:
        images: `ImageList`, in the order of evaluation.
    """

    images: ImageList

    @classmethod
    def find(cls, folder, classes=None):
        """Lists a folder, and shuffles the list once, always in the same way.

        So a part of it is a random one.

        Args:
            folder: str, local or `gs://`.
            classes: list of str, the classes of the training images, if they are known.

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

    @functools.cached_property
    def sha256(self):
        """SHA-256 of the names and labels of all files, and of the size and ends of 1,000."""
        digest = hashlib.sha256(self.images.digest().encode())
        sampled = self.images.entries[:: -(-self.count // _SAMPLED_FILES)]
        files = [entry_file(self.images.source, entry) for entry in sampled]
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            for sampled in threads.map(sampled_digest, files):
                digest.update(sampled.encode())
        return digest.hexdigest()

    def part(self, ranges):
        """Some of the images.

        Args:
            ranges: list of (first, end), ascending indices; `end` is excluded.

        Returns:
            `ImageFiles`.
        """
        entries = np.concatenate([self.images.entries[begin:end] for begin, end in ranges])
        return ImageFiles(dataclasses.replace(self.images, entries=entries))

    @functools.cached_property
    def _table(self):
        """Paths and labels as tensors."""
        files = (entry_file(self.images.source, entry) for entry in self.images.entries)
        paths = [os.fsencode(file) for file in files]  # names need not be UTF-8
        with tf.init_scope():  # it may be asked for first while a graph is being made
            return tf.constant(paths), tf.constant(self.images.entries["label"], tf.int32)

    def elements(self, seed, start, shard):
        """The endless shuffled stream of a host.

        Args:
            seed: int.
            start: int, the index of the first element, over all hosts.
            shard: (number of hosts, index of this one).

        Returns:
            `tf.data.Dataset` of (number, place in the list).
        """
        hosts, host = shard
        first = start + (host - start) % hosts

        def element(number):
            epoch, place = number // self.count, number % self.count
            key = tf.random.stateless_uniform((2,), [seed, epoch], 1, 2**61, dtype=tf.int64)
            return number, tf.random.experimental.index_shuffle(place, key, self.count - 1)

        return tf.data.Dataset.range(first, 2**62, hosts).map(element)

    def names(self, seed, start, count):
        """Which images some elements of the shuffled stream are: list of str, their names.

        Args:
            seed, start, count: int.
        """
        places = self.elements(seed, start, (1, 0)).take(count).as_numpy_iterator()
        return [entry_name(self.images.entries[place]) for _, place in places]

    def in_order(self, begin, end):
        """Places in the order of the list.

        Args:
            begin, end: int, indices; `end` is excluded.

        Returns:
            `tf.data.Dataset` of int64.
        """
        return tf.data.Dataset.range(begin, end)

    def read(self, place):
        """Reads an image.

        Args:
            place: int64 tensor, its index in the list.

        Returns:
            (encoded image, string tensor, label, int32 tensor).
        """
        paths, labels = self._table
        return tf.io.read_file(paths[place]), labels[place]

    def to_labels(self, stored):
        """Labels from 0, which is how they are stored."""
        return stored

    def first_damage(self):
        """What is wrong with the first file that does not decode, with its path; or None."""
        for entry in self.images.entries:
            try:
                jpeg.to_rgb_jpeg(read_entry(self.images.source, entry))
            except (OSError, jpeg.DamagedImage) as error:
                return f"{entry_file(self.images.source, entry)}: {error}"
        return None


def require_batch(images, batch, source):
    """Refuses fewer images than one step takes.

    Args:
        images: `LabelledImages`.
        batch: int, images a step.
        source: str, where they come from, for the message.

    Raises:
        UserError: there are fewer.
    """
    if images.count < batch:
        raise UserError(
            f"{source}: holds {images.count:,} training images, fewer than one step takes; set "
            f"--config.batch to at most that (it is {batch})"
        )
