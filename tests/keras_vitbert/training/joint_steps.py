"""A training step in eager mode."""

import tensorflow as tf

from keras_vitbert.training.anomaly_guard import STEP_ROW
from tests.keras_vitbert.training import replicas_script

RATIO, TEMPERATURE = 0.3, 2.0  # of distillation, where there are teachers
NO_CLIP = 1e9
# The epsilon is above the rounding of gradients that are zero, such as the key bias'.
OPTIONS = {"warmup_steps": 0, "beta_2": 0.99, "epsilon": 1e-4, "weight_decay": 0.1}
ADAMW = replicas_script.ADAMW | OPTIONS


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def values(variables):
    return [v.numpy() for v in variables]


def weights(trainer):
    return values(trainer.network.trainable_variables)


def step(trainer, batch, **options):
    """A training step in eager mode; its logs as floats."""
    logs = trainer.train_step(tensors(batch), **options)
    return {name: float(value) for name, value in logs.items() if name != STEP_ROW}
