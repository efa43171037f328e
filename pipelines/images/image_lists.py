"""The images of a tar file or a folder as a list: the class of each, and where its bytes lie.

The list of ImageNet has 1.28 million entries. It is made once, shuffled, and written to a file of
equal-sized entries. A worker reads the part that its shard needs.
"""

import contextlib
import dataclasses
import hashlib
import os
import uuid

import numpy as np
import tensorflow as tf

from pipelines.files import open_binary

WHOLE_FILE = -1  # the size of an entry that is a file of its own


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Labelled images and where they lie.

    Attributes:
        source: str, a tar file or a folder, local or `gs://`.
        entries: structured array: `label` from 0, `offset` and `size` in bytes within the tar file
            (size is `WHOLE_FILE` in a folder), `name` of the member, or path within the folder.
    """

    source: str
    entries: np.ndarray

    @classmethod
    def of(cls, source, images):
        """Makes a list.

        Args:
            source: str, a tar file or a folder, local or `gs://`.
            images: list of (label, name, offset, size), see above.

        Returns:
            `ImageList`.
        """
        width = max((len(os.fsencode(name)) for _, name, *_ in images), default=1)
        rows = ((label, *place, os.fsencode(name)) for label, name, *place in images)
        return cls(source, np.fromiter(rows, _entry_type(width), len(images)))

    def __len__(self):
        return len(self.entries)

    def shuffled(self, seed):
        """The same list in an order that depends on its length and the seed alone.

        Args:
            seed: int, or sequence of int.

        Returns:
            `ImageList`.
        """
        return dataclasses.replace(
            self, entries=self.entries[np.random.default_rng(seed).permutation(len(self))]
        )

    def digest(self):
        """SHA-256 of the entries in their order; neither the path nor the images are part of it."""
        return hashlib.sha256(self.entries.tobytes()).hexdigest()

    @contextlib.contextmanager
    def stored(self, folder):
        """Keeps the list in a file while the block runs.

        Args:
            folder: str, the folder of the file, local or `gs://`.

        Yields:
            `StoredList`.
        """
        path = os.path.join(folder, f"images-{uuid.uuid4().hex}.list")
        tf.io.gfile.makedirs(folder)
        try:
            with tf.io.gfile.GFile(path, "wb") as stream:
                stream.write(self.entries.tobytes())
            yield StoredList(self.source, path, self.entries.dtype["name"].itemsize)
        finally:
            if tf.io.gfile.exists(path):
                tf.io.gfile.remove(path)
            if tf.io.gfile.isdir(folder) and not tf.io.gfile.listdir(folder):
                tf.io.gfile.rmtree(folder)


@dataclasses.dataclass(frozen=True)
class StoredList:
    """An `ImageList` in a file at `path`, with names of `name_bytes`."""

    source: str
    path: str
    name_bytes: int

    def part(self, start, stop):
        """A part of the list.

        Args:
            start, stop: int, indices; `stop` is excluded.

        Returns:
            `ImageList`.
        """
        kind = _entry_type(self.name_bytes)
        data = read_bytes(self.path, start * kind.itemsize, (stop - start) * kind.itemsize)
        return ImageList(self.source, np.frombuffer(data, kind))


def entry_name(entry):
    """The name of an entry as str."""
    return os.fsdecode(bytes(entry["name"]))


def entry_file(source, entry):
    """The file that holds an entry.

    Args:
        source: str, of the `ImageList`.
        entry: one of its entries.

    Returns:
        str, the path.
    """
    return os.path.join(source, entry_name(entry)) if entry["size"] == WHOLE_FILE else source


def read_entry(source, entry):
    """The bytes of an image.

    Args:
        source: str, of the `ImageList`.
        entry: one of its entries.

    Returns:
        bytes, the image file.

    Raises:
        OSError: they cannot be read.
    """
    return read_bytes(entry_file(source, entry), int(entry["offset"]), int(entry["size"]))


def read_bytes(path, offset=0, size=WHOLE_FILE):
    """Reads a part of a file.

    Args:
        path: str, local or `gs://`.
        offset: int, where the part begins.
        size: int, its bytes; `WHOLE_FILE` for all that follow.

    Returns:
        bytes.

    Raises:
        OSError: the file cannot be read, or ends too early.
    """
    try:
        with open_binary(path) as stream:
            stream.seek(offset)
            data = stream.read(size)
    except tf.errors.OpError as error:
        raise OSError(error.message) from error
    if size not in (WHOLE_FILE, len(data)):
        raise OSError(f"{path} has {offset + len(data)} bytes, expected {offset + size}")
    return data


def _entry_type(name_bytes):
    return np.dtype(
        [("label", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("name", f"S{name_bytes}")]
    )
