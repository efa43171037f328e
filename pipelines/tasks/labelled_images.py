"""Labelled images of a downstream task, for training and for evaluation.

They lie in files, in the cells of a table, or in records.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from pipelines.files import printable
from pipelines.images.image_records import ImageRecordFiles
from pipelines.images.image_views import ImageViews
from pipelines.shards.streams import host_stream, one_pass, shard, share
from pipelines.tasks.listed_images import ListedImages


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images with labels from 0, for training and for evaluation."""

    store: ListedImages | ImageRecordFiles
    views: ImageViews

    @property
    def count(self) -> int:
        return self.store.count

    @property
    def sha256(self) -> str:
        return self.store.sha256

    def class_counts(self, classes: int) -> np.ndarray | None:
        """Images of each class; None for records, all of which would have to be read."""
        labels = self.store.known_labels
        return None if labels is None else np.bincount(labels, minlength=classes)

    def descriptions(self) -> Iterator[dict[str, str]]:
        """What identifies each image."""
        for about in self.store.descriptions():
            yield {key: printable(name) for key, name in about.items()}

    def part(self, ranges: list[tuple[int, int]]) -> "LabelledImages":
        """Some of the images: ascending ranges of indices, their ends excluded."""
        return dataclasses.replace(self, store=self.store.part(ranges))

    def take(self, places: np.ndarray) -> "LabelledImages":
        """Some of the images of a list, by their indices."""
        assert isinstance(self.store, ListedImages)
        return dataclasses.replace(self, store=self.store.take(places))

    def training(
        self,
        seed: int,
        step: int,
        batch: int,
        context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Endless dataset of batches from a step on, `batch` images over all replicas.

        Every image comes once per epoch, in an order that depends on (seed, epoch) alone. For the
        names see `ImageViews.training`.
        """
        return self.views.training(
            self.store, seed, step * batch, share(batch, context), shard(context)
        )

    def evaluation(
        self, batch: int, context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        """A host's share of the images, each once, `batch` over all replicas.

        Dicts of `images`, `labels`, `numbers` (their indices, -1 where the last batch is padded)
        and `weights` (0 there).
        """

        def read(begin: int, end: int) -> tf.data.Dataset:
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
    """Refuses fewer images than one step takes."""
    if images.count < batch:
        raise ValueError(
            f"{source}: holds {images.count:,} training images, fewer than one step takes (batch "
            f"is {batch})"
        )
