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
        jpeg(0),
        encoded(picture(1), progressive=True, quality=30),
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
        (encoded(picture(5).quantize(64), "PNG"), "png"),
        (encoded(picture(5), "BMP"), "bmp"),
        (encoded(picture(5), "GIF"), "gif"),
        (encoded(picture(5), "GIF", save_all=True, append_images=[picture(6)]), "gif"),
        pytest.param(encoded(picture(5), "WEBP"), "webp", marks=needs_webp),
    ],
)
def test_other_formats_become_jpegs(data, kind):
    image = to_rgb_jpeg(data)
    assert image.converted_from == kind
    assert image.encoded.startswith(b"\xff\xd8\xff")
    assert (image.height, image.width) == (30, 40)
    decoded = Image.open(io.BytesIO(image.encoded))
    assert decoded.mode == "RGB"
    assert abs(np.asarray(decoded).astype(int) - pixels(data)).mean() < 5


def without_adobe_marker(data):
    begin = data.index(b"\xff\xee")
    length = int.from_bytes(data[begin + 2 : begin + 4], "big")
    return data[:begin] + data[begin + 2 + length :]


def ycck(image):
    """An Adobe YCCK JPEG of an RGB image: Y, Cb and Cr are those of the inks, without black."""
    # Pillow stores 255 minus the four planes that it is given, as CMYK; the marker then says YCCK.
    inks = Image.fromarray(255 - np.asarray(image))
    planes = [255 - np.asarray(plane) for plane in inks.convert("YCbCr").split()]
    planes.append(np.zeros_like(planes[0]))
    data = encoded(Image.merge("CMYK", [Image.fromarray(p) for p in planes]), quality=100)
    begin = data.index(b"Adobe")
    assert data[begin + 11] == 0
    return data[: begin + 11] + b"\x02" + data[begin + 12 :]


def darkened(image, black):
    """An Adobe CMYK JPEG with black ink, and the colours it means: (255 - ink) (255 - black)."""
    inks = [255 - np.asarray(plane) for plane in image.split()]
    black = np.full_like(inks[0], black)
    data = encoded(
        Image.merge("CMYK", [Image.fromarray(plane) for plane in (*inks, black)]),
        quality=100,
        subsampling=0,
    )
    expected = np.asarray(image).astype(int) * (255 - int(black.flat[0])) // 255
    return data, expected


def test_cmyk_comes_out_in_the_right_colours():
    image = picture(7)
    colours = np.asarray(image).astype(int)
    inks = Image.fromarray(255 - np.asarray(image))
    cases = [
        (cmyk(image), colours),
        (cmyk(image, progressive=True), colours),
        (ycck(image), colours),
        darkened(image, 100),
    ]
    # Without the marker inks are not inverted; Pillow inverts what it writes.
    planes = [*inks.split(), Image.new("L", image.size, 0)]
    inverted = Image.merge("CMYK", [Image.fromarray(255 - np.asarray(plane)) for plane in planes])
    plain = encoded(inverted, quality=100, subsampling=0)
    cases.append((without_adobe_marker(plain), colours))
    for number, (data, expected) in enumerate(cases):
        stored = to_rgb_jpeg(data)
        assert stored.converted_from == "cmyk", number
        decoded = Image.open(io.BytesIO(stored.encoded))
        assert decoded.mode == "RGB", number
        if b"Adobe" in data:
            assert abs(pixels(data) - expected).mean() < 4, number  # Pillow agrees
        assert abs(np.asarray(decoded).astype(int) - expected).mean() < 4, number


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF\0\0\0\0WAVEfmt ",
        encoded(picture(8), "WEBP")[:-30],
        encoded(Image.new("RGBA", (9, 9), (9, 9, 9, 9)), "WEBP"),
        jpeg(8)[:-1],
        b"\xff\xd8\xff" + bytes(1000),
        encoded(picture(8), "PNG")[:-30],
        encoded(picture(8), "GIF")[:100],
    ],
)
def test_damage_is_found(data):
    with pytest.raises(DamagedImage) as caught:
        to_rgb_jpeg(data)
    assert "\n" not in str(caught.value) and "{{" not in str(caught.value)


def test_a_size_that_the_bytes_cannot_hold():
    data = bytearray(jpeg(9))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = (16000).to_bytes(2, "big") + (10000).to_bytes(2, "big")
    # TensorFlow itself would fill 480 MB with grey.
    with pytest.raises(DamagedImage, match="10000 x 16000"):
        to_rgb_jpeg(bytes(data))


def test_whatever_is_stored_can_be_read():
    """Cut and altered files are refused, or come out as JPEGs that decode in full."""
    random = np.random.default_rng(10)
    image = picture(11, (64, 48))
    originals = [
        encoded(image),
        encoded(image, progressive=True),
        encoded(image.convert("L")),
        cmyk(image),
        encoded(image, "PNG"),
        encoded(image, "GIF"),
        encoded(image, "BMP"),
    ]
    stored = refused = 0
    for trial in range(3500):
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
        with Image.open(io.BytesIO(result.encoded)) as header:
            assert header.size == (result.width, result.height)
    assert stored > 500 and refused > 1000
