"""The images of a tar file or a folder as a list: which class, and where the bytes lie.

The list of ImageNet has 1.28 million entries. It is made once, shuffled, and written to one file of
entries of equal size; who makes a shard reads that shard's part of it.
"""

import contextlib
import dataclasses
import hashlib
import os
import uuid

import numpy as np

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
    def of(cls, source, parts):
        """Joins `(label, names, offsets, sizes)`, where names, offsets and sizes are lists."""
        parts = [part for part in parts if part[1]]
        names = [np.array([os.fsencode(name) for name in part[1]]) for part in parts]
        width = max((array.dtype.itemsize for array in names), default=1)
        entries = np.zeros(sum(map(len, names)), _entry_type(width))
        start = 0
        for (label, _, offsets, sizes), array in zip(parts, names, strict=True):
            part = entries[start : start + len(array)]
            part["label"], part["offset"], part["size"], part["name"] = label, offsets, sizes, array
            start += len(array)
        return cls(source, entries)

    def __len__(self):
        return len(self.entries)

    def shuffled(self, seed):
        """The same list in an order that depends on its length and the seed alone."""
        return dataclasses.replace(
            self, entries=self.entries[np.random.default_rng(seed).permutation(len(self))]
        )

    def digest(self):
        """SHA-256 of the entries in their order; neither the path nor the images are part of it."""
        return hashlib.sha256(self.entries.tobytes()).hexdigest()

    @contextlib.contextmanager
    def stored(self, folder):
        """Gives a `StoredList`: a file in `folder`, local or `gs://`, as long as the block runs."""
        import tensorflow as tf

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
        """The entries `start` to `stop` as an `ImageList`."""
        kind = _entry_type(self.name_bytes)
        data = read_bytes(self.path, start * kind.itemsize, (stop - start) * kind.itemsize)
        return ImageList(self.source, np.frombuffer(data, kind))


def entry_name(entry):
    """The name of an entry as str."""
    return os.fsdecode(bytes(entry["name"]))


def entry_file(source, entry):
    """The file that holds an entry."""
    return os.path.join(source, entry_name(entry)) if entry["size"] == WHOLE_FILE else source


def read_entry(source, entry):
    """The bytes of an image.

    Raises:
        OSError: they cannot be read.
    """
    return read_bytes(entry_file(source, entry), int(entry["offset"]), int(entry["size"]))


def read_bytes(path, offset=0, size=WHOLE_FILE):
    """Reads `size` bytes at `offset` of a file, local or `gs://`.

    Raises:
        OSError: the file cannot be read, or ends before.
    """
    with open_binary(path) as stream:
        stream.seek(offset)
        data = stream.read(size)
    if size not in (WHOLE_FILE, len(data)):
        raise OSError(f"{path} has {offset + len(data)} bytes, expected {offset + size}")
    return data


def open_binary(path):
    """Opens a file for reading, local or `gs://`. Failures are `OSError`, now or in reading."""
    if "://" not in path:
        return open(path, "rb")  # TensorFlow's own would read half a megabyte for each header
    return _RemoteFile(path)


class _RemoteFile:
    """`tf.io.gfile.GFile` for reading, with the exceptions of Python's files."""

    def __init__(self, path):
        import tensorflow as tf

        self._errors = tf.errors.OpError
        self._file = tf.io.gfile.GFile(path, "rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def seek(self, position, whence=os.SEEK_SET):
        return self._try(self._file.seek, position, whence)

    def tell(self):
        return self._try(self._file.tell)

    def read(self, size=-1):
        return self._try(self._file.read, size)

    def _try(self, function, *arguments):
        try:
            return function(*arguments)
        except self._errors as error:
            raise OSError(error.message) from error


def _entry_type(name_bytes):
    return np.dtype(
        [("label", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("name", f"S{name_bytes}")]
    )
