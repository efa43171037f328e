"""Random numbers of dropout on JAX, by the example, for `ExampleDropout`.

They are those of `tensorflow_keys` with Threefry, which XLA fuses with what it acts on, on GPUs
too.
"""

import math

import jax.numpy as jnp

from keras_vitbert.training.threefry import SHORT, threefry


def default_generator():
    """str, of `GENERATORS`."""
    return "threefry"


def keys_of(words, generator, part, parts, interleaved, places):
    """The random numbers of a forward pass on the whole batch.

    Args:
        words: (seed, step, number of the pass).
        generator, part, parts, interleaved, places: see `ExampleDropout`.

    Returns:
        `Keys`.

    Raises:
        ValueError: the generator is not Threefry.
    """
    if generator != "threefry":
        raise ValueError(f"generator is {generator}; JAX has threefry")
    del parts, interleaved
    return Keys(words, part, places)


class Keys:
    """The random numbers of one forward pass.

    Args:
        words: (seed, step, number of the pass).
        part: scalar int tensor or int, which part of the batch it is.
        places: int, for how many examples of a part there are numbers; None for their count.
    """

    generator = "threefry"

    def __init__(self, words, part, places):
        self._words, self._part, self._places = words, part, places

    def kept(self, inputs, layer, rate):
        """Which entries of a batch are not dropped.

        Args:
            inputs: array.
            layer: int.
            rate: float, of those that are.

        Returns:
            bool array of the shape of `inputs`.
        """
        count, *rest = inputs.shape
        seed, step, number, layer = (jnp.asarray(x, jnp.uint32) for x in (*self._words, layer))
        first = jnp.asarray(self._part, jnp.uint32) * (self._places or count)
        examples = first + jnp.arange(count, dtype=jnp.uint32)
        entries = jnp.arange(math.prod(rest), dtype=jnp.uint32)
        counter = entries[None], examples[:, None]
        drawn = threefry(threefry((seed, step), (number, layer)), counter, SHORT)[0]
        return jnp.reshape(drawn >= jnp.uint32(round(rate * 2**32)), inputs.shape)
