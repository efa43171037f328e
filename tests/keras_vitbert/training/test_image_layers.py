"""KerasCV's layers in the training step."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.image_layers import ImageLayers, image_layers
from pipelines.images.keras_cv_layers import IMAGE_LAYERS
from tests.marks import slow, thorough

SIZE, COUNT = 12, 6


def layer(name, **config):
    return {"class_name": name, "config": config}


HUE = layer("RandomHue", factor=0.3)
# What layers need, and makes small images differ.
ARGUMENTS = {
    "Grayscale": {"output_channels": 3},
    "Posterization": {"bits": 4},
    "RandomApply": {"layer": layer("RandomCutout", height_factor=0.3, width_factor=0.3)},
    "RandomAugmentationPipeline": {
        "layers": [HUE, layer("Solarization", threshold_factor=[128, 255])],
        "augmentations_per_image": 2,
    },
    "RandomBrightness": {"factor": 0.2},
    "RandomChannelShift": {"factor": 0.2},
    "RandomChoice": {"layers": [HUE, layer("Equalization")]},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {
        "brightness_factor": 0.2,
        "contrast_factor": 0.2,
        "saturation_factor": [0.4, 0.6],
        "hue_factor": 0.1,
    },
    "RandomContrast": {"factor": 0.2},
    "RandomCropAndResize": {"crop_area_factor": [0.8, 1.0], "aspect_ratio_factor": [0.75, 1.33]},
    "RandomCutout": {"height_factor": 0.3, "width_factor": 0.3},
    "RandomGaussianBlur": {"kernel_size": 3, "factor": [0.0, 1.0]},
    "RandomHue": {"factor": 0.1},
    "RandomJpegQuality": {"factor": [60, 100]},
    "RandomRotation": {"factor": 0.05},
    "RandomSaturation": {"factor": [0.4, 0.6]},
    "RandomSharpness": {"factor": 0.5},
    "RandomShear": {"x_factor": 0.1, "y_factor": 0.1},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": 0.1},
    "RandomZoom": {"height_factor": 0.1},
    "Solarization": {"threshold_factor": [128, 255]},
}
# Tracing these takes seconds.
CHOOSING = ("RandomApply", "RandomAugmentationPipeline", "RandomChoice")
LONG = ("RandAugment", "GridMask", "RandomChannelShift", *CHOOSING)
WITHOUT_NUMBERS = ("AutoContrast", "Equalization", "Grayscale", "Posterization")
# Which draw in different ways; the others are slow tests.
QUICK = ("RandomHue", "RandomGaussianBlur", "Grayscale", "RandomCutout")


@pytest.fixture(scope="module")
def images():
    return tf.random.stateless_uniform((COUNT, SIZE, SIZE, 3), (1, 2), 0.1, 0.9)


def numbers(first=0, count=COUNT):
    return tf.stack([tf.range(first, first + count), tf.fill([count], 7)], -1)


def applied(layers):
    return tf.function(lambda images, numbers: layers(images, numbers), autograph=False)


@pytest.mark.parametrize(
    "name",
    [
        name if name in QUICK else thorough(name) if name in LONG else slow(name)
        for name in IMAGE_LAYERS
    ],
)
def test_an_image_is_changed_by_its_own_number(images, name):
    """Wherever in whichever batch it is; and by another number, in another way."""
    given = [layer(name, **ARGUMENTS.get(name, {}))]
    run = applied(ImageLayers(given, SIZE, 0, "key").check())
    found = run(images, numbers()).numpy()
    assert found.shape == images.shape and found.dtype == np.float32
    assert 0 <= found.min() and found.max() <= 1
    assert np.abs(found - images).max() > 1e-3
    order = np.array([4, 2, 0, 5, 1, 3])
    moved = run(tf.gather(images, order), tf.gather(numbers(), order))
    np.testing.assert_allclose(moved, found[order], atol=1e-6)
    same = run(tf.tile(images[:1], (COUNT, 1, 1, 1)), numbers()).numpy()
    assert (np.abs(same - same[:1]).max() > 1e-3) == (name not in WITHOUT_NUMBERS)
    again = applied(ImageLayers(given, SIZE, 0, "key"))(images, numbers())
    np.testing.assert_allclose(again, found, atol=1e-6)
    if name not in WITHOUT_NUMBERS:
        other = applied(ImageLayers(given, SIZE, 1, "key"))(images, numbers())
        assert np.abs(other - found).max() > 1e-3


def test_brightness_by_numpy(images):
    """Of bytes: a shift of each image, cut off at 0 and 1."""
    given = tf.cast(tf.round(images * 255), tf.uint8)
    whole = given.numpy() / 255
    layers = ImageLayers([layer("RandomBrightness", factor=0.5)], SIZE, 0, "key")
    found = applied(layers)(given, numbers())
    shifts = np.array([np.median(each) for each in found.numpy() - whole])
    assert np.abs(shifts).max() <= 0.5 and len(np.unique(shifts.round(4))) == COUNT
    expected = np.clip(whole + shifts[:, None, None, None], 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_come_one_after_another(images):
    both = [layer("RandomFlip", rate=1.0), layer("Solarization", threshold_factor=[0.0, 0.0])]
    found = applied(ImageLayers(both, SIZE, 0, "key"))(images, numbers())
    np.testing.assert_allclose(found, 1 - images.numpy()[:, :, ::-1], atol=1e-5)


def test_what_keras_has_serialised(images):
    """Also samplers, and layers within layers, which KerasCV itself does not deserialise."""
    from keras_cv import core, layers

    factor = core.UniformFactorSampler(0.1, 0.5)
    made = layers.RandomApply(layers.RandomHue(factor, value_range=(0, 1)), rate=1.0, seed=3)
    given = keras.saving.serialize_keras_object(made)
    found = applied(ImageLayers([given], SIZE, 0, "key"))(images, numbers()).numpy()
    plain = layer("RandomHue", factor=given["config"]["layer"]["config"]["factor"])
    inner = ImageLayers([layer("RandomApply", layer=plain, rate=1.0)], SIZE, 0, "key")
    np.testing.assert_array_equal(found, applied(inner)(images, numbers()))
    assert np.abs(found - images).max() > 1e-3


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("RandomHue", {"factor": 2}),
        ("RandomCutout", {**ARGUMENTS["RandomCutout"], "fill_mode": "gaussian_noise"}),
        ("RandomApply", {**ARGUMENTS["RandomApply"], "batchwise": True}),
        ("Grayscale", {"output_channels": 1}),
    ],
)
def test_arguments_that_do_not_work(name, config):
    with pytest.raises(ValueError, match=f"^images.augmentations: {name}: ") as caught:
        ImageLayers([layer(name, **config)], SIZE, 0, "images.augmentations").check()
    assert "\n" not in str(caught.value)


def test_without_kerascv(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ValueError, match="KerasCV"):
        ImageLayers([HUE], SIZE, 0, "images.augmentations")
    assert image_layers((), SIZE, 0, "images.augmentations") is None
