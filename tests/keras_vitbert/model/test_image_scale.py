"""One scale of images in all of the Python API."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.trained import hub

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 6, 6, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def takers(network, tiny, randomize):
    """Whatever takes images: functions of images."""
    # Fresh embeddings are so small that a LayerNorm may raise their rounding above the tolerance.
    classifier = randomize(build_classifier(tiny, "images", 3), 1)
    task = hub.ViTBertImageClassifier(network.backbone, 3)  # without a preprocessor
    return {
        "backbone": lambda images: network.backbone({"images": images})["image_sequence"],
        "network": lambda images: network({"images": images})["image_logits"],
        "classifier": lambda images: classifier({"images": images}),
        "converter": hub.ViTBertImageConverter((6, 6), central_crop=1.0),
        "task": task,
    }


NAMES = ("backbone", "network", "classifier", "converter")


@pytest.mark.parametrize("name", NAMES)
def test_integers_are_0_to_255_and_floats_0_to_1(takers, name):
    take = takers[name]
    expected = take((PIXELS / 255).astype(np.float32))
    assert len(np.unique(expected)) > 5
    for given in (PIXELS, PIXELS.astype(np.int32), tf.constant(PIXELS), PIXELS / 255):
        np.testing.assert_allclose(take(given), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [*NAMES, "task"])
def test_floats_of_another_scale_are_refused(takers, name):
    for wrong in (PIXELS, (PIXELS / 255 - 0.5) / 0.5):
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="floats are 0 to 1"):
            takers[name](wrong.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_integers_of_another_scale_are_refused(takers, name, kind):
    wrong = PIXELS.astype(kind) * 257
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="integers are 0 to 255"):
        takers[name](wrong)


def test_a_nan_hides_no_wrong_scale(takers):
    dtype = tf.bfloat16
    images = PIXELS / 255
    images[0, 0, 0, 0] = np.nan
    assert np.isnan(takers["backbone"](tf.constant(images, dtype))[0]).any()
    with pytest.raises(ValueError, match="images: from .* to 255; floats"):
        takers["backbone"](tf.constant(images * 255, dtype))


def test_a_graph_is_traced_without_a_check(takers):
    traced = tf.function(takers["backbone"], autograph=False, jit_compile=True)
    floats = (PIXELS / 255).astype(np.float32)
    np.testing.assert_allclose(traced(floats), takers["backbone"](floats), atol=1e-5)
