"""Saves the mean activations that a number of logical CPUs find together.

For a process of its own, as TensorFlow's devices are set once a process. Replicas get unequal
shares of what counts: texts of different length, and fillers in the last ones alone.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.activations import MeanActivations
from keras_vitbert.model.pretraining_network import build_network
from pipelines.text.wordpiece import SPECIAL_TOKENS
from tests.keras_vitbert.training.replicas_script import (
    GLOBAL_BATCH,
    MODEL,
    make_examples,
    make_strategy,
    set_devices,
)

BATCHES = 3


class _Counted(MeanActivations):
    """Counts the steps that are traced: one for each replica."""

    steps = 0

    def step(self, batch):
        self.steps += 1
        return super().step(batch)


def find(replicas):
    strategy = make_strategy(replicas)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        backbone = build_network(MODEL).backbone
    vocabulary = [*SPECIAL_TOKENS, *(f"word{n}" for n in range(25))]
    examples = {name: values[: BATCHES * GLOBAL_BATCH] for name, values in make_examples().items()}
    count = BATCHES * GLOBAL_BATCH
    examples["image_weights"] = (np.arange(count) < count - 5).astype(np.float32)
    examples["text_weights"] = (np.arange(count) < count - 9).astype(np.float32)
    size = GLOBAL_BATCH // replicas
    batches = strategy.distribute_datasets_from_function(
        lambda context: tf.data.Dataset.from_tensor_slices(examples).batch(size, True)
    )
    means = _Counted(backbone, strategy, vocabulary)
    return {**means(batches), "traced": means.steps / replicas}


def main(replicas, path):
    set_devices(replicas)
    np.savez(path, **find(replicas))
