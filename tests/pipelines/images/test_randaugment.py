import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.images.randaugment import RandAugment

SIZE = 40


def picture(seed=0, size=SIZE):
    """Waves, an edge and noise, from 20 to 235 in one channel and less in the others."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    waves = np.stack([np.sin(x * a + y * b) for a, b in random.uniform(-9, 9, (3, 2))], -1)
    image = 120 + [80, 60, 40] * waves + random.normal(0, 12, (size, size, 3))
    image[: size // 3, : size // 2] += 30
    return np.clip(image, 20, 235).astype(np.uint8)


def affine(image, x, y):
    """Pillow's transform: coefficients of the input's place, from centres of the output's."""
    return image.transform(image.size, Image.Transform.AFFINE, (*x, *y), Image.Resampling.NEAREST)


def references(magnitude, sign):
    """Pillow's operations of the paper: dict of name to a function of a Pillow image."""
    part = magnitude / 30
    shear, shift, factor = (0.3 * part * sign, int(150 / 331 * SIZE * part), 1 + 0.9 * part * sign)
    shift *= sign
    return {
        "identity": lambda image: image,
        "shear_x": lambda image: affine(image, (1, shear, 0), (0, 1, 0)),
        "shear_y": lambda image: affine(image, (1, 0, 0), (shear, 1, 0)),
        "translate_x": lambda image: affine(image, (1, 0, -shift), (0, 1, 0)),
        "translate_y": lambda image: affine(image, (1, 0, 0), (0, 1, -shift)),
        "rotate": lambda image: image.rotate(30 * part * sign),
        "brightness": lambda image: ImageEnhance.Brightness(image).enhance(factor),
        "color": lambda image: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda image: ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": lambda image: ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": lambda image: ImageOps.posterize(image, 8 - round(part * 4)),
        "solarize": lambda image: ImageOps.solarize(image, 255 * (1 - part)),
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
    }


GEOMETRIC = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate"}
BLENDS = {"brightness", "color", "contrast", "sharpness", "autocontrast"}


@pytest.mark.parametrize("magnitude", [0, 9, 30])
@pytest.mark.parametrize("jit_compile", [True, False])
def test_every_operation_is_pillows(magnitude, jit_compile):
    operations = RandAugment(2, magnitude, jit_compile).operations(SIZE)
    assert list(operations) == list(references(magnitude, 1))
    two_values = np.where(picture() > 130, 200, 60).astype(np.uint8)
    dim = (picture(2) // 4 + 90).astype(np.uint8)
    for side, sign in enumerate((1, -1)):
        for name, reference in references(magnitude, sign).items():
            for pixels in (picture(), dim, two_values, np.full_like(dim, 77)):
                found = operations[name][side](tf.constant(pixels)).numpy()
                expected = np.asarray(reference(Image.fromarray(pixels)))
                difference = np.abs(found.astype(int) - expected)
                if name in GEOMETRIC:  # Pillow's fixed-point places differ in a few ties
                    assert (difference > 0).mean() < 0.004, name
                else:
                    assert difference.max() <= (name in BLENDS), (name, sign)
                    assert (difference > 0).mean() < 0.06, (name, sign)


def test_most_operations_change_the_image_and_none_leaves_its_range():
    operations = RandAugment(2, 15).operations(SIZE)
    image = picture()
    changed = {
        name: [not np.array_equal(operation(tf.constant(image)), image) for operation in pair]
        for name, pair in operations.items()
    }
    assert not any(changed.pop("identity")) and all(map(all, changed.values()))
    for extreme in (0, 255):
        flat = np.full((SIZE, SIZE, 3), extreme, np.uint8)
        for name in BLENDS | {"posterize", "equalize"}:
            for operation, sign in zip(operations[name], (1, -1), strict=True):
                expected = np.asarray(references(15, sign)[name](Image.fromarray(flat)))
                np.testing.assert_array_equal(operation(tf.constant(flat)), expected, name)


def choices(augment, numbers, seed=0):
    function = tf.function(augment.choices)
    keys = (tf.constant([seed, number], tf.int64) for number in numbers)
    return np.stack([function(key).numpy() for key in keys])


def test_an_image_gets_the_operations_that_were_chosen_one_after_the_other():
    augment = RandAugment(3, 12)
    functions = [function for pair in augment.operations(SIZE).values() for function in pair]
    for number, places in enumerate(choices(augment, range(40), seed=5)):
        image = tf.constant(picture(number))
        expected = image
        for place in places:
            expected = functions[place](expected)
        found = augment(image, tf.constant([5, number], tf.int64))
        np.testing.assert_array_equal(found, expected)


def test_operations_and_signs_are_chosen_evenly_and_independently():
    count = 3000
    chosen = choices(RandAugment(2), range(count))
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


def test_equal_keys_give_equal_images_eager_compiled_or_in_a_stream():
    augment, count = RandAugment(), 12
    images = np.stack([picture(number) for number in range(count)])
    keys = [tf.constant([4, number], tf.int64) for number in range(count)]
    eager = [augment(image, key).numpy() for image, key in zip(images, keys, strict=True)]
    function = tf.function(augment)
    compiled = [function(image, key).numpy() for image, key in zip(images, keys, strict=True)]
    stream = tf.data.Dataset.from_tensor_slices((images, tf.stack(keys)))
    streamed = list(stream.map(augment, 2).as_numpy_iterator())
    again = RandAugment()
    late = [again(images[n], keys[n]).numpy() for n in (7, 8)]
    np.testing.assert_array_equal(eager, compiled)
    np.testing.assert_array_equal(eager, streamed)
    np.testing.assert_array_equal(eager[7:9], late)
    other = [augment(image, tf.constant([5, n], tf.int64)) for n, image in enumerate(images)]
    assert sum(np.array_equal(a, b) for a, b in zip(eager, other, strict=True)) < count // 2


def test_no_operations_leave_the_image():
    image = tf.constant(picture())
    np.testing.assert_array_equal(RandAugment(0)(image, tf.constant([0, 0], tf.int64)), image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_ops": -1}, "num_ops is -1; give 0 or more"),
        ({"magnitude": -1}, "magnitude is -1; give 0 to 30"),
        ({"magnitude": 31}, "magnitude is 31; give 0 to 30"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandAugment(**arguments)


# KerasCV's operation at magnitude 15, and the largest difference after rounding down. Its equalize
# takes another histogram.
KERAS_CV = {
    "posterize": (lambda layers: layers.Posterization((0, 255), bits=6), 0),
    "solarize": (lambda layers: layers.Solarization((0, 255), threshold_factor=(128, 128)), 0),
    "autocontrast": (lambda layers: layers.AutoContrast((0, 255)), 1),
    "color": (lambda layers: layers.RandomColorDegeneration((0.45, 0.45)), 1),
}


def test_keras_cv_agrees():
    from keras_cv import layers

    operations = RandAugment(2, 15).operations(SIZE)
    images = np.stack([picture(number) for number in range(4)])
    for name, (make, largest) in KERAS_CV.items():
        expected = make(layers)(images.astype(np.float32), training=True).numpy()
        for image, reference in zip(images, expected, strict=True):
            found = operations[name][1](tf.constant(image)).numpy()
            assert not np.array_equal(found, image), name
            assert np.abs(found - np.floor(reference)).max() <= largest, name
