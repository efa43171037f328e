"""Keys of the random numbers of an image: one for every use, so that none follow one another.

The names are numbers that the images of a seed depend on: give a new use a new one.
"""

WINDOW, MIRROR = 1, 2
OPERATIONS, MIX_SWITCH, FIRST_GAMMA, SECOND_GAMMA, BOX_CENTER = range(101, 106)


def derived_key(key, name):
    """A key for numbers that follow no others of the same example.

    As good as `tf.random.fold_in`, since the operations scramble their keys themselves, and some
    10 us faster, which counts for an image.

    Args:
        key: int64 tensor `(2,)`, the seed and the number of the example.
        name: int, one of the names above.

    Returns:
        int64 tensor `(2,)`.
    """
    import tensorflow as tf

    bits = name * 0x9E3779B97F4A7C15 % 2**63  # spread over all bits: seeds are small numbers
    return tf.bitwise.bitwise_xor(key, tf.constant([bits, 0], tf.int64))
