"""Trains a `TwoTaskTrainer` on one and on two logical CPUs, for `test_trainer`.

For a process of its own, as TensorFlow's devices are set once a process.
"""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.merging.trainer import TwoTaskTrainer
from tests.keras_vitbert.training.replicas_script import make_strategy, replica_values, set_devices

FEATURES, BATCH, STEPS = 12, 16, 6
CLIP = 0.2  # below the norm of every step


def make_network():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((FEATURES,))
    hidden = keras.layers.Dense(8, "tanh", kernel_regularizer="l2")(inputs)
    return keras.Model(inputs, {name: keras.layers.Dense(3)(hidden) for name in ("sort", "size")})


def train(replicas, examples):
    """The variables of each replica after a few steps on the same batches."""
    losses = {
        "sort": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "size": keras.losses.mean_squared_error,
    }
    with make_strategy(replicas).scope():
        merge = get_merge(merges.Merge(name="mask+gradvac"))
        trainer = TwoTaskTrainer(make_network(), losses, merge)
        optimizer = keras.optimizers.SGD(0.5, momentum=0.5, global_clipnorm=CLIP)
        trainer.compile(optimizer, weighted_metrics={"sort": ["accuracy"]})

    fitted = trainer.fit(*examples, BATCH, shuffle=False, verbose=0)
    assert trainer.step == STEPS and 2 * sum(merge.mask.cleared) == sum(merge.mask.sizes)
    odd = tf.nest.map_structure(lambda value: value[1:], examples)
    tested = trainer.evaluate(*odd, BATCH, verbose=0, return_dict=True)
    found = {
        "logs": [[value for name in tested for value in (*fitted.history[name], tested[name])]],
        "weights": replica_values(trainer.network.variables),
        "state": replica_values(merge.variables),
    }
    return {f"{replicas} {what}": value for what, value in found.items()}


def main(path):
    """Writes what is found into an `.npz`."""
    set_devices(2)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    rng = np.random.default_rng(0)
    count = BATCH * STEPS
    targets = {
        "sort": rng.integers(0, 3, count),
        "size": rng.normal(size=(count, 3)).astype(np.float32),
    }
    examples = rng.normal(size=(count, FEATURES)).astype(np.float32), targets
    np.savez(path, **train(1, examples), **train(2, examples))
