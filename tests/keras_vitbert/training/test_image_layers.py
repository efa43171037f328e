"""KerasCV's layers in the training step."""

import itertools
import sys

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_vitbert.training.image_layers import ImageLayers, KeyedDraws, example_keys
from tests.marks import slow, thorough

SIZE, COUNT = 12, 6


def layer(name, **config):
    return {"class_name": name, "config": config}


HUE, FLIP = layer("RandomHue", factor=0.3), layer("RandomFlip", rate=0.5)
CUTOUT = {"height_factor": 0.3, "width_factor": 0.3}
# They draw for a batch or for an image, or nothing, and take other layers in different ways.
LAYERS = {
    "RandomHue": {"factor": 0.3},
    "RandomGaussianBlur": {"kernel_size": 3, "factor": [0.0, 1.0]},
    "Grayscale": {"output_channels": 3},
    "RandomJpegQuality": {"factor": [60, 100]},
    "RandomApply": {"layer": layer("RandomCutout", **CUTOUT)},
    "RandomChoice": {"layers": [HUE, layer("Equalization")]},
    "RandAugment": {},
    "RandomAugmentationPipeline": {"layers": [HUE, FLIP], "augmentations_per_image": 2},
}
QUICK, THOROUGH = list(LAYERS)[:3], list(LAYERS)[-2:]  # tracing the others takes seconds


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
        name if name in QUICK else thorough(name) if name in THOROUGH else slow(name)
        for name in LAYERS
    ],
)
def test_an_image_is_changed_by_its_own_number(images, name):
    """Wherever in whichever batch it is; and by another number or seed, in another way."""
    given, has_numbers = [layer(name, **LAYERS[name])], name != "Grayscale"
    run = applied(ImageLayers(given, SIZE, 0, "key").check())
    found = run(images, numbers()).numpy()
    assert found.shape == images.shape and found.dtype == np.float32
    assert 0 <= found.min() and found.max() <= 1
    assert np.abs(found - images).max() > 1e-3
    order = np.array([4, 2, 0, 5, 1, 3])
    moved = run(tf.gather(images, order), tf.gather(numbers(), order))
    np.testing.assert_allclose(moved, found[order], atol=1e-6)
    same = run(tf.tile(images[:1], (COUNT, 1, 1, 1)), numbers()).numpy()
    assert (np.abs(same - same[:1]).max() > 1e-3) == has_numbers
    other = applied(ImageLayers(given, SIZE, 1, "key"))(images, numbers())
    assert (np.abs(other - found).max() > 1e-3) == has_numbers


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
        ("RandomCutout", {**CUTOUT, "fill_mode": "gaussian_noise"}),
        ("Grayscale", {"output_channels": 1}),
    ],
)
def test_arguments_that_do_not_work(name, config):
    with pytest.raises(ValueError, match=f"^images.augmentations: {name}: "):
        ImageLayers([layer(name, **config)], SIZE, 0, "images.augmentations").check()


def test_without_kerascv(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ValueError, match="KerasCV"):
        ImageLayers([HUE], SIZE, 0, "images.augmentations")


# --- random numbers ------------------------------------------------------------------------------


def test_the_distributions_of_draws():
    draws = KeyedDraws()
    with draws.scope(example_keys(5, numbers(count=400))):
        units = np.ravel(draws.uniform((400, 5, 2), -1, 3.0))
        whole = np.ravel(draws.uniform((400, 9), 2, 5, dtype=tf.int32))
    assert units.min() >= -1 and units.max() < 3
    assert scipy.stats.kstest(units, scipy.stats.uniform(-1, 4).cdf).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(whole, minlength=5)[2:]).pvalue > 1e-3


def test_draws_do_not_depend_on_one_another():
    """Those of examples, of places, of layers and of seeds."""
    draws, found = KeyedDraws(), []
    for seed, layer in itertools.product((0, 1), (0, 1)):
        with draws.scope(example_keys(seed, numbers(count=30)), layer):
            found += [draws.uniform((30, 40)), draws.uniform((30, 40))]
    rows = np.concatenate(found)
    assert len(np.unique(rows[:, 0])) == len(rows)
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 6 / np.sqrt(40)
