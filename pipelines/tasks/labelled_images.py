"""Labelled images of a downstream task, for training and for evaluation."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipelines.images.image_record_files import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.host_shares import host_stream, one_pass, shard, share
from pipelines.tasks.image_stores import ImageCells, ImageFiles


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
        """What identifies each image."""
        return self.store.descriptions()

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
