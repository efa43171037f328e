"""Writes ImageNet-format shards from encoded images, each decoded in full as a check."""

import abc
import collections
import concurrent.futures
import contextlib
import dataclasses
import hashlib
import os
from typing import Any

from pipelines.cores import available_cores
from pipelines.files import write_atomically
from pipelines.images import jpeg
from pipelines.images.image_records import LABEL_OFFSET, jpeg_example
from pipelines.images.image_sources import StoredList, entry_name, read_entry
from pipelines.prepare.jobs import ShardJob
from pipelines.shards import shard_files
from pipelines.shards.shard_manifest import IMAGES

SHARDS = {"train": 1024, "validation": 128}  # of ImageNet
MIN_IMAGES_PER_SHARD = 300  # smaller sets get fewer shards
_MAX_THREADS = 8


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """An image before it is checked.

    Attributes:
        name: str, its name in its source.
        label: int, from 0.
        read: callable without arguments that returns the file's bytes, or raises `OSError`.
    """

    name: str
    label: int
    read: collections.abc.Callable


class ImageShardsJob(ShardJob, abc.ABC):
    """Shard s of n holds the s-th of n equal parts of the images.

    Attributes:
        source: str, what messages name: a file or a folder.
        split: str, `train` or `validation`.
        classes: tuple of str, the names of the classes in order.
        count: int, how many images there are.
    """

    kind, unit = IMAGES, "images"
    source: str
    split: str
    classes: tuple[str, ...]
    count: int

    @abc.abstractmethod
    def images(self, start, stop):
        """Some of the images.

        Args:
            start, stop: int, indices; `stop` is excluded.

        Yields:
            `LabelledImage`, in order.
        """

    def size(self):
        return default_shards(self.split, self.count), self.count, "images"

    def settings(self):
        names = "".join(f"{name}\n" for name in self.classes)
        return {
            "images": self.count,
            "label_offset": LABEL_OFFSET,
            "num_classes": len(self.classes),
            "classes_sha256": hashlib.sha256(names.encode()).hexdigest(),
            "jpeg_quality": jpeg.QUALITY,  # of converted images
        }

    def write_shard(self, shard, shards, file):
        counts = {"images": 0, **{f"converted_{kind}": 0 for kind in jpeg.KINDS}}
        damaged = []
        part = self.images(shard * self.count // shards, (shard + 1) * self.count // shards)
        for image, result in _in_parallel(_checked, part):
            if isinstance(result, str):
                damaged.append({"file": self.source, "record": image.name, "reason": result})
                continue
            if result.converted_from:
                counts[f"converted_{result.converted_from}"] += 1
            example = jpeg_example(result, image.label + LABEL_OFFSET)
            example["image/class/synset"] = self.classes[image.label]
            example["image/filename"] = os.fsencode(os.path.basename(image.name))
            file.write(shard_files.to_example(example))
            counts["images"] += 1
        return counts, damaged


@dataclasses.dataclass(frozen=True)
class ListedImagesJob(ImageShardsJob):
    """The images of a list that is stored in a file, in the order of the list.

    Attributes:
        stored: `StoredList`.
        digest: str, of the list.
        classes, count: see `ImageShardsJob`.
        made_by: dict, the settings that determined the list, for the manifest.
    """

    stored: StoredList
    digest: str
    classes: tuple[str, ...]
    count: int
    made_by: dict[str, Any]

    @property
    def source(self):
        return self.stored.source

    @property
    def split(self):
        return self.made_by["split"]

    def settings(self):
        return {**super().settings(), **self.made_by, "list_sha256": self.digest}

    def images(self, start, stop):
        for entry in self.stored.part(start, stop).entries:
            yield LabelledImage(
                entry_name(entry),
                int(entry["label"]),
                lambda entry=entry: read_entry(self.stored.source, entry),
            )


def default_shards(split: str, count: int) -> int:
    """How many shards a split of some images has by default."""
    return max(1, min(SHARDS[split], count // MIN_IMAGES_PER_SHARD))


def write_classes(output: str, classes: list[str]) -> None:
    """Writes `classes.txt`, one class per line; refuses an existing one with other classes."""
    import tensorflow as tf

    path = os.path.join(output, "classes.txt")
    text = "".join(f"{name}\n" for name in classes)
    if not tf.io.gfile.exists(path):
        write_atomically(path, text)
        return
    with tf.io.gfile.GFile(path) as stream:
        if stream.read() != text:
            raise ValueError(
                f"{path}: does not list the {len(classes):,} classes of these images; write "
                "elsewhere"
            )


@contextlib.contextmanager
def listed_job(images, classes, settings, folder):
    """Keeps a list in a file for the workers of a job while the block runs.

    Args:
        images: `ImageList`, in the order of the shards.
        classes: list of str.
        settings: dict, what determined the list.
        folder: str, local or `gs://`, of the file.

    Yields:
        `ListedImagesJob`.
    """
    with images.stored(folder) as stored:
        yield ListedImagesJob(stored, images.digest(), tuple(classes), len(images), settings)


def _checked(image):
    """The `RgbJpeg` of an image, or the reason why there is none."""
    try:
        return jpeg.to_rgb_jpeg(image.read())
    except jpeg.DamagedImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def _in_parallel(function, items):
    """Yields (item, function(item)) in order; threads compute a few ahead of time.

    Reading waits and decoding releases Python's lock, so threads use all cores. If there is a
    process for each core, they read ahead.
    """
    threads = min(available_cores(), _MAX_THREADS)
    ahead = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        for item in items:
            ahead.append((item, executor.submit(function, item)))
            if len(ahead) > 2 * threads:
                item, future = ahead.popleft()
                yield item, future.result()
        for item, future in ahead:
            yield item, future.result()
