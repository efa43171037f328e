"""Trains a linear classifier on data that are not finite in some steps, by each policy.

With several replicas for a process of its own, as TensorFlow's devices are set once a process.
"""

import os
import pickle
import types

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs.devices import Devices
from keras_vitbert.runs import divergence, loop
from keras_vitbert.runs.machine import Machine, Workers
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.losses import cross_entropy
from keras_vitbert.training.multi_task_trainer import Head, Modality, MultiTaskTrainer
from keras_vitbert.training.optimizers import SGD
from pipelines.command_line import Diverged
from tests.keras_vitbert.training.replicas_script import make_strategy, set_devices

STEPS, BATCH, INPUTS, CLASSES = 60, 8, 4, 3
RATE, MOMENTUM = 0.1, 0.9


class Linear(keras.Model):
    """As much of a classifier as a `MultiTaskTrainer` needs."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(CLASSES, name="dense", kernel_initializer="zeros")
        self.dense.build((None, INPUTS))
        self.backbone = types.SimpleNamespace(blocks=[])
        self.built = True

    def call(self, inputs, training=None):
        return {"image_logits": self.dense(inputs["images"])}


def batches(bad=()):
    """Inputs and labels of all steps; the first input of the `bad` ones is NaN."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(STEPS, BATCH, INPUTS)).astype(np.float32)
    labels = (images @ rng.normal(size=(INPUTS, CLASSES))).argmax(-1).astype(np.int32)
    images[list(bad), 0, 0] = np.nan
    return images, labels


class Stream:
    """The batches, for `loop.fit`."""

    images_per_step, tokens_per_step = BATCH, 0

    def __init__(self, bad):
        self.data = dict(zip(("images", "labels"), batches(bad), strict=True))

    def training(self, step, context):
        rest = tf.data.Dataset.from_tensor_slices({k: v[step:] for k, v in self.data.items()})
        size = BATCH // context.num_replicas_in_sync
        return rest.unbatch().batch(size, drop_remainder=True).repeat()

    def batch_records(self, step):
        return {"images": [f"file {step}", "other:1"]}


def train(folder, policy, bad=(), executed=1, limit=10, replicas=1, steps=STEPS):
    """Trains to the end or until it diverges.

    Returns:
        dict: `weights`, `error` (str or None), `counts`, `metrics` (the last row).
    """
    os.makedirs(folder, exist_ok=True)
    strategy = make_strategy(replicas)
    config = types.SimpleNamespace(steps=steps, steps_per_epoch=20, checkpoint_interval=20)
    config.checkpoints_to_keep, config.dtype = 1, "float32"
    with strategy.scope():
        head = Head("image", "labels", lambda labels, logits, _: cross_entropy(labels, logits), "")
        network = Linear()
        modality = Modality("image", 0, lambda batch: batch, network, (head,))
        trainer = MultiTaskTrainer(network, [modality], clip_norm=1.0)
        optimizer = SGD(RATE, momentum=MOMENTUM)
        optimizer.build(trainer.network.trainable_variables)
        trainer.compile(optimizer, jit_compile=False, steps_per_execution=executed)
    machine = Machine(strategy, Workers(strategy), Devices())
    stops = {"on_divergence": policy, "max_divergences": limit}
    run = Run(config=config, folder=RunFolder(str(folder)), machine=machine, data=None, **stops)
    error = None
    try:
        loop.fit(run, trainer, Stream(bad))
    except Diverged as diverged:
        error = str(diverged)
    rows = run.folder.rows(STEPS)
    return {
        "weights": [np.array(w) for w in trainer.network.get_weights()],
        "error": error,
        "counts": divergence.counts(trainer),
        "metrics": rows[-1] if rows else {},
    }


def main(path, replicas, *case):
    """`train` on a number of logical CPUs; writes what it returns."""
    set_devices(replicas)
    found = train(*case, replicas=replicas)
    with open(path, "wb") as file:
        pickle.dump(found, file)
