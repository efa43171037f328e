"""The random numbers of merges against the cipher in Python's integers."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging.random_numbers import uniform

WORD = 2**32
KEYS = [(0, 0, 0), (7, 2**31 - 1, 3), (WORD - 1, 9, 1)]


def encrypted(key, counter):
    """Threefry-2x32 of 13 rounds, as table 2 and section 2.1 of Salmon et al. 2011 say it."""
    keys = (*key, key[0] ^ key[1] ^ 0x1BD11BDA)
    first, second = ((word + part) % WORD for word, part in zip(counter, keys, strict=False))
    for number in range(13):
        turn = (13, 15, 26, 6, 17, 29, 16, 24)[number % 8]
        first = (first + second) % WORD
        second = (second << turn | second >> 32 - turn) % WORD ^ first
        if number % 4 == 3:
            injected = number // 4 + 1
            first = (first + keys[injected % 3]) % WORD
            second = (second + keys[(injected + 1) % 3] + injected) % WORD
    return first, second


@pytest.mark.parametrize("shape", [(), (3, 5)])
@pytest.mark.parametrize(("seed", "step", "place"), KEYS)
def test_uniform_numbers_are_those_of_the_cipher(seed, step, place, shape):
    count = int(np.prod(shape))
    made = [encrypted((seed, step), (n, place)) for n in range((count + 1) // 2)]
    expected = [words[half] >> 8 for half in range(2) for words in made][:count]
    found = uniform(seed, step, place, np.zeros(shape, np.float32))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(np.reshape(found, -1), np.float64(expected) / 2**24)


def test_in_a_graph_and_of_a_shape_that_is_not_known_they_are_the_same():
    @tf.function(input_signature=[tf.TensorSpec((None, 4)), tf.TensorSpec((), tf.int64)])
    def drawn(like, step):
        return uniform(3, step, 1, like)

    like = tf.zeros((5, 4))
    np.testing.assert_array_equal(drawn(like, 11), uniform(3, 11, 1, like))
