"""What is stored as it is, what is converted, and what is damaged."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pipelines.images.jpeg import DamagedImage, to_rgb_jpeg
from tests.pipelines.image_fixtures import cmyk, encoded, jpeg, needs_webp, picture, pixels


@pytest.mark.parametrize(
    "data",
    [
        encoded(picture(2).convert("L")),
        encoded(picture(3), comment=b"a comment", exif=Image.Exif(), icc_profile=bytes(5000)),
        encoded(Image.new("RGB", (2000, 1000)), quality=1, progressive=True),  # hardly any bytes
        jpeg(4) + b"something after the end",
    ],
)
def test_jpegs_stay_as_they_are(data):
    image = to_rgb_jpeg(data)
    height, width, _ = pixels(data).shape
    assert image.encoded == data
    assert (image.height, image.width, image.converted_from) == (height, width, "")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (encoded(picture(5), "PNG"), "png"),
        (encoded(picture(5), "GIF", save_all=True, append_images=[picture(6)]), "gif"),
        pytest.param(encoded(picture(5), "WEBP"), "webp", marks=needs_webp),
    ],
)
def test_other_formats_become_jpegs(data, kind):
    image = to_rgb_jpeg(data)
    assert (image.converted_from, image.height, image.width) == (kind, 30, 40)
    decoded = Image.open(io.BytesIO(image.encoded))
    assert decoded.format == "JPEG" and decoded.mode == "RGB"
    assert abs(np.asarray(decoded).astype(int) - pixels(data)).mean() < 5


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_cmyk_comes_out_in_the_right_colours(options):
    data, colours = cmyk(picture(7), **options), np.asarray(picture(7)).astype(int)
    stored = to_rgb_jpeg(data)
    assert stored.converted_from == "cmyk" and b"Adobe" in data
    assert abs(pixels(data) - colours).mean() < 4  # Pillow agrees
    assert abs(pixels(stored.encoded) - colours).mean() < 4


@pytest.mark.parametrize(
    "data", [b"", b"RIFF\0\0\0\0WAVEfmt ", jpeg(8)[:-1], encoded(picture(8), "PNG")[:-30]]
)
def test_damage_is_found(data):
    with pytest.raises(DamagedImage) as caught:
        to_rgb_jpeg(data)
    assert "\n" not in str(caught.value)


def test_whatever_is_stored_can_be_read():
    """Cut and altered files are refused, or come out as JPEGs that decode in full."""
    random = np.random.default_rng(10)
    image = picture(11, (64, 48))
    originals = [encoded(image, kind) for kind in ("JPEG", "PNG", "GIF", "BMP")]
    originals += [encoded(image, progressive=True), encoded(image.convert("L")), cmyk(image)]
    stored = refused = 0
    for trial in range(420):
        data = bytearray(originals[trial % len(originals)])
        if trial % 3 == 0:
            del data[random.integers(1, len(data)) :]
        else:
            end = len(data) if trial % 3 == 1 else min(700, len(data))  # headers matter most
            for place in random.integers(0, end, random.integers(1, 4)):
                data[place] ^= 1 << random.integers(0, 8)
        try:
            result = to_rgb_jpeg(bytes(data))
        except DamagedImage:
            refused += 1
            continue
        stored += 1
        assert result.converted_from or result.encoded == data
        decoded = tf.io.decode_jpeg(result.encoded, channels=3).numpy()
        assert decoded.shape == (result.height, result.width, 3)
        window = [0, 0, result.height, result.width]
        tf.io.decode_and_crop_jpeg(result.encoded, window, channels=3)  # as training does
    assert stored > 50 and refused > 100
