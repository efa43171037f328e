"""Random numbers that are keyed by the example, many examples at once.

`tf.random.stateless_uniform` has one key for a whole tensor. Here each example has its own, so that
its numbers do not depend on where in a batch it is, on how many replicas share the batch, or on
where a run was resumed. The generator is `keras_vitbert.merging.random_numbers.threefry`.
"""

import contextlib
import math
from typing import Any

import tensorflow as tf

from keras_vitbert.merging.random_numbers import threefry

_UNIT = 2.0**-24  # the step of the float32 values in [0, 1)
_FOLDED = 1 << 31  # the first word of a folded counter; that of a draw is smaller


def example_keys(seed, numbers):
    """The keys of examples.

    Args:
        seed: int in [0, 2**32).
        numbers: int32 tensor `(batch, 2)`, the low and the high word of each example's number.

    Returns:
        uint32 tensor `(batch, 2)`.
    """
    words = tf.unstack(tf.bitcast(numbers, tf.uint32), axis=-1)
    key = tf.constant(seed, tf.uint32), tf.constant(0, tf.uint32)
    return tf.stack(threefry(key, words), axis=-1)


class KeyedDraws:
    """Stands in for `tf.random.Generator` where a layer draws its random numbers.

    The place of a draw is its number among the layer's draws, in the order in which the graph is
    made. Draws work only inside `using`.
    """

    def __init__(self):
        self._keys: Any = None
        self._place = 0

    @contextlib.contextmanager
    def using(self, keys, layer=0):
        """Sets the keys for draws inside the block.

        Args:
            keys: uint32 tensor: `(batch, 2)`, and the first axis of what is drawn is that of the
                batch; or `(2,)`, for one example.
            layer: int in [0, 2**11), distinguishes the layers of one example.
        """
        before = self._keys, self._place
        self._keys, self._place = keys, layer << 20
        try:
            yield
        finally:
            self._keys, self._place = before

    @contextlib.contextmanager
    def iteration(self, number):
        """A block that a `tf.while_loop` runs repeatedly.

        Args:
            number: scalar int32 tensor, distinguishes the iterations.
        """
        words = tf.constant(_FOLDED + self._next_place(), tf.uint32), tf.cast(number, tf.uint32)
        keys = tf.stack(threefry(tf.unstack(self._keys, axis=-1), words), axis=-1)
        with self.using(keys):
            yield

    def uniform(self, shape, minval=0, maxval=None, dtype=tf.float32, name=None):
        """Uniform random numbers in [minval, maxval); see `tf.random.Generator.uniform`.

        Args:
            shape: sequence of ints, the first of which is the batch's if there are many keys.
            minval, maxval: numbers or tensors that broadcast with the result; 0 and 1 by default.
            dtype: a float or an integer type.
            name: not used.
        """
        del name
        unit = self._unit(shape)
        low = tf.cast(minval, tf.float32)
        high = tf.cast(1 if maxval is None else maxval, tf.float32)
        drawn = low + (high - low) * unit
        return tf.cast(tf.floor(drawn) if tf.as_dtype(dtype).is_integer else drawn, dtype)

    def normal(self, shape, mean=0.0, stddev=1.0, dtype=tf.float32):
        """Normal random numbers.

        Args:
            shape: see `uniform`.
            mean, stddev: floats.
            dtype: a float type.
        """
        # At the midpoints between the values of `_unit`, as 0 would become infinite.
        return tf.cast(mean + stddev * tf.math.ndtri(self._unit(shape) + _UNIT / 2), dtype)

    def gamma(self, shape, alpha):
        """Samples of Gamma(alpha, 1), for one example.

        Args:
            shape: sequence of ints.
            alpha: float or tensor.
        """
        words = self._bits(2)
        return tf.random.stateless_gamma(shape, tf.bitcast(words, tf.int32), alpha)

    def _unit(self, shape):
        """Multiples of 2**-24 in [0, 1), float32."""
        if self._keys is None:
            raise RuntimeError("a random number is drawn outside `using`, without an example's key")
        sizes = shape if self._keys.shape.rank == 1 else shape[1:]
        # The size of a batch of one image may be a tensor.
        rest = [int(tf.get_static_value(size) or 1) for size in sizes]
        bits = self._bits(math.prod(rest))
        whole = tf.bitcast(tf.bitwise.right_shift(bits, tf.constant(8, tf.uint32)), tf.int32)
        lead = tf.shape(self._keys)[:-1]
        return tf.reshape(tf.cast(whole, tf.float32) * _UNIT, tf.concat([lead, rest], 0))

    def _bits(self, count):
        """uint32 tensor `(batch, count)` or `(count,)`."""
        pairs = -(-count // 2)
        place = tf.constant(self._next_place(), tf.uint32)
        counter = place, tf.cast(tf.range(pairs), tf.uint32)
        key = tuple(tf.expand_dims(word, -1) for word in tf.unstack(self._keys, axis=-1))
        both: Any = tf.concat(threefry(key, counter), axis=-1)
        return both[..., :count]

    def _next_place(self):
        self._place += 1
        return self._place
