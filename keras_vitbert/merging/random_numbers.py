"""Random numbers from keys: the same on every backend, device and replica, and after a resume."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

SHORT = 13  # rounds, the fewest in which the paper finds no fault
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)


def threefry(key: tuple, counter: tuple, rounds: int = 20) -> tuple:
    """Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Args:
        key: pair of uint32 tensors.
        counter: pair of uint32 tensors, of shapes that broadcast with those of the key.
        rounds: of the cipher.

    Returns:
        pair of uint32 tensors, a bijection of each counter for each key.
    """
    keys = (*key, key[0] ^ key[1] ^ word(_PARITY))
    first, second = counter[0] + keys[0], counter[1] + keys[1]
    for number in range(rounds):
        group, place = divmod(number, 4)
        rotation = _ROTATIONS[group % 2][place]
        first += second
        left = ops.left_shift(second, word(rotation))
        right = ops.right_shift(second, word(32 - rotation))
        second = (left | right) ^ first
        if place == 3:
            first += keys[(group + 1) % 3]
            second += keys[(group + 2) % 3] + word(group + 1)
    return first, second


def word(number: int) -> Any:
    """A number as a scalar uint32 tensor."""
    return ops.convert_to_tensor(np.uint32(number))


def unsigned(x: Any) -> Any:
    """An int or an integer tensor as uint32."""
    return word(x) if isinstance(x, int) else ops.cast(x, "uint32")


def of_examples(words: list, first: Any, every: Any, shape: Any) -> Any:
    """Numbers of the examples `first`, `first + every`, ... of a batch: uint32 of its shape.

    Args:
        words: seed, step and two more words that the numbers depend on, uint32 scalars.
        first, every: uint32 scalars.
        shape: of the batch, whose first axis is that of the examples.
    """
    key = threefry((words[0], words[1]), (words[2], words[3]))
    examples = first + unsigned(ops.arange(shape[0])) * every
    places = unsigned(ops.arange(math.prod(shape[1:])))
    drawn = threefry(key, (places[None], examples[:, None]), SHORT)[0]
    return ops.reshape(drawn, shape)


def uniform(seed: int, step: Any, place: int, like: Any) -> Any:
    """Uniform random numbers in [0, 1): float32, multiples of 2**-24.

    Args:
        seed: in [0, 2**32).
        step: scalar int tensor, or int.
        place: in [0, 2**32), distinguishes the draws of a step.
        like: tensor of the wanted shape.
    """
    words = word(seed), ops.cast(step, "uint32"), word(place)
    entries = ops.cast(ops.reshape(like, (-1,)), "float32")
    return ops.reshape(_drawn(entries, *words), ops.shape(like))


def normal_pair(seed: int, step: Any) -> Any:
    """Two independent normal numbers (Box and Muller 1958), float32 `(2,)`; see `uniform`."""
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
