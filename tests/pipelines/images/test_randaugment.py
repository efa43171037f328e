import collections

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.randaugment import RandAugment, operations
from tests.pipelines.image_fixtures import textured

SIZE = 40


def choices(augment, numbers, seed=0):
    @tf.function
    def choose(keys):
        return tf.map_fn(augment.choices, keys, tf.int32)

    return choose(tf.constant([[seed, number] for number in numbers], tf.int64)).numpy()


@pytest.fixture(scope="module")
def augment():
    return RandAugment(SIZE, 3, 12)


def test_an_image_gets_the_operations_that_were_chosen_one_after_the_other(augment):
    functions = [function for pair in operations(SIZE, 12).values() for function in pair]
    for number, places in enumerate(choices(augment, range(24), seed=5)):
        image = tf.constant(textured(number))
        expected = image
        for place in places:
            expected = functions[place](expected)
        found = augment(image, tf.constant([5, number], tf.int64))
        np.testing.assert_array_equal(found, expected)


def test_operations_and_signs_are_chosen_evenly_and_independently():
    count = 3000
    chosen = choices(RandAugment(SIZE, 2), range(count))
    assert chosen.min() == 0 and chosen.max() == 27
    expected = count / 28
    for places in chosen.T:
        counts = np.bincount(places, minlength=28)
        # Chi-squared with 27 degrees of freedom: mean 27, 99.9 % below 55.5.
        assert (((counts - expected) ** 2) / expected).sum() < 55.5
    table = np.histogram2d(*(chosen.T // 2), bins=14, range=[[0, 14]] * 2)[0]
    expected = count / 14**2
    assert (((table - expected) ** 2) / expected).sum() < 265  # 195 degrees: 99.9 % below 261
    assert collections.Counter((chosen % 2).sum(1))[1] == pytest.approx(count / 2, abs=100)


def test_equal_keys_give_equal_images_eager_or_in_a_stream(augment):
    images = np.stack([textured(number) for number in range(12)])
    keys = tf.constant([[4, number] for number in range(12)], tf.int64)
    eager = [augment(image, key).numpy() for image, key in zip(images, keys, strict=True)]
    stream = tf.data.Dataset.from_tensor_slices((images, keys)).map(augment, 2)
    np.testing.assert_array_equal(eager, list(stream.as_numpy_iterator()))
    other = [augment(image, key + [1, 0]) for image, key in zip(images, keys, strict=True)]
    assert sum(np.array_equal(a, b) for a, b in zip(eager, other, strict=True)) < 6
