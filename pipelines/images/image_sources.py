"""Finds the images of ImageNet's two tar files, and those of folders with one folder per class.

Only the headers of the tar files are read: an image is found by its place in the file, and nothing
is unpacked. Classes are numbered in the order of their names, as ImageNet's are.

The list of ImageNet has 1.28 million entries. It is made once, shuffled, and written to a file of
equal-sized entries. A worker reads the part that its shard needs.
"""

import contextlib
import dataclasses
import hashlib
import itertools
import os
import tarfile
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.command_line import say
from pipelines.files import open_binary, reading, walk
from pipelines.images import SUFFIXES
from pipelines.package_data import find_package_file

_VALIDATION_LABELS = "datasets/imagenet2012/validation_labels.txt"
_CLASSES = "datasets/imagenet2012/labels.txt"
WHOLE_FILE = -1  # the size of an entry that is a file of its own


@dataclasses.dataclass(frozen=True)
class ImageList:
    """Labelled images and where they lie."""

    source: str  # a tar file or a folder, local or `gs://`
    # Structured: `label` from 0, `offset` and `size` in bytes within the tar file (size is
    # `WHOLE_FILE` in a folder), `name` of the member, or path within the folder.
    entries: np.ndarray

    @classmethod
    def from_rows(cls, source: str, images: Sequence[tuple[int, str, int, int]]) -> "ImageList":
        """Makes a list of (label, name, offset, size)."""
        width = max((len(os.fsencode(name)) for _, name, *_ in images), default=1)
        rows = ((label, *place, os.fsencode(name)) for label, name, *place in images)
        return cls(source, np.fromiter(rows, _entry_type(width), len(images)))

    def __len__(self) -> int:
        return len(self.entries)

    def shuffle(self, seed: int | tuple[int, ...]) -> "ImageList":
        """The same list in an order that depends on its length and the seed alone."""
        order = np.random.default_rng(seed).permutation(len(self))
        return ImageList(self.source, self.entries[order])

    def digest(self) -> str:
        """SHA-256 of the entries in their order; neither the path nor the images are part of it."""
        return hashlib.sha256(self.entries.tobytes()).hexdigest()

    @contextlib.contextmanager
    def store_in(self, folder: str) -> Iterator["StoredList"]:
        """Keeps the list in a file in a folder, local or `gs://`, while the block runs."""
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

    def part(self, start: int, stop: int) -> ImageList:
        """The list from `start` to `stop`, excluded."""
        kind = _entry_type(self.name_bytes)
        data = read_bytes(self.path, start * kind.itemsize, (stop - start) * kind.itemsize)
        return ImageList(self.source, np.frombuffer(data, kind))


def entry_name(entry: np.void) -> str:
    """The name of an entry as str."""
    return os.fsdecode(bytes(entry["name"]))


def entry_file(source: str, entry: np.void) -> str:
    """The file that holds an entry of a source."""
    return os.path.join(source, entry_name(entry)) if entry["size"] == WHOLE_FILE else source


def read_entry(source: str, entry: np.void) -> bytes:
    """The image file of an entry of a source; an `OSError` if it cannot be read."""
    return read_bytes(entry_file(source, entry), int(entry["offset"]), int(entry["size"]))


def read_bytes(path: str, offset: int = 0, size: int = WHOLE_FILE) -> bytes:
    """Reads a part of a file, local or `gs://`; an `OSError` if it ends too early."""
    remote_errors: Any = ()  # local files need no TensorFlow
    if "://" in path:
        import tensorflow as tf

        remote_errors = tf.errors.OpError
    try:
        with open_binary(path) as stream:
            stream.seek(offset)
            data = stream.read(size)
    except remote_errors as error:
        raise OSError(error.message) from error
    if size not in (WHOLE_FILE, len(data)):
        raise OSError(f"{path} has {offset + len(data)} bytes, expected {offset + size}")
    return data


def _entry_type(name_bytes: int) -> np.dtype:
    return np.dtype(
        [("label", "<i4"), ("offset", "<i8"), ("size", "<i8"), ("name", f"S{name_bytes}")]
    )


def find_images(
    source: str, splits: dict[str, str], validation_labels: str | None = None
) -> tuple[dict[str, ImageList], list[str]]:
    """Lists the images of tar files or folders; returns the list of each split and the classes.

    Args:
        source: `tar` or `folder`.
        splits: `train` and `validation`, or one of them, to a path.
        validation_labels: see `list_validation_tar`.
    """
    lists: dict[str, ImageList] = {}
    classes: list[str] | None = None
    for split, path in splits.items():
        if source == "folder":
            lists[split], classes = list_folder(path, classes)
        elif split == "train":
            lists[split], classes = list_train_tar(path)
        else:
            lists[split], classes = list_validation_tar(path, validation_labels, classes)
        if not len(lists[split]):
            raise ValueError(f"{path}: holds no images")
        say(f"{path}: {len(lists[split]):,} images of {len(classes):,} classes")
    return lists, classes or []


def check_sources(
    source: str, splits: dict[str, str], validation_labels: str | None = None
) -> None:
    """Refuses missing sources before the first one is listed, which may take minutes."""
    import tensorflow as tf

    for path in [*splits.values(), *filter(None, [validation_labels])]:
        tf.io.gfile.stat(path)


