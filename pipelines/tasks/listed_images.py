"""Images of a downstream task by their place in a list: files of a folder or a table, or cells.

Listing takes no TensorFlow, so that bad data are reported at once; reading in a graph does.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.digests import sampled_digest
from pipelines.files import printable
from pipelines.images import image_sources
from pipelines.images.image_sources import WHOLE_FILE, ImageList, entry_file, entry_name, read_entry
from pipelines.tasks.labelled_rows import image_columns, numbered, whole_rows
from pipelines.tasks.tables import Table

if TYPE_CHECKING:
    import tensorflow as tf

_SAMPLED_FILES = 1_000
_FILE_THREADS = 16  # they wait for the disk or the network
_SAMPLED_BYTES = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class ListedImages:
    """Images by their place in a list: files of a folder or a table, or cells of a table."""

    images: ImageList  # in the order of evaluation; of cells: the table and its rows
    cells: list[bytes] | None = None  # encoded, in memory; None for files
    keys: Sequence[int] = ()  # equal images have equal ones; empty where nobody compared them

    @classmethod
    def find(cls, folder: str, classes: list[str] | None = None) -> tuple[ListedImages, list[str]]:
        """Lists a folder, local or `gs://`; returns also the classes.

        The list is shuffled once, always in the same way, so any part of it is a random sample.
        """
        images, classes = image_sources.list_folder(folder, classes)
        return cls(images.shuffle(seed=0)), classes

    @property
    def count(self) -> int:
        return len(self.images)

    @property
    def texts(self) -> Sequence[str]:
        return ()

    @property
    def known_labels(self) -> np.ndarray:
        """Labels, int32."""
        return self.images.entries["label"]

    @functools.cached_property
    def sha256(self) -> str:
        """Of all labels, of the names or sizes, and of the size and ends of 1,000 images."""
        sampled = range(0, self.count, -(-self.count // _SAMPLED_FILES))
        if self.cells is None:
            digest = hashlib.sha256(self.images.digest().encode())
            with concurrent.futures.ThreadPoolExecutor(_FILE_THREADS) as threads:
                for one in threads.map(sampled_digest, map(self.where, sampled)):
                    digest.update(one.encode())
            return digest.hexdigest()
        digest = hashlib.sha256(self.known_labels.tobytes())
        digest.update(self.images.entries["size"].tobytes())
        for place in sampled:
            digest.update(self.cells[place][:_SAMPLED_BYTES])
            digest.update(self.cells[place][-_SAMPLED_BYTES:])
        return digest.hexdigest()

    def name(self, place: int) -> str:
        """The path of an image within the folder, or its row."""
        return entry_name(self.images.entries[place])

    def where(self, place: int) -> str:
        """The path of an image, or its table and row."""
        if self.cells is None:
            return entry_file(self.images.source, self.images.entries[place])
        return f"{self.images.source}, row {self.name(place)}"

    def encoded(self, place: int) -> bytes:
        if self.cells is None:
            return read_entry(self.images.source, self.images.entries[place])
        return self.cells[place]

    def size(self, place: int) -> int:
        """The bytes of an image."""
        path = self.where(place)
        return os.path.getsize(path) if self.cells is None else len(self.cells[place])

    def example_name(self, place: int) -> str:
        """The path of an image within the folder, or its row."""
        return printable(self.name(place)) if self.cells is None else f"row {self.name(place)}"

    def class_names(self, classes: Sequence[str]) -> Sequence[str]:
        """The class of each image."""
        return [classes[int(label)] for label in self.known_labels]

    def part(self, ranges: list[tuple[int, int]]) -> ListedImages:
        """Some of the images: ascending ranges of indices, their ends excluded."""
        return self.take(np.concatenate([np.arange(begin, end) for begin, end in ranges]))

    def take(self, places: np.ndarray) -> ListedImages:
        """Some of the images, by their indices."""
        images = dataclasses.replace(self.images, entries=self.images.entries[places])
        cells = self.cells and [self.cells[place] for place in places]
        return ListedImages(images, cells, self.keys and [self.keys[place] for place in places])

    def elements(self, seed: int, start: int, shard: tuple[int, int]) -> tf.data.Dataset:
        """The endless shuffled stream of a host: (number, place in the list).

        `start` is counted over all hosts; `shard` is (number of hosts, index of this one).
        """
        import tensorflow as tf

        from pipelines.shards.streams import index_shuffle

        hosts, host = shard
        first = start + (host - start) % hosts

        def element(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            epoch, place = number // self.count, tf.math.floormod(number, self.count)
            key = tf.stack([tf.cast(seed, tf.int64), epoch])
            key = tf.random.stateless_uniform((2,), key, 1, 2**61, dtype=tf.int64)
            return number, index_shuffle(place, key, self.count - 1)

        return tf.data.Dataset.range(first, 2**62, hosts).map(element)

    def names(self, seed: int, start: int, count: int) -> list[str]:
        """The names of the images behind some elements of the shuffled stream."""
        places = self.elements(seed, start, (1, 0)).take(count).as_numpy_iterator()
        return [self.name(place) for _, place in places]

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each image."""
        column = "path" if self.cells is None else "row"
        return ({column: self.name(place)} for place in range(self.count))

    def in_order(self, begin: int, end: int | None) -> tf.data.Dataset:
        """Places from `begin` to `end`, excluded, in the order of the list: int64."""
        import tensorflow as tf

        return tf.data.Dataset.range(begin, self.count if end is None else end)

    @functools.cached_property
    def _tensors(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Labels, and of files the paths."""
        import tensorflow as tf

        paths = [] if self.cells else [os.fsencode(self.where(n)) for n in range(self.count)]
        with tf.init_scope():  # it may first be requested while a graph is being built
            return tf.constant(self.known_labels), tf.constant(paths, tf.string)

    def read(self, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """An encoded image, string, and its label, int32, by its place in the list, int64."""
        import tensorflow as tf

        labels, paths = self._tensors
        if self.cells is None:
            return tf.io.read_file(paths[place]), labels[place]
        # Not a constant: a graph may hold 2 GiB at most.
        encoded = tf.numpy_function(self.encoded, [place], tf.string, stateful=False)
        return tf.ensure_shape(encoded, ()), labels[place]

    def to_labels(self, stored: tf.Tensor) -> tf.Tensor:
        """Labels from 0, which is how they are stored."""
        return stored

    def first_damage(self) -> str | None:
        """What is wrong with the first image that does not decode, and where it is; or None."""
        from pipelines.images import jpeg

        for place in range(self.count):
            try:
                jpeg.to_rgb_jpeg(self.encoded(place))
            except (OSError, jpeg.DamagedImage) as error:
                return f"{self.where(place)}: {error}"
        return None


def read_images(
    tables: Sequence[Table],
    image_column: str = "",
    label_column: str = "",
    classes: list[str] | None = None,
    skip_damaged: int = 0,
) -> tuple[ListedImages, list[str], list[str]]:
    """Reads the images, or their paths, and the classes of the tables of a split.

    Paths are relative to the folder of the tables. The images are shuffled once, always in the same
    way, so that any part of them is a random sample.

    Args:
        image_column, label_column: empty for the usual names.
        classes: those of the training images, if they are known.
        skip_damaged: how many rows that are damaged or have no label may be left out.

    Returns:
        The images, the names of the classes, and what is wrong with each row that is left out.
    """
    source = tables[0].path
    folder = os.path.dirname(source)

    def columns(table: Table) -> list[str]:
        return image_columns(table, image_column, label_column)

    def problem(table: Table, values: list[Any]) -> str:
        [image] = values
        if not image:
            return "the image is empty"
        path = os.path.join(folder, image) if isinstance(image, str) else ""
        if path and "://" not in path and not os.path.isfile(path):
            return f"{path} does not exist or is not a file"
        return ""

    rows, left_out = whole_rows(tables, columns, problem, skip_damaged)
    images = [row.values[0] for _, row in rows]
    labels, classes = numbered([row.values[1].strip() for _, row in rows], classes, source)
    order = np.random.default_rng(0).permutation(len(images))
    if isinstance(images[0], bytes):
        entries = [(labels[n], str(rows[n][1].number), 0, len(images[n])) for n in order]
        cells = [images[n] for n in order]
        return ListedImages(ImageList.from_rows(source, entries), cells), classes, left_out
    # Relative to the table, so that both may be moved.
    below = os.path.join(folder, "") if folder else ""
    paths = [os.path.join(folder, image).removeprefix(below) for image in images]
    entries = [(labels[n], paths[n], 0, WHOLE_FILE) for n in order]
    return ListedImages(ImageList.from_rows(folder, entries)), classes, left_out
