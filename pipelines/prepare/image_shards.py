"""Writes ImageNet-format shards from encoded images, each decoded in full as a check."""

import abc
import collections
import concurrent.futures
import dataclasses
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import tensorflow as tf

from pipelines.command_line import one_line
from pipelines.cores import available_cores
from pipelines.files import write_atomically
from pipelines.images import jpeg
from pipelines.images.image_records import LABEL_OFFSET, jpeg_example
from pipelines.images.image_sources import StoredList, entry_name, read_entry
from pipelines.prepare.jobs import ShardJob, ShardResult
from pipelines.shards import shard_files
from pipelines.shards.shard_manifest import IMAGES

SHARDS = {"train": 1024, "validation": 128}  # of ImageNet
MIN_IMAGES_PER_SHARD = 300  # smaller sets get fewer shards
TFDS_NAME = "imagenet2012"
_MAX_THREADS = 8


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """An image before it is checked."""

    name: str  # in its source
    label: int  # from 0
    read: Callable[[], bytes]  # or raises `OSError`


class ImageShardsJob(ShardJob, abc.ABC):
    """Shard s of n holds the s-th of n equal parts of the images."""

    kind, unit = IMAGES, "images"
    classes: tuple[str, ...]
    count: int  # of images

    @property
    @abc.abstractmethod
    def source(self) -> str:
        """What messages name: a file or a folder."""

    @abc.abstractmethod
    def images(self, start: int, stop: int) -> Iterator[LabelledImage]:
        """Yields the images from one index up to another, in order."""

    def size(self) -> tuple[int, int, str]:
        automatic = min(SHARDS[self.settings()["split"]], self.count // MIN_IMAGES_PER_SHARD)
        return automatic, self.count, "images"

    def settings(self) -> dict[str, Any]:
        names = "".join(f"{name}\n" for name in self.classes)
        return {
            "images": self.count,
            "label_offset": LABEL_OFFSET,
            "num_classes": len(self.classes),
            "classes_sha256": hashlib.sha256(names.encode()).hexdigest(),
            "jpeg_quality": jpeg.QUALITY,  # of converted images
        }

    def write_shard(self, shard: int, shards: int, file: shard_files.LineFile) -> ShardResult:
        counts = {"images": 0, **{f"converted_{kind}": 0 for kind in jpeg.KINDS}}
        damaged = []
        own = self.images(shard * self.count // shards, (shard + 1) * self.count // shards)
        for image, result in _in_parallel(_check, own):
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
    """The images of a list that is stored in a file, in the order of the list."""

    stored: StoredList
    digest: str  # of the list
    classes: tuple[str, ...]
    count: int
    made_by: dict[str, Any]  # the settings that determined the list, for the manifest

    @property
    def source(self) -> str:
        return self.stored.source

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), **self.made_by, "list_sha256": self.digest}

    def images(self, start: int, stop: int) -> Iterator[LabelledImage]:
        for entry in self.stored.part(start, stop).entries:
            yield LabelledImage(
                entry_name(entry),
                int(entry["label"]),
                lambda entry=entry: read_entry(self.stored.source, entry),
            )


@dataclasses.dataclass(frozen=True)
class TfdsImagesJob(ImageShardsJob):
    """A split of `imagenet2012` as TensorFlow Datasets prepared it, in its order.

    TFDS shuffled the images then, and converted CMYK and PNG images.
    """

    data_dir: str  # local or `gs://`
    version: str  # of the data set
    split: str
    classes: tuple[str, ...]
    count: int

    @property
    def source(self) -> str:
        return os.path.join(self.data_dir, TFDS_NAME, self.version)

    def settings(self) -> dict[str, Any]:
        own = {"source": "tfds", "tfds": f"{TFDS_NAME}:{self.version}", "split": self.split}
        return {**super().settings(), **own}

    def images(self, start: int, stop: int) -> Iterator[LabelledImage]:
        if start == stop:
            return
        import tensorflow_datasets as tfds

        range_ = tfds.core.ReadInstruction(self.split, from_=start, to=stop, unit="abs")
        dataset = open_builder(self.data_dir, self.version).as_dataset(
            split=range_, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()}
        )
        try:
            for example in dataset.as_numpy_iterator():
                yield LabelledImage(
                    example["file_name"].decode(),
                    int(example["label"]),
                    lambda example=example: example["image"],
                )
        except tf.errors.OpError as error:
            raise ValueError(
                f"{self.source}: cannot be read ({one_line(error.message)})"
            ) from error


def find_tfds_splits(data_dir: str) -> dict[str, TfdsImagesJob]:
    """The jobs of `train` and `validation`, or of one of them, of the latest version prepared."""
    infos = tf.io.gfile.glob(os.path.join(data_dir, TFDS_NAME, "*", "dataset_info.json"))
    versions = [os.path.basename(os.path.dirname(path)) for path in infos]
    versions = [version for version in versions if re.fullmatch(r"[\d.]+", version)]
    if not versions:
        raise ValueError(
            f"{data_dir}: holds no {TFDS_NAME}/VERSION/dataset_info.json, as TFDS prepares it"
        )
    version = max(versions, key=lambda text: [int(number) for number in text.split(".")])
    info = open_builder(data_dir, version).info
    classes = tuple(info.features["label"].names)
    return {
        split: TfdsImagesJob(data_dir, version, split, classes, info.splits[split].num_examples)
        for split in SHARDS
        if split in info.splits
    }


def open_builder(data_dir: str, version: str) -> Any:
    """TFDS' builder that reads a prepared version of the data set."""
    import tensorflow_datasets as tfds

    return tfds.builder(f"{TFDS_NAME}:{version}", data_dir=data_dir, try_gcs=False)


def write_classes(output: str, classes: list[str]) -> None:
    """Writes `classes.txt`, one class per line; refuses an existing one with other classes."""
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


def _check(image: LabelledImage) -> jpeg.RgbJpeg | str:
    """The `RgbJpeg` of an image, or the reason why there is none."""
    try:
        return jpeg.to_rgb_jpeg(image.read())
    except jpeg.DamagedImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def _in_parallel(
    function: Callable[[_Item], _Result], items: Iterable[_Item]
) -> Iterator[tuple[_Item, _Result]]:
    """Yields (item, function(item)) in order; threads compute a few ahead of time.

    Reading waits and decoding releases Python's lock, so threads use all cores. If there is a
    process for each core, they read ahead.
    """
    threads = min(available_cores(), _MAX_THREADS)
    ahead: collections.deque[tuple[_Item, concurrent.futures.Future[_Result]]] = collections.deque()
    with concurrent.futures.ThreadPoolExecutor(threads) as executor:
        for item in items:
            ahead.append((item, executor.submit(function, item)))
            if len(ahead) > 2 * threads:
                item, future = ahead.popleft()
                yield item, future.result()
        for item, future in ahead:
            yield item, future.result()