def find_folders(folder: str) -> dict[str, str]:
    """The folders of `train` and `validation`, or one of them, in a folder, local or `gs://`."""
    import tensorflow as tf

    names = {"train": "train", "val": "validation", "validation": "validation"}
    there = [name for name in names if tf.io.gfile.isdir(os.path.join(folder, name))]
    if not there or {"val", "validation"} <= set(there):
        raise ValueError(f"{folder}: expected train and val (or validation), found {there}")
    return {names[name]: os.path.join(folder, name) for name in there}


def list_train_tar(path: str) -> tuple[ImageList, list[str]]:
    """The images and classes of `ILSVRC2012_img_train.tar`: one tar file per class."""
    archives = _members(path)
    archives.sort(key=lambda archive: os.path.basename(archive[0]))
    classes = [os.path.basename(name).removesuffix(".tar") for name, *_ in archives]
    _check_names(classes, path)
    images = [
        (label, *image)
        for label, archive in enumerate(archives)
        for image in _members(path, *archive)
    ]
    return ImageList.from_rows(path, images), classes


def list_validation_tar(
    path: str, labels_path: str | None = None, classes: list[str] | None = None
) -> tuple[ImageList, list[str]]:
    """The images and classes of `ILSVRC2012_img_val.tar`, whose labels come from another file.

    Args:
        labels_path: a file with one class name per line, in the order of the images' names. By
            default the one that comes with tensorflow-datasets.
        classes: those of the training images, if they are known.
    """
    images = sorted(_members(path))
    if labels_path:
        labels, known = _lines(labels_path), classes
    else:
        labels_path = find_package_file("tensorflow_datasets", _VALIDATION_LABELS)
        labels = _lines(labels_path)
        known = classes or _lines(find_package_file("tensorflow_datasets", _CLASSES))
    if len(labels) != len(images):
        raise ValueError(
            f"{path} holds {len(images):,} images, {labels_path} {len(labels):,} labels"
        )
    if known is None:
        known = sorted(set(labels))
        _check_names(known, labels_path)
    numbers = {name: label for label, name in enumerate(known)}
    for line, name in enumerate(labels, 1):
        if name not in numbers:
            raise ValueError(
                f"{labels_path}, line {line}: {name!r} is not one of the {len(known):,} classes "
                f"({known[0]} to {known[-1]})"
            )
    images = [(numbers[name], *image) for name, image in zip(labels, images, strict=True)]
    return ImageList.from_rows(path, images), list(known)


def list_folder(path: str, classes: list[str] | None = None) -> tuple[ImageList, list[str]]:
    """The images and classes of a folder, local or `gs://`, that holds one folder per class.

    Names that begin with a dot and files without the suffix of an image are left out. Images may
    lie in folders within a class's folder. `classes` are those of the training images, if known.
    """
    images: dict[str, list[str]] = {}
    for folder, folders, files in walk(path):
        folders[:] = sorted(name.rstrip("/") for name in folders if not name.startswith("."))
        if folder.rstrip("/") == path.rstrip("/"):
            images = {name: [] for name in folders}
            continue
        below = os.path.relpath(folder, path)
        images[below.split("/")[0]] += (
            f"{below}/{name}"
            for name in sorted(files)
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )
    if not images:
        raise ValueError(f"{path}: holds no folder; give one that holds one folder per class")
    _check_names(images, path)
    classes = list(images if classes is None else classes)
    numbers = {name: label for label, name in enumerate(classes)}
    for name, files in images.items():
        if name not in numbers:
            raise ValueError(
                f"{path}: {name!r} is not one of the {len(classes):,} classes of the training "
                "images"
            )
        if not files:
            raise ValueError(f"{path}: the class {name!r} has no image ({', '.join(SUFFIXES)})")
    entries = [
        (numbers[name], file, 0, WHOLE_FILE) for name, files in images.items() for file in files
    ]
    return ImageList.from_rows(path, entries), classes


def _members(
    path: str, archive: str = "", start: int = 0, size: int | None = None
) -> list[tuple[str, int, int]]:
    """The files of a tar file as (name, offset, size), from its headers alone.

    `archive` is the name of a tar file within the one at `path`, to list that instead; `start` and
    `size` are its place.
    """
    members, is_whole = [], False
    try:
        with reading(path) as (stream, end):
            stop = end if size is None else start + size
            stream.seek(start)
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                for member in tar:
                    if not 0 <= member.size <= stop - member.offset_data:
                        break
                    if member.isfile():
                        members.append((member.name, member.offset_data, member.size))
                    # It would keep them all.
                    tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                else:
                    # Python mistakes a damaged header, or the end of the file, for the end of the
                    # tar file, which blocks of zeros mark.
                    stream.seek(tar.offset)
                    block = stream.read(tarfile.BLOCKSIZE)
                    is_whole = tar.offset < stop and block == bytes(tarfile.BLOCKSIZE)
    except (tarfile.TarError, EOFError):
        pass
    if not is_whole:
        name = f"{path}: {archive}" if archive else path
        raise ValueError(f"{name}: is cut short, damaged, or no tar file without compression")
    return members


def _lines(path: str) -> list[str]:
    """The lines of a text file without the empty ones at its end."""
    try:
        return [line.strip() for line in read_bytes(path).decode().rstrip().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8") from error


def _check_names(classes: Iterable[str], source: str) -> None:
    """Refuses names that cannot be lines of a text file, and names that are not unique."""
    for name, following in itertools.pairwise([*classes, ""]):
        if name and name == following:
            raise ValueError(f"{source}: the class {name!r} occurs twice")
        if name != name.strip() or not name.isprintable() or not name:
            raise ValueError(
                f"{source}: {name!r} names a class; use printable characters, without a line break "
                "and without spaces around them"
            )
