"""Stores of labelled images that form a list: files, or the cells of a table.

Records have another store, `pipelines.images.image_record_files.ImageRecordFiles`.
"""

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipelines.digests import sampled_digest
from pipelines.images import image_sources, jpeg
from pipelines.images.image_lists import ImageList, entry_file, entry_name, read_entry

_SAMPLED_FILES = 1_000
_FILE_THREADS = 16  # they wait for the disk or the network
_SAMPLED_BYTES = 1 << 16


class _Listed:
    """Images that are found by their place in a list."""

    column = ""  # in files of predictions: what `name` gives

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


@dataclasses.dataclass(frozen=True, eq=False)
class ImageFiles(_Listed):
    """Image files in a folder that holds one folder per class.

    Attributes:
        images: `ImageList`, in the order of evaluation.
    """

    images: ImageList

    column = "path"

    @classmethod
    def find(cls, folder: str, classes: list[str] | None = None) -> tuple["ImageFiles", list[str]]:
        """Lists a folder, and shuffles the list once, always in the same way.

        So any part of the list is a random sample.

        Args:
            folder: local or `gs://`.
            classes: those of the training images, if they are known.

        Returns:
            The images, and the names of the classes.

        Raises:
            ValueError: there are no images, or there is a class that is not among `classes`.
        """
        images, classes = image_sources.list_folder(folder, classes)
        return cls(images.shuffled(seed=0)), classes

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.images)

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the names and labels of all files, and of the size and ends of 1,000."""
        digest = hashlib.sha256(self.images.digest().encode())
        sampled = self.images.entries[:: -(-self.count // _SAMPLED_FILES)]
        files = [entry_file(self.images.source, entry) for entry in sampled]
        with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
            for sampled in threads.map(sampled_digest, files):
                digest.update(sampled.encode())
        return digest.hexdigest()

    @property
    def known_labels(self) -> np.ndarray:
        """The label of each image: int32 array `(count,)`."""
        return self.images.entries["label"]

    def name(self, place: int) -> str:
        """The path of an image within the folder."""
        return entry_name(self.images.entries[place])

    def part(self, ranges: list[tuple[int, int]]) -> "ImageFiles":
        """Some of the images: ascending ranges of indices, their ends excluded."""
        entries = np.concatenate([self.images.entries[begin:end] for begin, end in ranges])
        return ImageFiles(dataclasses.replace(self.images, entries=entries))

    @functools.cached_property
    def _table(self):
        """Paths and labels as tensors."""
        files = (entry_file(self.images.source, entry) for entry in self.images.entries)
        paths = [os.fsencode(file) for file in files]  # names need not be UTF-8
        with tf.init_scope():  # it may first be requested while a graph is being built
            return tf.constant(paths), tf.constant(self.images.entries["label"], tf.int32)

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """An encoded image, string, and its label, int32, by its place in the list, int64."""
        paths, labels = self._table
        return tf.io.read_file(paths[place]), labels[place]

    def first_damage(self) -> str | None:
        """What is wrong with the first file that does not decode, with its path; or None."""
        for entry in self.images.entries:
            try:
                jpeg.to_rgb_jpeg(read_entry(self.images.source, entry))
            except (OSError, jpeg.DamagedImage) as error:
                return f"{entry_file(self.images.source, entry)}: {error}"
        return None


@dataclasses.dataclass(frozen=True, eq=False)
class ImageCells(_Listed):
    """Encoded images in the cells of a table, in memory.

    Attributes:
        cells: in the order of evaluation.
        labels: int32 array `(count,)`.
        places: where in the table each is: its row.
        source: for messages.
    """

    cells: list[bytes]
    labels: np.ndarray
    places: list[str]
    source: str

    column = "row"

    @property
    def count(self) -> int:
        """How many images there are."""
        return len(self.cells)

    @functools.cached_property
    def sha256(self) -> str:
        """SHA-256 of the labels, of the sizes of all images, and of the ends of 1,000."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels).tobytes())
        digest.update(np.array([len(cell) for cell in self.cells], np.int64).tobytes())
        for cell in self.cells[:: -(-self.count // _SAMPLED_FILES)]:
            digest.update(cell[:_SAMPLED_BYTES])
            digest.update(cell[-_SAMPLED_BYTES:])
        return digest.hexdigest()

    @property
    def known_labels(self) -> np.ndarray:
        """The label of each image: int32 array `(count,)`."""
        return self.labels

    def name(self, place: int) -> str:
        """The row of an image."""
        return self.places[place]

    def part(self, ranges: list[tuple[int, int]]) -> "ImageCells":
        """Some of the images: ascending ranges of indices, their ends excluded."""
        taken = np.concatenate([np.arange(begin, end) for begin, end in ranges])
        cells, places = ([of[i] for i in taken] for of in (self.cells, self.places))
        return dataclasses.replace(self, cells=cells, labels=self.labels[taken], places=places)

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """An encoded image, string, and its label, int32, by its place in the list, int64."""
        # Not a constant: a graph may hold 2 GiB at most.
        encoded = tf.numpy_function(lambda i: self.cells[i], [place], tf.string, stateful=False)
        return tf.ensure_shape(encoded, ()), tf.constant(self.labels)[place]

    def first_damage(self) -> str | None:
        """What is wrong with the first image that does not decode, with its row; or None."""
        for cell, place in zip(self.cells, self.places, strict=True):
            try:
                jpeg.to_rgb_jpeg(cell)
            except jpeg.DamagedImage as error:
                return f"{self.source}, row {place}: {error}"
        return None
