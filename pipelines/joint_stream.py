"""The joint stream: a fixed number of images and texts in every step, from two endless sources.

Both sources are shuffled independently and numbered from 0. Step `n` takes the images
`n * image_batch_size ...` and the texts `n * text_batch_size ...`. Every random number is keyed by
(seed, number), so the stream can be entered at any step and continues as if it had never stopped.
"""

import dataclasses
from typing import Any

import tensorflow as tf

from pipelines.cores import available_cores
from pipelines.images.image_records import ImageStream
from pipelines.shards.streams import host_stream, one_pass, shard, share
from pipelines.text_stream import TextStream, packed


@dataclasses.dataclass(frozen=True)
class JointStream:
    """Images and texts for training and validation; either modality may be absent.

    Batch sizes are per step over all replicas.
    """

    images: ImageStream | None
    image_validation: ImageStream | None
    texts: TextStream | None
    text_validation: TextStream | None
    image_batch_size: int
    text_batch_size: int
    seed: int = 0
    # Micro-batches of a replica's texts that are packed into rows; 0: a row holds one text.
    packed_micro_batches: int = 0

    @property
    def sources(self) -> dict[str, ImageStream | TextStream]:
        """The sources that are present, by name."""
        names = ("images", "image_validation", "texts", "text_validation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def _modalities(self) -> list[tuple[str, Any, Any, int, int]]:
        """(name, training source, validation source, batch, seed) of each modality present.

        The seeds differ, so that the two orders are unrelated.
        """
        every = (
            ("image", self.images, self.image_validation, self.image_batch_size, self.seed * 2),
            ("text", self.texts, self.text_validation, self.text_batch_size, self.seed * 2 + 1),
        )
        return [modality for modality in every if modality[1] is not None]

    def training(
        self, step: int = 0, context: tf.distribute.InputContext | None = None
    ) -> tf.data.Dataset:
        """Endless dataset of batches from `step` on, see `training.joint_trainer.JointTrainer`.

        With a `context`, as `distribute_datasets_from_function` passes it, batches are one
        replica's share, and a host reads its own share of the files.
        """
        streams = [
            source.training(seed, step * batch, share(batch, context), shard(context))
            for _, source, _, batch, seed in self._modalities
        ]
        if self.packed_micro_batches and self.texts is not None:
            streams[-1] = streams[-1].map(
                lambda batch: packed(batch, self.packed_micro_batches),
                available_cores(),
                deterministic=True,
            )
        # `repeat` shows that the stream is endless: replicas need not consult each other each step.
        return joined(streams).repeat()

    def batch_records(self, step: int) -> dict[str, list[str]]:
        """The records of a step's batch, of `images` and `texts` if they are present."""
        return {
            f"{name}s": source.names(seed, step * batch, batch)
            for name, source, _, batch, seed in self._modalities
        }

    def validation(self, context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Batches of a host's share of the validation examples, each once.

        The shorter source and the last batches are padded with empty examples. Their
        `image_weights` or `text_weights` are 0, so they do not count.
        """
        steps = self.validation_batches
        streams = [
            one_pass(
                source.validation, source.records.count, batch, steps, f"{name}_weights", context
            )
            for name, _, source, batch, _ in self._modalities
        ]
        return joined(streams)

    @property
    def validation_batches(self) -> int:
        return max(-(-source.records.count // batch) for _, _, source, batch, _ in self._modalities)

    @property
    def training_records(self) -> dict[str, int]:
        """How many training records each source has."""
        return {f"{name}s": source.records.count for name, source, *_ in self._modalities}

    @property
    def tokens_per_step(self) -> int:
        """Text tokens per step, padding included."""
        return self.text_batch_size * self.texts.length if self.texts is not None else 0

    @property
    def images_per_step(self) -> int:
        return self.image_batch_size if self.images is not None else 0


def joined(streams: list[tf.data.Dataset]) -> tf.data.Dataset:
    """One dataset of merged dicts."""

    def merged(*batches: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {name: value for batch in batches for name, value in batch.items()}

    return host_stream(tf.data.Dataset.zip(*streams).map(merged))
