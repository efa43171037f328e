"""Dropout whose random numbers are determined by the position in training."""

import contextlib
from typing import Any

import keras
import tensorflow as tf


class StatelessDropout:
    """Gives the random layers of a network their random numbers in a training step.

    A Keras layer counts its draws in a variable. Under `tf.distribute` the count is the same on
    every replica, so all replicas drop the same units of their first example, of their second and
    so on, and the noise does not average out. Here the random numbers are keyed by (seed, step,
    replica, place), without a counter.

    Args:
        network: a Keras model.
        seed: int in [0, 2**32).
    """

    def __init__(self, network, seed=0):
        self.seed = seed - 2**32 if seed >= 2**31 else seed  # as int32
        self._states = [v for v in network.variables if v.path.endswith("/seed_generator_state")]

    def keyed(self, step, replica, place):
        """A scope for one forward pass of a training step; no Keras variable can be updated in it.

        Args:
            step, replica: scalar int tensors, or ints.
            place: int in [0, 8), distinguishes the forward passes of a step.
        """
        if not self._states:
            return contextlib.nullcontext()

        def full_range(shape, key):
            no_bound: Any = None
            return tf.random.stateless_uniform(shape, key, no_bound, no_bound, tf.int32)

        key = full_range((2,), tf.stack([self.seed, tf.cast(step, tf.int32)]))
        key += tf.stack([0, tf.cast(replica, tf.int32) * 8 + place])
        keys = tf.unstack(full_range((len(self._states), 2), key))
        return keras.StatelessScope(
            [
                (state, tf.cast(key, state.dtype))
                for state, key in zip(self._states, keys, strict=True)
            ]
        )
