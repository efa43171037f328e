"""The joint stream: in every step a fixed number of images and of texts, from two endless sources.

Both sources are shuffled independently and numbered from 0. Step `n` takes the images
`n * image_batch ...` and the texts `n * text_batch ...`, and every random number is keyed by
(seed, number): the stream can be entered at any step and goes on as if it had never stopped.
"""

import dataclasses
from typing import TYPE_CHECKING

from pipelines.shards.host_shares import filled, host_stream, shard, share

if TYPE_CHECKING:
    from pipelines.image_stream import ImageStream
    from pipelines.text_stream import TextStream

# Sources and what they are seeded with must not follow each other.
_IMAGE_STREAM, _TEXT_STREAM = 0, 1


@dataclasses.dataclass(frozen=True)
class JointStream:
    """Images and texts for training and validation; either source may be absent.

    Attributes:
        images, image_validation: `ImageStream`, or None.
        texts, text_validation: `TextStream`, or None.
        image_batch: int, images a step over all replicas.
        text_batch: int, texts a step over all replicas.
        seed: int.
    """

    images: "ImageStream | None"
    image_validation: "ImageStream | None"
    texts: "TextStream | None"
    text_validation: "TextStream | None"
    image_batch: int
    text_batch: int
    seed: int = 0

    def training(self, step=0, context=None):
        """Endless dataset of batches from `step` on.

        Args:
            step: int, the step of the first batch.
            context: `tf.distribute.InputContext`, as `distribute_datasets_from_function` gives
                it: batches are then one replica's share, and a host reads its own part of the
                files.

        Returns:
            `tf.data.Dataset` of dicts, see `keras_vitbert.training.joint_trainer.JointTrainer`.
        """
        part, streams = shard(context), []
        if self.images is not None:
            seed, start = self.seed * 2 + _IMAGE_STREAM, step * self.image_batch
            batch = share(self.image_batch, context)
            streams.append(self.images.training(seed, start, batch, part))
        if self.texts is not None:
            seed, start = self.seed * 2 + _TEXT_STREAM, step * self.text_batch
            batch = share(self.text_batch, context)
            streams.append(self.texts.training(seed, start, batch, part))
        # What is known to be endless, replicas need not ask each other about in every step.
        return _joined(streams).repeat()

    def validation(self, context=None):
        """Dataset that holds every validation example once, a host's share of them.

        The shorter source and the last batches are filled up with empty examples, whose
        `image_weights` or `text_weights` are 0 and which count for nothing.
        """
        streams = []
        if self.images is not None:
            streams.append(
                self._validation(self.image_validation, self.image_batch, "image", context)
            )
        if self.texts is not None:
            streams.append(self._validation(self.text_validation, self.text_batch, "text", context))
        return _joined(streams)

    def _validation(self, source, batch, name, context):
        hosts, host = shard(context)
        size = self.validation_batches * batch // hosts
        begin, end = (min(place * size, source.records.count) for place in (host, host + 1))
        stream = filled(source.validation(begin, end), size, f"{name}_weights")
        return stream.batch(share(batch, context), drop_remainder=True)

    @property
    def validation_batches(self):
        """The number of validation steps."""
        counts = []
        if self.images is not None:
            counts.append(-(-self.image_validation.records.count // self.image_batch))
        if self.texts is not None:
            counts.append(-(-self.text_validation.records.count // self.text_batch))
        return max(counts)

    @property
    def training_records(self):
        """dict of the sources' names to how many training records they have."""
        sources = {"images": self.images, "texts": self.texts}
        return {name: source.records.count for name, source in sources.items() if source}

    @property
    def tokens_per_step(self):
        """Text tokens a step, padding included."""
        return self.text_batch * self.texts.length if self.texts is not None else 0

    @property
    def images_per_step(self):
        """Images a step."""
        return self.image_batch if self.images is not None else 0


def _joined(streams):
    """One dataset of merged dicts."""
    import tensorflow as tf

    def merged(*parts):
        return {name: value for part in parts for name, value in part.items()}

    return host_stream(tf.data.Dataset.zip(*streams).map(merged))
