"""One scale of images in all of the Python API."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained import hub

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def takers(network):
    """What takes images: functions of images."""
    return {
        "backbone": lambda images: network.backbone({"images": images})["image_sequence"],
        "converter": hub.ViTBertImageConverter((6, 6), central_crop=1.0),
        "task": hub.ViTBertImageClassifier(network.backbone, 3),  # without a preprocessor
    }


@pytest.mark.parametrize("name", ["backbone", "converter"])
def test_integers_are_0_to_255_and_floats_0_to_1(takers, name):
    take = takers[name]
    expected = take((PIXELS / 255).astype(np.float32))
    assert len(np.unique(expected)) > 5
    for given in (PIXELS, PIXELS.astype(np.int32), tf.constant(PIXELS), PIXELS / 255):
        np.testing.assert_allclose(take(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["backbone", "converter", "task"])
def test_images_of_another_scale_are_refused(takers, name):
    scaled = (PIXELS / 255 - 0.5) / 0.5
    wrong = [np.float32(PIXELS), np.float32(scaled)]
    if name != "task":  # whose layers take floats
        wrong += [np.uint16(PIXELS) * 257, np.int32(PIXELS) * 257]
    for images in wrong:
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="are 0 to"):
            takers[name](images)


def test_a_nan_hides_no_wrong_scale(takers):
    images = PIXELS / 255
    images[0, 0, 0, 0] = np.nan
    assert np.isnan(takers["backbone"](tf.constant(images, tf.bfloat16))[0]).any()
    with pytest.raises(ValueError, match="images: from .* to 255; floats"):
        takers["backbone"](tf.constant(images * 255, tf.bfloat16))


def test_a_graph_is_traced_without_a_check(takers):
    traced = tf.function(takers["backbone"], autograph=False, jit_compile=True)
    floats = (PIXELS / 255).astype(np.float32)
    np.testing.assert_allclose(traced(floats), takers["backbone"](floats), atol=1e-5)
