"""Makes sure that an image file is a JPEG that TensorFlow decodes in full, to colours.

Image collections hold files that are not what their names say. Training reads with
`tf.io.decode_and_crop_jpeg`, so files that it cannot read must be found when records are written.
"""

import dataclasses
import re
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.images.orientation import orientation, turned
from pipelines.shards.records import reason_of

QUALITY = 95  # of re-encoded images

_JPEG = b"\xff\xd8\xff"
_CONVERTED = {
    "png": rb"\x89PNG\r\n\x1a\n",
    "gif": rb"GIF8",
    "bmp": rb"BM",
    "webp": rb"RIFF....WEBP",
}
KINDS = (*_CONVERTED, "cmyk")  # what `RgbJpeg.converted_from` can be


class DamagedImage(ValueError):
    """An image that cannot be decoded in full. Its text says why, without naming the file."""


@dataclasses.dataclass(frozen=True)
class RgbJpeg:
    """A JPEG that decodes to red, green and blue."""

    encoded: bytes  # the file itself, unless it had to be converted
    height: int
    width: int
    converted_from: str = ""  # one of `KINDS`


def to_rgb_jpeg(data: bytes) -> RgbJpeg:
    """Checks an image file by decoding it in full, and converts it if it is not an RGB JPEG.

    Grey JPEGs stay as they are: readers ask for three channels and get them. CMYK and YCCK JPEGs
    are converted without a colour profile. The inks of files with an Adobe marker count as
    inverted, as Adobe writes them; those of other files do not. A PNG loses its transparency, and
    an animated GIF all but its first image. TensorFlow decodes no WebP with either.

    What is converted is turned as its EXIF data say; a file that is kept has them for its readers.

    Some damage escapes every decoder: a JPEG whose bytes were altered may decode to other colours.

    Raises:
        DamagedImage: it is empty, of another format, cut short, or does not decode.
    """
    try:
        if data.startswith(_JPEG):
            return _checked(data)
        for kind, magic in _CONVERTED.items():
            if re.match(magic, data, re.DOTALL):
                pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
                return _encoded(turned(pixels, orientation(data)), kind)
    except tf.errors.OpError as error:
        raise DamagedImage(reason_of(error)) from error
    raise DamagedImage(f"no JPEG, PNG, GIF, BMP or WebP, it begins with {data[:8]!r}")


def encode(pixels: np.ndarray | tf.Tensor) -> bytes:
    """A JPEG of uint8 pixels `(height, width, 3)`."""
    return tf.io.encode_jpeg(pixels, format="rgb", quality=QUALITY).numpy()


def _checked(data: bytes) -> RgbJpeg:
    height, width, components = tf.io.extract_jpeg_shape(data).numpy().tolist()
    # Each block of 8 x 8 pixels takes at least a bit. An altered size must not make the decoder
    # fill hundreds of megabytes from nothing.
    if height * width > 64 * 8 * len(data):
        raise DamagedImage(f"{width} x {height} pixels do not fit in {len(data)} bytes")
    # As readers decode: the default transform is coarser.
    pixels = tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")
    if components == 4:
        return _encoded(turned(pixels, orientation(data)), "cmyk")
    return RgbJpeg(data, pixels.shape[0], pixels.shape[1])


def _encoded(pixels: tf.Tensor, kind: str) -> RgbJpeg:
    shape: Any = pixels.shape
    return RgbJpeg(encode(pixels), shape[0], shape[1], kind)
