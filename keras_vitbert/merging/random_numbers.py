"""Random numbers from keys: the same on every backend, device and replica, and after a resume."""

import math

import keras
import numpy as np

from keras_vitbert.model.tensors import Tensor, ops

SHORT = 13  # rounds, the fewest in which the paper finds no fault
_ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)
_PARITY = 0x1BD11BDA
_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)


def threefry(
    key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor], rounds: int = 20
) -> tuple[Tensor, Tensor]:
    """Threefry-2x32 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    `key` and `counter` are pairs of uint32 tensors, of shapes that broadcast. So is the result, a
    bijection of the counters for each key.
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


def word(number: int) -> Tensor:
    """A number as a scalar uint32 tensor."""
    return ops.convert_to_tensor(np.uint32(number))


def unsigned(x: Tensor | int) -> Tensor:
    """An int or an integer tensor as uint32."""
    return word(x) if isinstance(x, int) else ops.cast(x, "uint32")


def example_words(words: list[Tensor], first: Tensor, every: Tensor, shape: Tensor) -> Tensor:
    """Numbers of the examples `first`, `first + every`, ... of a batch: uint32 of its shape.

    Args:
        words: four uint32 scalars that the numbers depend on, such as seed and step.
        shape: of the batch, whose first axis is that of the examples.
    """
    key = threefry((words[0], words[1]), (words[2], words[3]))
    examples = first + unsigned(ops.arange(shape[0])) * every
    places = unsigned(ops.arange(math.prod(shape[1:])))
    drawn = threefry(key, (places[None], examples[:, None]), SHORT)[0]
    return ops.reshape(drawn, shape)


def uniform(seed: int, step: Tensor | int, place: int, like: Tensor) -> Tensor:
    """Uniform random numbers in [0, 1), of the shape of `like`: float32, multiples of 2**-24.

    `place` in [0, 2**32) distinguishes the draws of a step.
    """
    words = word(seed), ops.cast(step, "uint32"), word(place)
    entries = ops.cast(ops.reshape(like, (-1,)), "float32")
    return ops.reshape(_draw(entries, *words), ops.shape(like))


def normal_pair(seed: int, step: Tensor | int) -> Tensor:
    """Two independent normal numbers (Box and Muller 1958), float32 `(2,)`; see `uniform`."""
    first, second = ops.unstack(uniform(seed, step, 0, ops.zeros(2)), 2)
    angle = 2 * math.pi * second
    return ops.sqrt(-2 * ops.log(1 - first)) * ops.stack([ops.cos(angle), ops.sin(angle)])


def _draw(like: Tensor, seed: Tensor, step: Tensor, place: Tensor) -> Tensor:
    count = ops.shape(like)[0]
    counter = ops.cast(ops.arange((count + 1) // 2), "uint32"), place
    # Each counter gives two numbers.
    both = ops.concatenate(threefry((seed, step), counter, SHORT))
    return (ops.cast(ops.right_shift(both, word(8)), "float32") * _UNIT)[:count]


if keras.backend.backend() == "tensorflow":
    import tensorflow as tf

    # Its 80 operations are traced once, and take one pass over memory.
    _draw = tf.function(
        _draw,
        [tf.TensorSpec((None,)), *[tf.TensorSpec((), tf.uint32)] * 3],
        autograph=False,
        jit_compile=True,
    )
