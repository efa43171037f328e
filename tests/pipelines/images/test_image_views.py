import dataclasses

import numpy as np
import tensorflow as tf

from pipelines.images.image_decoding import central_crop, random_crop
from pipelines.images.image_views import ImageViews
from tests.pipelines.image_fixtures import smooth

WHOLE = ImageViews(16, crop_area=(1.0, 1.0), flip=False, central_crop=1.0)


def jpeg(pixels):
    return tf.io.encode_jpeg(pixels, quality=95).numpy()


class Store:
    """Each element is a number, and its image is file `number mod len(files)`."""

    def __init__(self, files):
        self.files = tf.constant(files)

    def elements(self, seed, start, shard):
        numbers = tf.data.Dataset.range(start, 2**62)
        return tf.data.Dataset.zip(numbers, numbers)

    def in_order(self, begin, end):
        return tf.data.Dataset.range(begin, len(self.files) if end is None else end)

    def read(self, number):
        place = number % len(self.files)
        return self.files[place], tf.cast(place, tf.int32)

    def to_labels(self, stored):
        return stored


def training(views, files, count, start=0, seed=0, batch=None):
    """Examples `start` to `start + count`, which batches bring."""
    batch = batch or count
    stream = views.training(Store(files), seed, start, batch, (1, 0)).take(count // batch)
    batches = list(stream.as_numpy_iterator())
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def test_views_are_the_crops_of_the_example_and_the_central_square():
    """What these are is tested with them."""
    files = [jpeg(smooth(30, 40, seed)) for seed in range(3)]
    views = ImageViews(16, crop_area=(0.2, 0.6), flip=True, central_crop=0.5)
    keys = [tf.constant([4, 7 + n], tf.int64) for n in range(6)]
    crops = [random_crop(files[key[1] % 3], key, 16, (0.2, 0.6), True) for key in keys]
    found = training(views, files, 6, start=7, seed=4)["images"]
    np.testing.assert_array_equal(found, crops)
    squares = [central_crop(file, 16, 0.5) for file in files]
    for number, example in enumerate(views.validation(Store(files)).as_numpy_iterator()):
        assert example["image_labels"] == number
        np.testing.assert_array_equal(example["images"], squares[number])


def test_images_have_their_numbers_where_the_step_augments_them():
    files = [jpeg(smooth(16, 16, seed)) for seed in range(3)]
    start = 2**33 + 5
    found = training(dataclasses.replace(WHOLE, augmentations=("x",)), files, 6, start, batch=2)
    low, high = found["image_numbers"].astype(np.int64).T
    assert (high * 2**32 + low).tolist() == list(range(start, start + 6))
    assert found["image_labels"].tolist() == [(start + place) % 3 for place in range(6)]
    assert "image_numbers" not in training(WHOLE, files, 6)


def test_images_are_mixed_in_pairs():
    files = [jpeg(np.full((8, 8, 3), 50 * label, np.uint8)) for label in range(5)]
    mixing = dataclasses.replace(WHOLE, mixup=0.8)
    mixed = training(mixing, files, 8, seed=1)
    values, partners = np.arange(8) % 5, (np.arange(8) ^ 1) % 5
    first, second = mixed["image_labels"], mixed["image_mix_labels"]
    assert (np.sort([first, second], 0) == np.sort([values, partners], 0)).all()
    weights = mixed["image_mix_weights"]
    expected = (weights * first + (1 - weights) * second) * 50 / 255
    np.testing.assert_allclose(mixed["images"].mean((1, 2, 3)), expected, atol=0.01)
