"""An image is turned as its EXIF data say; Pillow is the reference."""

import functools
import io
import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from pipelines.images.image_decoding import central_crop, random_crop
from pipelines.images.image_views import ImageViews
from pipelines.images.jpeg import to_rgb_jpeg
from pipelines.images.orientation import orientation
from pipelines.tasks.listed_images import ListedImages
from tests.pipelines.image_fixtures import cmyk, encoded, needs_webp, picture

SIZE = 16
NUMBERS = range(1, 9)


def exif(number, order=">"):
    """EXIF data with another entry before the orientation."""
    data = Image.Exif()
    data.endian = order
    data[0x10F], data[0x112] = "maker", number
    return data.tobytes()


def turned_jpeg(number, order=">"):
    return encoded(picture(number), quality=95, subsampling=0, exif=exif(number, order))


def upright(data):
    """The same pixels as Pillow shows them, without EXIF data."""
    return encoded(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"), "PNG")


@functools.cache
def views():
    """The pixels of a central and of some random crops."""

    @tf.function(input_signature=[tf.TensorSpec((), tf.string)])
    def views(data):
        keys = [tf.constant([0, n], tf.int64) for n in range(3)]
        random = [random_crop(data, key, SIZE) for key in keys]
        return tf.cast(tf.stack([central_crop(data, SIZE, 0.9), *random]), tf.int32)

    return views


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("number", NUMBERS)
def test_training_and_evaluation_see_what_pillow_shows(number, order):
    data = turned_jpeg(number, order)
    assert (b"Exif\0\0II" in data) == (order == "<")
    assert int(orientation(data)) == number
    np.testing.assert_allclose(views()(data), views()(upright(data)), atol=1)


@pytest.mark.parametrize(
    "kind", ["PNG", pytest.param("WEBP", marks=needs_webp), "JPEG", "CMYK", "GIF"]
)
@pytest.mark.parametrize("number", (3, 6))
def test_records_made_of_files_show_what_pillow_does(kind, number):
    image, options = picture(number), {"exif": exif(number)}
    if kind == "CMYK":
        data = cmyk(image, **options)
    else:
        data = encoded(image, kind, **options)
    stored = to_rgb_jpeg(data)
    expected, found = (views()(each)[0] for each in (upright(data), stored.encoded))
    assert np.abs(found - expected).mean() < 3  # another encoding
    np.testing.assert_allclose(views()(data)[0], expected, atol=6)


def test_images_of_a_folder_are_turned(tmp_path):
    for number in NUMBERS:
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "x.jpg").write_bytes(turned_jpeg(number))
    images, _ = ListedImages.find(str(tmp_path))
    for example in ImageViews(SIZE, central_crop=0.9).validation(images):
        number = int(example["image_labels"]) + 1
        expected = views()(upright(turned_jpeg(number)))[0]
        np.testing.assert_allclose(tf.cast(example["images"], tf.int32), expected, atol=1)


def with_tiff(tiff):
    return b"\xff\xd8\xff\xe1\0\0Exif\0\0" + tiff


ENTRY = struct.pack(">HHIHH", 0x112, 3, 1, 6, 0)


@pytest.mark.parametrize(
    ("tiff", "expected"),
    [
        (b"MM\0*\0\0\0\x08\0\1" + ENTRY, 6),
        (b"MM\0*\0\0\0\x0c\0\0\0\0\0\1" + ENTRY, 6),  # the directory lies further on
        (b"MM\0*\0\0\0\x08\0\0" + ENTRY, 1),  # beyond the directory
        (b"MM\0*\0\0\0\x08\0\2" + ENTRY[:9], 1),  # cut short
        (b"MM\0*\xff\xff\xff\xff\0\1" + ENTRY, 1),
        (b"MM\0*\0\0\0\x08\xff\xff" + ENTRY, 6),
        (b"MM\0*\0\0\0\x08\0\1" + ENTRY.replace(b"\6", b"\x09"), 1),
        (b"MM\0*\0\0\0\x08\0\1" + ENTRY.replace(b"\6", b"\x00"), 1),
        (b"XX\0*\0\0\0\x08\0\1" + ENTRY, 1),
        (b"", 1),
    ],
)
def test_what_is_no_orientation_turns_nothing(tiff, expected):
    assert int(orientation(with_tiff(tiff))) == expected


@pytest.mark.parametrize("data", [b"", b"R", b"\xff\xd8\xff", b"RIFFxxxxWEBPEXIF", b"\x89PNGeXIf"])
def test_what_is_no_image_has_none(data):
    assert int(orientation(data)) == 1
