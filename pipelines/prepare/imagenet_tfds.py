"""ImageNet as TensorFlow Datasets stores it: a prepared `imagenet2012`.

TFDS shuffled the images when it prepared them, so they are taken in its order. It also converted
CMYK and PNG images.
"""

import dataclasses
import os

import tensorflow as tf
import tensorflow_datasets as tfds

from pipelines.command_line import one_line
from pipelines.prepare.image_shards import ImageShardsJob, LabelledImage

NAME = "imagenet2012"


@dataclasses.dataclass(frozen=True)
class TfdsImagesJob(ImageShardsJob):
    """A split of the data set.

    Attributes:
        data_dir: str, the folder that TFDS uses, local or `gs://`.
        version: str, of the data set.
        split: str, `train` or `validation`.
        classes, count: see `ImageShardsJob`.
    """

    data_dir: str
    version: str
    split: str
    classes: tuple[str, ...]
    count: int

    @property
    def source(self):
        return os.path.join(self.data_dir, NAME, self.version)

    def settings(self):
        return {
            **super().settings(),
            "source": "tfds",
            "tfds": f"{NAME}:{self.version}",
            "split": self.split,
        }

    def images(self, start, stop):
        if start == stop:
            return
        part = tfds.core.ReadInstruction(self.split, from_=start, to=stop, unit="abs")
        dataset = open_builder(self.data_dir, self.version).as_dataset(
            split=part, shuffle_files=False, decoders={"image": tfds.decode.SkipDecoding()}
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


def find_splits(data_dir):
    """The jobs of the splits of a prepared data set.

    Args:
        data_dir: str, local or `gs://`.

    Returns:
        dict of `train` and `validation`, or one of them, to `TfdsImagesJob`.

    Raises:
        ValueError: there is none.
    """
    found = tf.io.gfile.glob(os.path.join(data_dir, NAME, "*", "dataset_info.json"))
    versions = [os.path.basename(os.path.dirname(path)) for path in found]
    if not versions:
        raise ValueError(
            f"{data_dir}: holds no {NAME}/VERSION/dataset_info.json, as TFDS prepares it"
        )
    version = max(versions, key=_numbers)
    builder = open_builder(data_dir, version)
    classes = tuple(builder.info.features["label"].names)
    return {
        split: TfdsImagesJob(
            data_dir, version, split, classes, builder.info.splits[split].num_examples
        )
        for split in ("train", "validation")
        if split in builder.info.splits
    }


def open_builder(data_dir, version):
    """The builder that reads a prepared version of the data set.

    Args:
        data_dir: str, local or `gs://`.
        version: str.

    Returns:
        `tfds.core.DatasetBuilder`.
    """
    return tfds.builder(f"{NAME}:{version}", data_dir=data_dir, try_gcs=False)


def _numbers(version):
    return [int(part) if part.isdigit() else -1 for part in version.split(".")]
