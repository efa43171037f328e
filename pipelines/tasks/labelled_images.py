"""Labelled images of a downstream task, for training and for evaluation."""

import dataclasses

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
    def count(self):
        """How many images there are."""
        return self.store.count

    @property
    def sha256(self):
        """Identifies the images: the `sha256` of the store."""
        return self.store.sha256

    def class_counts(self, classes):
        """How many images of each class there are.

        Args:
            classes: int, how many classes there are.

        Returns:
            int array `(classes,)`; None for records, which would have to be read.
        """
        labels = self.store.known_labels
        return None if labels is None else np.bincount(labels, minlength=classes)

    def descriptions(self):
        """What identifies each image: iterator of dicts of str."""
        return self.store.descriptions()

    def part(self, ranges):
        """Some of the images.

        Args:
            ranges: list of (first, end), ascending indices; `end` is excluded.

        Returns:
            `LabelledImages`.
        """
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

    def evaluation_batches(self, batch):
        """The number of steps of an evaluation.

        Args:
            batch: int, images per step over all replicas.

        Returns:
            int.
        """
        return -(-self.count // batch)


def require_batch(images, batch, source):
    """Refuses fewer images than one step takes.

    Args:
        images: `LabelledImages`.
        batch: int, images per step.
        source: str, where they come from, for the message.

    Raises:
        ValueError: there are fewer.
    """
    if images.count < batch:
        raise ValueError(
            f"{source}: holds {images.count:,} training images, fewer than one step takes; set "
            f"--config.batch to at most that (it is {batch})"
        )
