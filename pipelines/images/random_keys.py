"""Keys of an image's random numbers: one for each use, so that none depend on one another.

The images that a seed gives depend on the values below: give a new use a new value.
"""

import tensorflow as tf

WINDOW, MIRROR = 1, 2
OPERATIONS, MIX_SWITCH, FIRST_GAMMA, SECOND_GAMMA, BOX_CENTER = range(101, 106)


def derived_key(key, name):
    """A key for random numbers that are independent of all others of the same example.

    It is as good as `tf.random.fold_in`, since the operations scramble their keys themselves, and
    some 10 us faster, which matters for one image.

    Args:
        key: int64 tensor `(2,)`, the seed and the number of the example.
        name: int, one of the uses above.

    Returns:
        int64 tensor `(2,)`.
    """
    bits = name * 0x9E3779B97F4A7C15 % 2**63  # spread over all bits: seeds are small numbers
    return tf.bitwise.bitwise_xor(key, tf.constant([bits, 0], tf.int64))
