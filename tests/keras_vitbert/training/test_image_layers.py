"""KerasCV's layers in the training step."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.image_layers import ImageLayers, image_layers
from pipelines.images.layer_notation import LAYERS, NOT_ON_TPU
from tests.marks import slow, thorough

SIZE, COUNT = 12, 6
CHOOSING = {
    "RandomApply": "RandomApply(RandomCutout, rate=0.5)",
    "RandomAugmentationPipeline": "RandomAugmentationPipeline([RandomHue(0.3), Solarization], 2)",
    "RandomChoice": "RandomChoice([RandomHue(0.3), Equalization])",
}
# Tracing these takes seconds.
LONG = ("AugMix", "RandAugment", "GridMask", "RandomChannelShift", *CHOOSING.values())
WITHOUT_NUMBERS = ("AutoContrast", "Equalization", "Grayscale", "Posterization")
EACH = [CHOOSING.get(name, name) for name in LAYERS]
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
    "text",
    [each if each in QUICK else thorough(each) if each in LONG else slow(each) for each in EACH],
)
def test_an_image_is_changed_by_its_own_number(images, text):
    """Wherever in whichever batch it is; and by another number, in another way."""
    run = applied(ImageLayers([text], SIZE, 0, "key").check())
    found = run(images, numbers()).numpy()
    assert found.shape == images.shape and found.dtype == np.float32
    assert 0 <= found.min() and found.max() <= 1
    assert np.abs(found - images).max() > 1e-3
    order = np.array([4, 2, 0, 5, 1, 3])
    moved = run(tf.gather(images, order), tf.gather(numbers(), order))
    np.testing.assert_allclose(moved, found[order], atol=1e-6)
    same = run(tf.tile(images[:1], (COUNT, 1, 1, 1)), numbers()).numpy()
    assert (np.abs(same - same[:1]).max() > 1e-3) == (text not in WITHOUT_NUMBERS)
    again = applied(ImageLayers([text], SIZE, 0, "key"))(images, numbers())
    np.testing.assert_allclose(again, found, atol=1e-6)
    if text not in WITHOUT_NUMBERS:
        other = applied(ImageLayers([text], SIZE, 1, "key"))(images, numbers())
        assert np.abs(other - found).max() > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("text", EACH)
def test_the_layers_that_xla_compiles(text):
    inner = {"RandomChoice([RandomHue(0.3), Equalization])": "RandomChoice([RandomHue, Grayscale])"}
    layers = ImageLayers([inner.get(text, text)], SIZE, 0, "key")
    run = tf.function(lambda *batch: layers(*batch), autograph=False, jit_compile=True)
    specs = tf.TensorSpec((COUNT, SIZE, SIZE, 3)), tf.TensorSpec((COUNT, 2), tf.int32)

    def compiled():
        return run.experimental_get_compiler_ir(*specs)(stage="hlo")

    if text in NOT_ON_TPU:
        with pytest.raises(ValueError, match="unsupported operations"):
            compiled()
    else:
        assert "HloModule" in compiled()


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_brightness_by_numpy(images, dtype):
    """Of images of any type in [0, 1] or bytes: a shift of each image, cut off at 0 and 1."""
    given = tf.cast(tf.round(images * 255), tf.uint8) if dtype == tf.uint8 else images
    whole = given.numpy() / 255 if dtype == tf.uint8 else given.numpy()
    found = applied(ImageLayers(["RandomBrightness(0.5)"], SIZE, 0, "key"))(given, numbers())
    shifts = np.array([np.median(each) for each in found.numpy() - whole])
    assert np.abs(shifts).max() <= 0.5 and len(np.unique(shifts.round(4))) == COUNT
    expected = np.clip(whole + shifts[:, None, None, None], 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_come_one_after_another(images):
    texts = ["RandomFlip(rate=1.0)", "Solarization(threshold_factor=(0.0, 0.0))"]
    found = applied(ImageLayers(texts, SIZE, 0, "key"))(images, numbers())
    np.testing.assert_allclose(found, 1 - images.numpy()[:, :, ::-1], atol=1e-5)


def test_jpeg_keeps_the_scale(images):
    smooth = tf.image.resize(tf.image.resize(images, (2, 2)), (SIZE, SIZE))
    found = applied(ImageLayers(["RandomJpegQuality((95, 100))"], SIZE, 0, "key"))(
        smooth, numbers()
    )
    assert 0 < np.abs(found - smooth).max() < 0.1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RandomHue(2, 3, 4)", "RandomHue.*: it takes at most 1 positional argument: factor"),
        ("RandomHue(factor=2)", "`factor` should be inside of range"),
        ("RandomHue(strength=2)", "strength"),
        ("GridMask(fill_mode='gaussian_noise')", "fill_mode is 'gaussian_noise'; only 'constant'"),
        ("RandomCutout(fill_mode='gaussian_noise')", "only 'constant' works here"),
        ("ChannelShuffle(groups=2)", "divisible by the number of groups"),
        ("Grayscale(output_channels=1)", r"makes images of \(12, 12, 1\), not \(12, 12, 3\)"),
        ("RandomApply", "layer"),
    ],
)
def test_arguments_that_do_not_work(text, message):
    with pytest.raises(ValueError, match=f"images.layers: .*{message}") as caught:
        ImageLayers([text], SIZE, 0, "images.layers").check()
    assert "\n" not in str(caught.value)


def test_without_kerascv(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'not installed; run: pip install -e "\.\[keras-'):
        ImageLayers(["RandomHue"], SIZE, 0, "images.layers")
    assert image_layers((), SIZE, 0, "images.layers") is None
