import functools
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images.image_decoding import central_crop, central_view, random_crop
from tests.pipelines.image_fixtures import PILLOWS_ROUNDING, needs_webp, pillow, smooth

ROUNDING = 0.501 / 255  # of ours, to 8 bits


def encoded(pixels, kind="JPEG", mode=None, **options):
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    image.convert(mode or image.mode).save(buffer, kind, **options)
    return buffer.getvalue()


def coordinates(height, width):
    """An image whose red is the column and whose green is the row, in parts of its sides."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.rint(np.stack([x / width, y / height, 0 * x], -1) * 255).astype(np.uint8)


def crops(image, keys, size, **options):
    function = tf.function(functools.partial(random_crop, image_size=size, **options))
    image = tf.constant(image)
    return np.stack([function(image, tf.constant(key, tf.int64)).numpy() for key in keys]) / 255


def whole(image, size, **options):
    return crops(image, [(0, 0)], size, crop_area=(1.0, 1.0), flip=False, **options)[0]


def averages(pixels, size):
    """Every output pixel is the mean of the area that it covers, parts of pixels included."""

    def weights(side):
        edges, pixel = np.arange(size + 1) * side / size, np.arange(side)
        low = np.maximum(edges[:-1, None], pixel)
        high = np.minimum(edges[1:, None], pixel + 1)
        return np.maximum(high - low, 0) * size / side

    height, width = pixels.shape[:2]
    return np.einsum(
        "yi,xj,ijc->yxc", weights(height), weights(width), pixels / 255.0, optimize=True
    )


def test_windows_are_those_of_the_area_and_the_flip():
    """Where the corners of the coordinate image come to lie tells the window."""
    height, width, size = 150, 200, 24
    image = encoded(coordinates(height, width), quality=100, subsampling=0)
    keys = [(3, n) for n in range(400)]
    found = crops(image, keys, size, crop_area=(0.2, 0.6))
    red, green = found[..., 0].mean(1), found[..., 1].mean(2)
    mirrored = red[:, 0] > red[:, -1]
    # From the first to the last pixel's centre it is (size - 1) / size of the window.
    widths = np.abs(red[:, -1] - red[:, 0]) * size / (size - 1)
    heights = (green[:, -1] - green[:, 0]) * size / (size - 1)
    areas, aspects = widths * heights, widths * width / heights / height
    assert 0.19 < areas.min() and areas.max() < 0.61
    assert 0.72 < aspects.min() and aspects.max() < 1.38  # of whole pixels: 3:4 to 4:3
    assert abs(mirrored.mean() - 0.5) < 0.08  # standard deviation 0.025
    # Uniform from 0.2 to 0.6: mean 0.4, standard deviation 0.115, here of the mean 0.006.
    # Large crops of extreme shape do not fit and are drawn again, so that means lie below.
    assert 0.36 < areas.mean() < 0.41 and 0.09 < areas.std() < 0.13
    assert abs(aspects.mean() - 1.04) < 0.03
    lefts = np.minimum(red[:, 0], red[:, -1])
    assert lefts[areas < 0.3].min() < 0.05 and lefts[areas < 0.3].max() > 0.4
    for of_window in (areas, aspects, lefts):  # the flip is no function of these
        assert abs(np.corrcoef(mirrored, of_window)[0, 1]) < 0.17


@pytest.mark.parametrize(("height", "width", "size"), [(96, 128, 24), (200, 150, 64)])
def test_a_window_much_larger_is_averaged(height, width, size):
    random = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    averaged = whole(encoded(random, "PNG"), size)
    np.testing.assert_allclose(averaged, averages(random, size), atol=ROUNDING)


@pytest.mark.parametrize("size", [20, 40])
def test_a_window_of_some_size_is_interpolated(size):
    pixels = smooth(30, 40)
    found = whole(encoded(pixels, "PNG"), size)
    y, x = ((np.arange(size) + 0.5) * side / size - 0.5 for side in pixels.shape[:2])
    rows = np.stack([np.interp(x, np.arange(40), row) for row in pixels.reshape(30, 40, 3)[..., 0]])
    expected = np.stack([np.interp(y, np.arange(30), column) for column in rows.T], 1) / 255
    np.testing.assert_allclose(found[..., 0], expected, atol=ROUNDING)


@pytest.mark.parametrize(
    "height, width, size, fraction", [(47, 31, 16, 0.5), (90, 200, 24, 1.0), (9, 9, 18, 1.0)]
)
def test_the_central_crop_is_pillows(height, width, size, fraction):
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3)).astype(np.uint8)
    side = round(min(height, width) * fraction)
    top, left = (height - side) // 2, (width - side) // 2
    window = encoded(np.ascontiguousarray(pixels[top : top + side, left : left + side]), "PNG")
    found = central_crop(tf.constant(encoded(pixels, "PNG")), size, fraction).numpy()
    assert found.dtype == np.uint8 and found.shape == (size, size, 3)
    np.testing.assert_allclose(found / 255, pillow(window, size), atol=PILLOWS_ROUNDING)


def test_the_central_view_of_pixels_is_that_of_the_file():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 41, 30, 3), np.uint8)
    wanted = [central_crop(tf.constant(encoded(image, "PNG")), 16, 0.9) for image in pixels]
    np.testing.assert_array_equal(central_view(tf.constant(pixels), 16, 0.9), wanted)


def test_a_jpegs_window_is_cut_from_the_whole():
    image = encoded(smooth(120, 160), quality=95, subsampling=0)
    as_png = encoded(np.asarray(Image.open(io.BytesIO(image))), "PNG")
    keys = [(0, n) for n in range(20)]
    windows, cut = crops(image, keys, 24), crops(as_png, keys, 24)
    np.testing.assert_allclose(windows, cut, atol=ROUNDING)


@pytest.mark.parametrize(
    ("kind", "mode", "tolerance"),
    [
        ("JPEG", "L", PILLOWS_ROUNDING),
        ("JPEG", "CMYK", 2 * PILLOWS_ROUNDING),
        ("PNG", "RGBA", PILLOWS_ROUNDING),
        pytest.param("WEBP", "RGB", PILLOWS_ROUNDING, marks=needs_webp),
    ],
)
def test_other_kinds_of_files_are_read(kind, mode, tolerance):
    image = encoded(smooth(32, 32), kind, mode)
    expected = pillow(image, 32)
    np.testing.assert_allclose(whole(image, 32), expected, atol=tolerance)
    found = central_crop(tf.constant(image), 32, 1.0)
    np.testing.assert_allclose(found / 255, expected, atol=tolerance)


@pytest.mark.parametrize("broken", [b"", b"text", encoded(smooth(9, 9))[:50]])
def test_what_is_no_image_stops_the_stream(broken):
    for decode in (lambda: central_crop(tf.constant(broken), 8), lambda: whole(broken, 8)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            decode()
