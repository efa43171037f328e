"""Labelled images of a downstream task, for training and for evaluation.

They lie in files, in the cells of a table, or in records.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from pipelines.digests import sampled_digest
from pipelines.files import printable
from pipelines.images import image_sources, jpeg
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_sources import WHOLE_FILE, ImageList, entry_file, entry_name, read_entry
from pipelines.images.image_views import ImageViews
from pipelines.shards.host_shares import host_stream, one_pass, shard, share
from pipelines.tasks.labelled_rows import image_columns, numbered, whole_rows
from pipelines.tasks.tables import Table

_SAMPLED_FILES = 1_000
_FILE_THREADS = 16  # they wait for the disk or the network
_SAMPLED_BYTES = 1 << 16


class _Listed:
    """Images that are found by their place in a list; `known_labels` is theirs, int32."""

    known_labels: np.ndarray
    column = ""  # in files of predictions: what `name` gives

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.known_labels)

    def elements(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        """The endless shuffled stream of a host.

        Args:
            start: the index of the first element, over all hosts.
            shard: number of hosts, index of this one.

        Returns:
            Data set of (number, place in the list).
        """
        hosts, host = shard
        first = start + (host - start) % hosts

        def element(number):
            epoch, place = number // self.count, number % self.count
            key = tf.random.stateless_uniform((2,), [seed, epoch], 1, 2**61, dtype=tf.int64)
            return number, tf.random.experimental.index_shuffle(place, key, self.count - 1)

        return tf.data.Dataset.range(first, 2**62, hosts).map(element)

    def names(self, seed: int, start: int, count: int) -> list[str]:
        """The names of the images behind some elements of the shuffled stream."""
        places = self.elements(seed, start, (1, 0)).take(count).as_numpy_iterator()
        return [self.name(place) for _, place in places]

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each image."""
        return ({self.column: self.name(place)} for place in range(self.count))

    def in_order(self, begin: int, end: int) -> tf.data.Dataset:
        """Places from `begin` to `end`, excluded, in the order of the list: int64."""
        return tf.data.Dataset.range(begin, end)

    def to_labels(self, stored):
        """Labels from 0, which is how they are stored."""
        return stored

    def part(self, ranges: list[tuple[int, int]]):
        """Some of the images: ascending ranges of indices, their ends excluded."""
        return self.at(np.concatenate([np.arange(begin, end) for begin, end in ranges]))

    def first_damage(self) -> str | None:
        """What is wrong with the first image that does not decode, and where it is; or None."""
        for place in range(self.count):
            try:
                jpeg.to_rgb_jpeg(self.encoded(place))
            except (OSError, jpeg.DamagedImage) as error:
                return f"{self.where(place)}: {error}"
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles(_Listed):
    """Image files: those of a folder with one folder per class, or those that a table names.

    Attributes:
        images: in the order of evaluation.
    """

    images: ImageList

    column = "path"

    @classmethod
    def find(cls, folder: str, classes: list[str] | None = None) -> tuple["ImageFiles", list[str]]:
        """Lists a folder, local or `gs://`, and shuffles the list once, always in the same way.

        So any part of the list is a random sample.

        Args:
            classes: those of the training images, if they are known.

        Returns:
            The images, and the names of the classes.

        Raises:
            ValueError: there are no images, or there is a class that is not among `classes`.
        """
        images, classes = image_sources.list_folder(folder, classes)
        return cls(images.shuffled(seed=0)), classes

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the names and labels of all files, and of the size and ends of 1,000."""
        digest = hashlib.sha256(self.images.digest().encode())
        files = map(self.where, range(0, self.count, -(-self.count // _SAMPLED_FILES)))
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            for sampled in threads.map(sampled_digest, files):
                digest.update(sampled.encode())
        return digest.hexdigest()

    @property
    def known_labels(self) -> np.ndarray:
        return self.images.entries["label"]

    def name(self, place: int) -> str:
        """The path of an image within the folder."""
        return entry_name(self.images.entries[place])

    def where(self, place: int) -> str:
        """The path of an image."""
        return entry_file(self.images.source, self.images.entries[place])

    def encoded(self, place: int) -> bytes:
        """An encoded image."""
        return read_entry(self.images.source, self.images.entries[place])

    def at(self, places: np.ndarray) -> "ImageFiles":
        """The images at some places."""
        return ImageFiles(dataclasses.replace(self.images, entries=self.images.entries[places]))

    @functools.cached_property
    def _table(self):
        """Paths and labels as tensors."""
        paths = [os.fsencode(self.where(n)) for n in range(self.count)]  # need not be UTF-8
        with tf.init_scope():  # it may first be requested while a graph is being built
            return tf.constant(paths), tf.constant(self.known_labels, tf.int32)

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """An encoded image, string, and its label, int32, by its place in the list, int64."""
        paths, labels = self._table
        return tf.io.read_file(paths[place]), labels[place]


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCells(_Listed):
    """Encoded images in the cells of a table, in memory.

    Attributes:
        cells: in the order of evaluation.
        known_labels: int32 array `(count,)`.
        places: where in the table each is: its row.
        source: for messages.
    """

    cells: list[bytes]
    known_labels: np.ndarray
    places: list[str]
    source: str

    column = "row"

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the labels, of the sizes of all images, and of the ends of 1,000."""
        digest = hashlib.sha256(np.ascontiguousarray(self.known_labels).tobytes())
        digest.update(np.array([len(cell) for cell in self.cells], np.int64).tobytes())
        for cell in self.cells[:: -(-self.count // _SAMPLED_FILES)]:
            digest.update(cell[:_SAMPLED_BYTES])
            digest.update(cell[-_SAMPLED_BYTES:])
        return digest.hexdigest()

    def name(self, place: int) -> str:
        """The row of an image."""
        return self.places[place]

    def where(self, place: int) -> str:
        """The table and the row of an image."""
        return f"{self.source}, row {self.places[place]}"

    def encoded(self, place: int) -> bytes:
        """An encoded image."""
        return self.cells[place]

    def at(self, places: np.ndarray) -> "ImageCells":
        """The images at some places."""
        cells, rows = ([of[n] for n in places] for of in (self.cells, self.places))
        return ImageCells(cells, self.known_labels[places], rows, self.source)

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """An encoded image, string, and its label, int32, by its place in the list, int64."""
        # Not a constant: a graph may hold 2 GiB at most.
        encoded = tf.numpy_function(self.encoded, [place], tf.string, stateful=False)
        return tf.ensure_shape(encoded, ()), tf.constant(self.known_labels)[place]


def read_images(
    tables: Sequence[Table],
    image_column: str = "",
    label_column: str = "",
    classes: list[str] | None = None,
    skip_damaged: int = 0,
) -> tuple[ImageFiles | ImageCells, list[str], int]:
    """Reads the images, or their paths, and the classes of the tables that a split consists of.

    Paths are relative to the folder of their table. The images are shuffled once, always in the
    same way, so that any part of them is a random sample.

    Args:
        tables: at least one, of one folder.
        image_column, label_column: empty for the usual names.
        classes: those of the training images, if they are known.
        skip_damaged: how many rows that are damaged or have no label may be left out.

    Returns:
        The images, the names of the classes, and how many rows were left out.

    Raises:
        ValueError: a column is missing, a row is damaged, a file is missing, there is no image, or
            there is a class that is not among `classes`.
    """
    source = tables[0].path
    folder = os.path.dirname(source)

    def columns(table):
        return image_columns(table, image_column, label_column)

    def problem(table, values):
        [image] = values
        if not image:
            return "the image is empty"
        path = os.path.join(folder, image) if isinstance(image, str) else ""
        if path and "://" not in path and not os.path.isfile(path):
            return f"{path} does not exist or is not a file"
        return ""

    rows, left_out = whole_rows(tables, columns, problem, skip_damaged)
    images = [row.values[0] for _, row in rows]
    found, classes = numbered([row.values[1].strip() for _, row in rows], classes, source)
    found = np.array(found, np.int32)
    order = np.random.default_rng(0).permutation(len(images))
    if isinstance(images[0], bytes):
        places = [str(row.number) for _, row in rows]
        return ImageCells(images, found, places, source).at(order), classes, left_out
    # Relative to the table, so that both may be moved.
    below = os.path.join(folder, "") if folder else ""
    paths = [os.path.join(folder, image).removeprefix(below) for image in images]
    entries = [(found[n], paths[n], 0, WHOLE_FILE) for n in order]
    return ImageFiles(ImageList.of(folder, entries)), classes, left_out


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels from 0, for training and for evaluation.

    Attributes:
        store: `ImageFiles`, `ImageCells` or `ImageRecordFiles`, where they are.
        views: `ImageViews`, how they are cropped, augmented and mixed.
    """

    store: ImageFiles | ImageCells | ImageRecordFiles
    views: ImageViews

    @property
    def count(self) -> int:
        """How many images there are."""
        return self.store.count

    @property
    def sha256(self) -> str:
        """Identifies the images."""
        return self.store.sha256

    def class_counts(self, classes: int) -> np.ndarray | None:
        """How many images of each class there are; None for records, which would be read."""
        labels = self.store.known_labels
        return None if labels is None else np.bincount(labels, minlength=classes)

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each image; bytes of a name that are not UTF-8 are escaped."""
        for about in self.store.descriptions():
            yield {key: printable(name) for key, name in about.items()}

    def part(self, ranges: list[tuple[int, int]]) -> "LabelledImages":
        """Some of the images: ascending ranges of indices, their ends excluded."""
        return dataclasses.replace(self, store=self.store.part(ranges))

    def training(self, seed, step, batch, context=None):
        """Endless dataset of batches from a step on.

        Every image comes once per epoch, in an order that depends on (seed, epoch) alone.

        Args:
            seed: int.
            step: int, the step of the first batch.
            batch: int, images per step over all replicas.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            `tf.data.Dataset` of dicts: `images` and `labels` and, if images are mixed,
            `mix_labels` and `mix_weights`; see `image_views.ImageViews.training`.
        """
        stream = self.views.training(
            self.store, seed, step * batch, share(batch, context), shard(context)
        )
        return host_stream(
            stream.map(lambda b: {name.removeprefix("image_"): b[name] for name in b})
        )

    def evaluation(self, batch, context=None):
        """Dataset of a host's share of the images, each once.

        Args:
            batch: int, images per step over all replicas.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            `tf.data.Dataset` of dicts: `images`, `labels`, `numbers` (their indices, -1 where the
            last batch is padded) and `weights` (0 there).
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

    def evaluation_batches(self, batch: int) -> int:
        """The number of steps of an evaluation."""
        return -(-self.count // batch)


def require_batch(images: LabelledImages, batch: int, source: str) -> None:
    """Refuses fewer images than one step takes.

    Raises:
        ValueError: names `source`, where they come from.
    """
    if images.count < batch:
        raise ValueError(
            f"{source}: holds {images.count:,} training images, fewer than one step takes (batch "
            f"is {batch})"
        )
