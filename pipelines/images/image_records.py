"""Writes images as TFRecords in the format of the widely used ImageNet converters."""

import os

import numpy as np

from pipelines.images import jpeg
from pipelines.shards import tfrecords

LABEL_OFFSET = 1  # classes of ImageNet's files begin at 1: 0 is background


def write_image_records(images, labels, prefix, shards, label_offset=LABEL_OFFSET):
    """Writes images and their classes to the files `PREFIX-00000-of-00004` and so on.

    Args:
        images: uint8 array `(count, height, width)` grey or `(count, height, width, 3)` RGB, or an
            iterable of such images, of any sizes.
        labels: iterable of int, the class of each image, from 0.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        label_offset: int, added to every label.

    Returns:
        int, how many images were written.

    Raises:
        ValueError: there are more or fewer images than labels.
    """
    examples = (
        tfrecords.to_example(image_example(image, int(label) + label_offset))
        for image, label in zip(images, labels, strict=True)
    )
    return tfrecords.write_shards(
        examples, os.fspath(prefix), shards, settings={"label_offset": label_offset}
    )


def image_example(image, label):
    """The fields of an ImageNet record of pixels.

    Args:
        image: uint8 array `(height, width)` grey or `(height, width, 3)` RGB.
        label: int, stored as it is.

    Returns:
        Dict of str to bytes, str or int.
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., np.newaxis], 3, axis=-1)
    return jpeg_example(jpeg.RgbJpeg(jpeg.encode(image), *image.shape[:2]), label)


def jpeg_example(image, label):
    """The fields of an ImageNet record of a JPEG.

    Args:
        image: `jpeg.RgbJpeg`.
        label: int, stored as it is.

    Returns:
        Dict of str to bytes, str or int. Colour space and channels are those of the image decoded
        with three channels, even if it is grey, as the usual converters write them.
    """
    return {
        "image/encoded": image.encoded,
        "image/format": "JPEG",
        "image/colorspace": "RGB",
        "image/channels": 3,
        "image/height": image.height,
        "image/width": image.width,
        "image/class/label": label,
    }
