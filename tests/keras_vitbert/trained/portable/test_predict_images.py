"""What the written `predict.py` sees of an image is what `keras_vitbert.predict` does."""

import argparse

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images.image_decoding import central_crop
from tests.keras_vitbert.trained.portable.written_predict import load_predict
from tests.pipelines.image_fixtures import cmyk, encoded, needs_webp, smooth

PICTURE = Image.fromarray(smooth(61, 83))
TURNED = Image.Exif()
TURNED[0x112] = 6  # to be shown turned by 90 degrees


def with_alpha(picture):
    picture = picture.copy()
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    return picture


def deep(size):
    return Image.fromarray(np.random.default_rng(0).integers(0, 2**16, size, np.uint16))


IMAGES = {
    "jpeg": lambda: encoded(PICTURE, quality=90),
    "turned": lambda: encoded(PICTURE, quality=90, exif=TURNED),
    "progressive": lambda: encoded(PICTURE, progressive=True, subsampling=2),
    "grey": lambda: encoded(PICTURE.convert("L")),
    "cmyk": lambda: cmyk(PICTURE),
    "png": lambda: encoded(PICTURE, "PNG"),
    "two_colours": lambda: encoded(PICTURE.convert("1"), "PNG"),
    "palette": lambda: encoded(PICTURE.convert("P"), "PNG"),
    "clear_palette": lambda: encoded(PICTURE.convert("P"), "PNG", transparency=3),
    "grey_png": lambda: encoded(PICTURE.convert("L"), "PNG"),
    "clear_grey": lambda: encoded(with_alpha(PICTURE.convert("L")), "PNG"),
    "clear": lambda: encoded(with_alpha(PICTURE), "PNG"),
    "sixteen_bits": lambda: encoded(deep((61, 83)), "PNG"),
    "gif": lambda: encoded(PICTURE.convert("P"), "GIF"),
    "frames": lambda: encoded(PICTURE, "GIF", save_all=True, append_images=[PICTURE.rotate(90)]),
    "bmp": lambda: encoded(PICTURE, "BMP"),
    "webp": lambda: encoded(PICTURE, "WEBP", lossless=True),
}


def seen(data, size, crop, tmp_path):
    predict = load_predict(tmp_path)
    predict.run = lambda head, images: images
    path = tmp_path / "image"
    path.write_bytes(data)
    about = {"size": size, "central_crop": crop, "classes": []}
    _, [found] = predict.of_image(about, argparse.Namespace(image=path))
    return found.astype(int)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=needs_webp if "webp" in name else ()) for name in IMAGES],
)
def test_modes(name, tmp_path):
    data = IMAGES[name]()
    for size, crop in ((32, 1.0), (32, 0.875), (70, 0.9)):
        expected = central_crop(tf.constant(data), size, crop).numpy().astype(int)
        difference = np.abs(seen(data, size, crop, tmp_path) - expected)
        # Halves are rounded either way, and decoders differ where a window of a JPEG begins.
        assert difference.max() <= 2 and (difference > 0).mean() < 0.05
