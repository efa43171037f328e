import itertools

import numpy as np
import tensorflow as tf

from pipelines.images import image_decoding
from pipelines.images.image_decoding import derived_key

NAMES = {
    "WINDOW": 1,
    "MIRROR": 2,
    "OPERATIONS": 101,
    "MIX_SWITCH": 102,
    "FIRST_GAMMA": 103,
    "SECOND_GAMMA": 104,
    "BOX_CENTER": 105,
}


def test_keys_stay_what_they_are():
    """The images of a seed depend on them: calculated by Python's integers."""
    for name, seed, number in itertools.product(NAMES.values(), (0, 3, 2**40), (0, 1, 10**9)):
        expected = [seed ^ (name * 0x9E3779B97F4A7C15 % 2**63), number]
        found = derived_key(tf.constant([seed, number], tf.int64), name)
        assert found.dtype == tf.int64 and found.numpy().tolist() == expected
    assert {name: getattr(image_decoding, name) for name in NAMES} == NAMES


def test_numbers_of_different_uses_follow_nothing():
    """Nor those of neighbouring seeds and numbers: correlations as of independent ones."""

    @tf.function
    def drawn(seed, name, numbers):
        def one(number):
            key = tf.stack([tf.cast(seed, tf.int64), number])
            return tf.random.stateless_uniform((), derived_key(key, name))

        return tf.map_fn(one, numbers, tf.float32)

    count = 2000
    series = [
        drawn(tf.constant(seed), name, tf.range(start, start + count, dtype=tf.int64)).numpy()
        for seed in (0, 1)
        for start in (0, 1)
        for name in (1, 2, 101, 105)
    ]
    # Of one seed and name, those that begin at 1 are those that begin at 0 without the first.
    for place in (0, 8):
        np.testing.assert_array_equal(series[place + 4][:-1], series[place][1:])
    correlations = np.corrcoef(series) - np.eye(len(series))
    assert np.abs(correlations).max() < 5 / count**0.5
