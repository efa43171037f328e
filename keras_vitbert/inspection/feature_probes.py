"""Probes during training: what the encoder's features know of the validation examples' labels."""

import itertools

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.probes import Features, probe
from keras_vitbert.inspection.value_files import write_values
from keras_vitbert.model.pretraining_network import image_inputs
from pipelines.status import doing

_LABELS = {"image": "image_labels", "text": "next_sentence_labels"}
_TEXT_INPUTS = ("token_ids", "segment_ids", "padding_mask")


class FeatureProbes(keras.callbacks.Callback):
    """Probes frozen features: at the start, every `interval` steps, and at the end.

    The encoder sees a fixed set of validation examples, without dropout; every other one teaches,
    the rest are measured. The labels are the images' classes, and whether a text's second part
    follows the first. TensorBoard has the accuracies as `probe/image_ridge`,
    `probe/image_neighbours`, `probe/text_ridge` and `probe/text_neighbours`, and
    RUN/inspection/probes-STEP.npz the same; see `keras_vitbert.inspection.probes`.

    With several steps an execution it acts at the end of the execution that contains a multiple of
    `interval`. All workers take part; only the folder's writer writes. Put it before `Checkpoints`.

    Args:
        stream: `JointStream`.
        folder: `RunFolder`.
        interval: int, steps.
        examples: int, images and texts each, rounded up to whole validation batches; all where
            there are fewer. Their batches are kept in memory.
        steps: int, of the whole training.
    """

    def __init__(self, stream, folder, interval, examples, steps):
        super().__init__()
        self.stream, self.folder = stream, folder
        self.interval, self.examples, self.steps = interval, examples, steps
        self._batches = None
        self._features = tf.function(self._distributed, autograph=False)

    def on_train_begin(self, logs=None):
        if self.model.step == 0:
            self._probe()

    def on_train_batch_end(self, batch, logs=None):
        step, executed = self.model.step, self.model.steps_per_execution
        if step // self.interval > (step - executed) // self.interval or step == self.steps:
            self._probe()

    @doing("probing features", "probing")
    def _probe(self):
        found = self.features()  # on all workers
        if not self.folder.writes:
            return
        values = {
            f"{modality}_{kind}": accuracy
            for modality, (known, asked) in found.items()
            for kind, accuracy in probe(known, asked).items()
        }
        write_values(self.folder, "probes", self.model.step, **values)
        tags = {f"probe/{name}": accuracy for name, accuracy in values.items()}
        self.folder.log_scalars("validation", self.model.step, tags)

    def features(self):
        """Of each modality the examples that teach, and those that are measured.

        Returns:
            dict of `image` and `text`, of those that the model has, to a pair of `Features`.
        """
        if self._batches is None:
            batches = self.model.distribute_strategy.distribute_datasets_from_function(
                lambda context: self.stream.validation(context)
            )
            self._batches = list(itertools.islice(batches, self._batch_count()))
        parts = [self._features(batch) for batch in self._batches]
        found = {}
        for modality in parts[0]:
            columns = zip(*(part[modality] for part in parts), strict=True)
            values, labels, weights = (
                np.concatenate([column.numpy() for column in of_batches]) for of_batches in columns
            )
            values, labels = values[weights > 0], labels[weights > 0]
            known, asked = slice(0, None, 2), slice(1, None, 2)
            found[modality] = tuple(Features(values[s], labels[s]) for s in (known, asked))
        return found

    def _batch_count(self):
        sizes = [n for n in (self.stream.image_batch, self.stream.text_batch) if n]
        return min(self.stream.validation_batches, max(-(-self.examples // n) for n in sizes))

    def _distributed(self, batch):
        strategy = self.model.distribute_strategy
        found = strategy.run(self._one_replica, args=(batch,))
        return tf.nest.map_structure(lambda part: strategy.gather(part, axis=0), found)

    def _one_replica(self, batch):
        """Features, labels and weights of a replica's examples: dict of a modality to a tuple."""
        backbone, found = self.model.network.backbone, {}
        for modality, label in _LABELS.items():
            if label not in batch:
                continue
            if modality == "image":
                outputs = backbone(image_inputs(batch), training=False, image_positions=1)
            else:
                inputs = {name: batch[name] for name in _TEXT_INPUTS}
                outputs = backbone(inputs, training=False, text_positions=1)
            values = tf.cast(outputs[f"{modality}_sequence"][:, 0], tf.float32)
            found[modality] = values, batch[label], batch[f"{modality}_weights"]
        return found
