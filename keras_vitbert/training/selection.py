"""Exact selection of the smallest magnitudes over many tensors, without sorting or concatenation.

Non-negative floats are ordered like their bit patterns read as integers. So the k-th smallest value
is found by bisection over the bits: 31 passes that only count. Of equal values the first ones in
flat order are selected; the position where they end is found by the same bisection over the flat
index. The cost is a fixed number of counting passes, the memory one copy of the values as integers.
"""

import itertools

import tensorflow as tf

MAGNITUDE_BITS = 31  # float32 without its sign


def smallest(values, candidates, count):
    """Marks the `count` candidates with the smallest magnitude over all tensors together.

    Ties are broken by position (list order, then row-major), so that exactly `count` entries are
    marked. NaNs are larger than everything.

    Args:
        values: list of float tensors; compared in float32 by absolute value.
        candidates: list of boolean tensors of the same shapes; only true entries can be marked.
        count: scalar int32 tensor, at most the number of candidates. The tensors may have
            2**31 - 1 entries in total.

    Returns:
        list of boolean tensors, true where marked.
    """
    # Clearing the sign bit is the absolute value, and unlike `tf.abs` it also orders NaNs last.
    bits = [tf.bitcast(tf.cast(value, tf.float32), tf.int32) & 0x7FFFFFFF for value in values]
    count = tf.cast(count, tf.int32)

    def number_up_to(limit):
        return _count([c & (b <= limit) for b, c in zip(bits, candidates, strict=True)])

    threshold = _least(number_up_to, count, MAGNITUDE_BITS)

    below = [c & (b < threshold) for b, c in zip(bits, candidates, strict=True)]
    ties = [c & (b == threshold) for b, c in zip(bits, candidates, strict=True)]
    wanted_ties = count - _count(below)

    sizes = [value.shape.num_elements() for value in values]
    starts = list(itertools.accumulate(sizes, initial=0))

    def ties_up_to(limit):
        """The ties whose flat index over all tensors is at most `limit`."""
        # The indices are made in every pass: to keep them would take as much memory as the values.
        return [
            tie & tf.reshape(tf.range(start, start + size) <= limit, tie.shape)
            for tie, start, size in zip(ties, starts[:-1], sizes, strict=True)
        ]

    last = _least(lambda limit: _count(ties_up_to(limit)), wanted_ties, starts[-1].bit_length())
    last = tf.where(wanted_ties > 0, last, -1)
    return [b | t for b, t in zip(below, ties_up_to(last), strict=True)]


def _count(flags):
    """The number of true entries, int32 (float32 is not exact above 2**24)."""
    return tf.add_n([tf.reduce_sum(tf.cast(flag, tf.int32)) for flag in flags])


def _least(count_up_to, wanted, bits):
    """The least integer of `bits` bits for which `count_up_to` is at least `wanted`."""

    def body(bit, high_part):
        # The bit stays clear if the integers below `high_part + 2**bit` are enough.
        step = tf.bitwise.left_shift(1, bit)
        enough = count_up_to(high_part + (step - 1)) >= wanted
        return bit - 1, tf.where(enough, high_part, high_part + step)

    _, result = tf.while_loop(
        lambda bit, high_part: bit >= 0,
        body,
        (tf.constant(bits - 1), tf.constant(0)),
        parallel_iterations=1,
    )
    return result
