import collections

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps

from pipelines.augmentation import RandAugment, mix

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
    dim = (picture(1) // 4 + 90).astype(np.uint8)
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
                    assert (difference > 0).mean() < 0.4


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


def batch(count, size=16, first=0):
    random = np.random.default_rng(7)
    images = random.random((first + count, size, size, 3), np.float32)[first:]
    labels = np.arange(first, first + count, dtype=np.int32) % 10
    return images, labels, np.arange(first, first + count, dtype=np.int64)


def mixed(*arguments, compiled=True):
    function = tf.function(mix) if compiled else mix
    arguments = (*map(tf.constant, arguments[:3]), *arguments[3:])
    return {name: value.numpy() for name, value in function(*arguments).items()}


def other_of(array):
    return array.reshape(-1, 2, *array.shape[1:])[:, ::-1].reshape(array.shape)


def check_labels(found, labels):
    np.testing.assert_array_equal(found["image_labels"], labels)
    np.testing.assert_array_equal(found["image_mix_labels"], other_of(labels))
    weights = found["image_mix_weights"]
    assert weights.dtype == np.float32 and weights.min() >= 0.5 and weights.max() <= 1
    np.testing.assert_array_equal(weights[::2], weights[1::2])


def test_mixup_weighs_the_two():
    images, labels, numbers = batch(32)
    found = mixed(images, labels, numbers, 3, 0.8, 0.0)
    check_labels(found, labels)
    weights = found["image_mix_weights"].astype(np.float64)[:, None, None, None]
    expected = weights * images + (1 - weights) * other_of(images)
    np.testing.assert_allclose(found["images"], expected, atol=1e-6)
    assert len(np.unique(weights)) == 16


def test_cutmix_swaps_boxes():
    images, labels, numbers = batch(400)
    found = mixed(images, labels, numbers, 3, 0.0, 1.0)
    check_labels(found, labels)
    own = np.isclose(found["images"], images, atol=1e-6).all(-1)
    partners = np.isclose(found["images"], other_of(images), atol=1e-6).all(-1)
    assert (own ^ partners).all()
    np.testing.assert_allclose(found["image_mix_weights"], own.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(own[::2], own[1::2])
    kinds = collections.Counter()
    for kept in own[::2]:
        # What is swapped, or else what is kept, is one box.
        boxes = []
        for part in (kept, ~kept):
            rows, columns = part.any(1), part.any(0)
            boxes.append(part.all() or np.array_equal(part, np.outer(rows, columns)))
            boxes[-1] &= all((np.diff(np.flatnonzero(side)) == 1).all() for side in (rows, columns))
        assert any(boxes)
        kinds["partner's box" if boxes[1] else "own box"] += 1
    assert kinds["own box"] > 10 and kinds["partner's box"] > 100
    # Yun et al.: a box of sides sqrt(1 - share) around a uniform centre, cut at the edges.
    random = np.random.default_rng(0)
    share, center = random.beta(1, 1, 20_000), random.random((2, 20_000))
    half = np.sqrt(1 - share) / 2
    area = np.prod(np.clip(center + half, 0, 1) - np.clip(center - half, 0, 1), 0)
    expected = np.maximum(area, 1 - area)
    assert found["image_mix_weights"].mean() == pytest.approx(expected.mean(), abs=0.04)
    assert found["image_mix_weights"].std() == pytest.approx(expected.std(), abs=0.03)
    swapped = (~own[::2]).mean(0)
    assert swapped[8, 8] == pytest.approx(swapped[7, 3], abs=0.12)  # no side is preferred


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_a_beta_distributions(alpha):
    images, labels, numbers = batch(1600, size=1)
    shares = mixed(images, labels, numbers, 0, alpha, 0.0)["image_mix_weights"][::2]
    random = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = np.maximum(random, 1 - random)
    assert shares.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 28)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        below = (shares <= np.quantile(expected, quantile)).mean()
        assert below == pytest.approx(quantile, abs=0.07)  # 4 standard deviations at 0.5


def test_with_two_alphas_each_pair_gets_one():
    images, labels, numbers = batch(400, size=8)
    arguments = images, labels, numbers, 6
    both, first, second = (
        mixed(*arguments, *alphas) for alphas in ((0.4, 1.0), (0.4, 0.0), (0.0, 1.0))
    )
    check_labels(both, labels)
    of_first, of_second = (
        (both["images"] == one["images"]).reshape(200, -1).all(1)
        & (both["image_mix_weights"] == one["image_mix_weights"])[::2]
        for one in (first, second)
    )
    assert (of_first | of_second).all()
    assert abs(of_first.mean() - 0.5) < 0.14 and abs(of_second.mean() - 0.5) < 0.14


@pytest.mark.parametrize("alphas", [(0.3, 0.0), (0.0, 1.0), (0.3, 1.0)])
def test_a_split_batch_is_mixed_alike(alphas):
    whole = mixed(*batch(12), 2, *alphas)
    eager = mixed(*batch(12), 2, *alphas, compiled=False)
    parts = [mixed(*batch(4, first=first), 2, *alphas) for first in (0, 4, 8)]
    for name, value in whole.items():
        np.testing.assert_array_equal(value, eager[name])
        np.testing.assert_array_equal(value, np.concatenate([part[name] for part in parts]))
    other = mixed(*batch(12), 3, *alphas)
    assert not np.array_equal(other["image_mix_weights"], whole["image_mix_weights"])


def test_a_tiny_alpha_mixes_nearly_nothing():
    images, labels, numbers = batch(64, size=2)
    weights = mixed(images, labels, numbers, 0, 1e-4, 0.0)["image_mix_weights"]
    assert np.isfinite(weights).all() and np.mean(weights > 0.999) > 0.9


@pytest.mark.parametrize(
    ("count", "alphas", "message"),
    [
        (4, (0.0, 0.0), "both 0"),
        (4, (-0.1, 0.0), "mixup_alpha is -0.1; give 0 or more"),
        (4, (0.1, float("nan")), "cutmix_alpha is nan"),
        (3, (0.1, 0.0), "a batch of 3 images has no pairs"),
    ],
)
def test_what_cannot_be_mixed_is_refused(count, alphas, message):
    with pytest.raises(ValueError, match=message):
        mix(*map(tf.constant, batch(count)), 0, *alphas)
