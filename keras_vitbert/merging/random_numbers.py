"""Random numbers keyed by seed and step: the same on every backend, replica and after a resume."""

import math
from typing import Any

import keras
from keras import ops

from keras_vitbert.merging.threefry import SHORT, threefry, word

_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)


def uniform(seed, step, place, like):
    """Uniform random numbers in [0, 1).

    Args:
        seed: int in [0, 2**32).
        step: scalar int tensor, or int.
        place: int in [0, 2**32), distinguishes the draws of a step.
        like: tensor of the wanted shape.

    Returns:
        float32 tensor, multiples of 2**-24.
    """
    words = word(seed), ops.cast(step, "uint32"), word(place)
    entries = ops.cast(ops.reshape(like, (-1,)), "float32")
    return ops.reshape(_drawn(entries, *words), ops.shape(like))


def normal_pair(seed, step):
    """Two independent normal numbers (Box and Muller 1958).

    Args:
        seed: int in [0, 2**32).
        step: scalar int tensor, or int.

    Returns:
        float32 tensor `(2,)`.
    """
    first, second = ops.unstack(uniform(seed, step, 0, ops.zeros(2)), 2)
    angle = 2 * math.pi * second
    return ops.sqrt(-2 * ops.log(1 - first)) * ops.stack([ops.cos(angle), ops.sin(angle)])


def _drawn(like, seed, step, place):
    shape: Any = ops.shape(like)
    count = shape[0]
    counter = ops.cast(ops.arange((count + 1) // 2), "uint32"), place
    # Each counter gives two numbers.
    both = ops.concatenate(threefry((seed, step), counter, SHORT))
    return (ops.cast(ops.right_shift(both, word(8)), "float32") * _UNIT)[:count]


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Its 80 operations are traced once, and take one pass over memory.
    _drawn = tf.function(
        _drawn,
        [tf.TensorSpec((None,)), *[tf.TensorSpec((), tf.uint32)] * 3],
        autograph=False,
        jit_compile=True,
    )
