"""The joint stream: in every step a fixed number of images and of texts, from two endless sources.

Both sources are shuffled independently and numbered from 0. Step `n` takes the images
`n * image_batch ...` and the texts `n * text_batch ...`, and every random number is keyed by
(seed, number): the stream can be entered at any step and goes on as if it had never stopped.
"""

import dataclasses
from typing import TYPE_CHECKING

import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.shards.host_shares import host_stream, one_pass, shard, share
from pipelines.text.packing import packed

if TYPE_CHECKING:
    from pipelines.image_stream import ImageStream
    from pipelines.text_stream import TextStream


@dataclasses.dataclass(frozen=True)
class JointStream:
    """Images and texts for training and validation; either modality may be absent.

    Attributes:
        images, image_validation: `ImageStream`, or None.
        texts, text_validation: `TextStream`, or None.
        image_batch: int, images a step over all replicas.
        text_batch: int, texts a step over all replicas.
        seed: int.
        packed_parts: int, the parts of a replica's training texts that are packed into rows, each
            by itself, see `pipelines.text.packing`; 0: a row holds one text.
    """

    images: "ImageStream | None"
    image_validation: "ImageStream | None"
    texts: "TextStream | None"
    text_validation: "TextStream | None"
    image_batch: int
    text_batch: int
    seed: int = 0
    packed_parts: int = 0

    @property
    def sources(self):
        """dict of the names of the sources that are present to them."""
        names = ("images", "image_validation", "texts", "text_validation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def _modalities(self):
        """(name, training source, validation source, batch, seed) of each one that is present.

        The seeds differ, so that the two orders do not follow each other.
        """
        every = (
            ("image", self.images, self.image_validation, self.image_batch, self.seed * 2),
            ("text", self.texts, self.text_validation, self.text_batch, self.seed * 2 + 1),
        )
        return [modality for modality in every if modality[1] is not None]

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
        streams = [
            source.training(seed, step * batch, share(batch, context), shard(context))
            for _, source, _, batch, seed in self._modalities
        ]
        if self.packed_parts and self.texts is not None:
            streams[-1] = streams[-1].map(
                lambda batch: packed(batch, self.packed_parts),
                available_cores(),
                deterministic=True,
            )
        # `repeat` shows that the stream is endless: replicas need not ask each other in every step.
        return _joined(streams).repeat()

    def batch_records(self, step):
        """The records of a step's batch.

        Args:
            step: int.

        Returns:
            dict of `images` and `texts`, as far as they are present, to lists of str.
        """
        return {
            f"{name}s": source.names(seed, step * batch, batch)
            for name, source, _, batch, seed in self._modalities
        }

    def validation(self, context=None):
        """Dataset that holds every validation example once, a host's share of them.

        The shorter source and the last batches are filled with empty examples, whose
        `image_weights` or `text_weights` are 0 and which count for nothing.

        Args:
            context: as in `training`.

        Returns:
            `tf.data.Dataset` of dicts.
        """
        steps = self.validation_batches
        streams = [
            one_pass(
                source.validation, source.records.count, batch, steps, f"{name}_weights", context
            )
            for name, _, source, batch, _ in self._modalities
        ]
        return _joined(streams)

    @property
    def validation_batches(self):
        """The number of validation steps."""
        return max(-(-source.records.count // batch) for _, _, source, batch, _ in self._modalities)

    @property
    def training_records(self):
        """dict of the sources' names to how many training records they have."""
        return {f"{name}s": source.records.count for name, source, *_ in self._modalities}

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

    def merged(*parts):
        return {name: value for part in parts for name, value in part.items()}

    return host_stream(tf.data.Dataset.zip(*streams).map(merged))
