"""Trains a few steps on one and on several logical CPUs and saves how every replica ends.

For a process of its own, as TensorFlow's devices are set once a process. Everything that could
depend on the number of replicas is on: dropout, masks that refresh, clipping, distillation, and
masked tokens of which some replicas hold more than others. Several replicas train some merges in
parts, with blocks that are computed again, and one replica does not.
"""

import functools
import gc

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD
from pipelines.text_stream import packed

GLOBAL_BATCH, REPLICAS = 8, 2
STEPS = 10
CLIP_NORM = 0.5
IN_PARTS = ("mask+pcgrad", "sum")
PACKED = "sum"  # the merge of texts that several replicas pack, and one does not
CLEAR = {2: 150, 4: 151, 6: 152, 8: 153}  # entries by step
MODEL = {
    "num_layers": 1,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "image_size": 8,
    "patch_size": 4,
    "vocabulary_size": 30,
    "max_sequence_length": 12,
    "num_classes": 3,
    "dropout": 0.1,
    "stochastic_depth": 0.1,
}
ADAMW = {
    "name": "adamw",
    "ema": 0.0,
    "learning_rate": 1e-2,
    "warmup_steps": 2,
    "decay_power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-6,
    "weight_decay": 0.01,
}


def make_examples():
    rng = np.random.default_rng(0)
    n, length, predictions = STEPS * GLOBAL_BATCH, MODEL["max_sequence_length"], 4

    def integers(high, *shape):
        return rng.integers(0, high, (n, *shape), dtype=np.int32)

    # The first of each two texts has one masked token, the second up to four; some have none.
    masked = np.where(np.arange(n) % 2, rng.integers(0, predictions + 1, n), 1)
    return {
        "images": rng.random((n, 8, 8, 3), np.float32),
        "image_labels": integers(3),
        "token_ids": integers(30, length),
        "segment_ids": integers(2, length),
        "padding_mask": (np.arange(length) < 5 + integers(8)[:, None]).astype(np.int32),
        "masked_positions": integers(5, predictions),
        "masked_ids": integers(30, predictions),
        "masked_weights": (np.arange(predictions) < masked[:, None]).astype(np.float32),
        "next_sentence_labels": integers(2),
    }


class Schedule(keras.callbacks.Callback):
    """Refreshes masks, and keeps the logs."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.step in CLEAR:
            self.model.request_gradient_stats(CLEAR[self.model.step])

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(value) for name, value in logs.items()})


def replica_values(variables):
    """For each replica all variables as one vector, from that replica's own copies."""
    copies = [getattr(v.value, "values", [v.value]) for v in variables]
    return [np.concatenate([np.ravel(c[i]) for c in copies]) for i in range(len(copies[0]))]


@functools.cache  # another one would number its sums like the first, whose shapes are others
def make_strategy(replicas):
    strategy = tf.distribute.get_strategy()
    if replicas > 1:
        strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(replicas)])
    assert strategy.num_replicas_in_sync == replicas
    return strategy


def train(name, replicas):
    """Trains by a merge on batches that are the same whatever the number of replicas."""
    parts = GLOBAL_BATCH // replicas // 2 if replicas > 1 and name in IN_PARTS else 1
    # The numbers of dropout belong to rows, which each replica packs for itself.
    rates = {"dropout": 0.0, "stochastic_depth": 0.0} if name == PACKED else {}
    strategy = make_strategy(replicas)
    with strategy.scope():
        keras.utils.set_random_seed(0)
        network, teacher = build_network(MODEL | rates), build_network(MODEL)
        merge = get_merge(merges.Merge(name=name), seed=7)
        teachers, options = Teachers(teacher, teacher), {"accumulation": parts, "remat": parts > 1}
        trainer = JointTrainer(network, merge, teachers, 0.5, 2.0, clip_norm=CLIP_NORM, **options)
        trainer.compile(SGD(0.1), steps_per_execution=replicas)
    before = replica_values(network.trainable_variables)
    examples = tf.data.Dataset.from_tensor_slices(make_examples())
    examples = examples.batch(GLOBAL_BATCH // replicas, drop_remainder=True)
    if name == PACKED and parts > 1:
        examples = examples.map(lambda batch: packed(batch, parts))
    dataset = strategy.distribute_datasets_from_function(lambda context: examples)
    schedule = Schedule()
    trainer.fit(dataset, steps_per_epoch=STEPS, callbacks=[schedule], shuffle=False, verbose=0)
    assert trainer.step == STEPS
    found = {
        "before": before,
        "weights": replica_values(network.trainable_variables),
        "state": replica_values([*merge.variables, *trainer.optimizer.variables]),
        "gradient_norms": [logs["gradient_norm"] for logs in schedule.logs],
    }
    if merge.mask:
        found["masks"] = replica_values(merge.mask.masks)
    return {f"{replicas} {what}": values for what, values in found.items()}


def set_devices(count):
    """Divides the CPU into logical devices."""
    gc.disable()  # the graphs grow with the replicas, and looking through them takes long
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * count
    )


def main(path, name):
    """Writes what is found by a merge into an `.npz`."""
    set_devices(REPLICAS)
    # Optimising a graph takes longer than ten steps; `test_pretrain_replicas` does without this.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    np.savez(path, **train(name, 1), **train(name, REPLICAS))
