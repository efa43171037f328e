"""Writes images as TFRecords in the format that the widely used ImageNet converters write."""

import os

import numpy as np

from pipelines import tfrecords

JPEG_QUALITY = 95


def write_image_records(images, labels, prefix, shards, label_offset=1):
    """Writes images and their classes to `PREFIX-00000-of-00004` and its fellows.

    Args:
        images: uint8 array `(count, height, width)` grey or `(count, height, width, 3)` RGB, or an
            iterable of such images, of any sizes.
        labels: iterable of int, the class of each image, from 0.
        prefix: str, local or `gs://`.
        shards: int, how many files.
        label_offset: int, added to every label. ImageNet's files count from 1: 0 is background.

    Returns:
        int, how many images were written.

    Raises:
        ValueError: there are more images than labels, or fewer.
    """
    examples = (
        tfrecords.to_example(image_example(image, int(label) + label_offset))
        for image, label in zip(images, labels, strict=True)
    )
    return tfrecords.write_shards(examples, os.fspath(prefix), shards)


def image_example(image, label):
    """The fields of an ImageNet record.

    Args:
        image: uint8 array `(height, width)` grey or `(height, width, 3)` RGB.
        label: int, stored as it is.

    Returns:
        Dict of str to bytes, str or int.
    """
    import tensorflow as tf

    image = np.asarray(image)
    if image.ndim == 2:
        image = np.repeat(image[..., np.newaxis], 3, axis=-1)
    encoded = tf.io.encode_jpeg(image, format="rgb", quality=JPEG_QUALITY).numpy()
    return {
        "image/encoded": encoded,
        "image/format": "JPEG",
        "image/colorspace": "RGB",
        "image/channels": 3,
        "image/height": image.shape[0],
        "image/width": image.shape[1],
        "image/class/label": label,
    }
