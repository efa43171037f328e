"""How EXIF data in an image file say that it is to be shown, in a graph.

Cameras store what their sensor sees, and note how they were held. Pillow, browsers and people see
the image turned.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

# By a file's first byte (JPEG, PNG, WebP): what precedes the data, and the bytes in between.
_STARTS, _MARKS, _BETWEEN = [b"\xff", b"\x89", b"R"], [b"Exif\0\0", b"eXIf", b"EXIF"], [0, 0, 4]
_SEARCHED = 1 << 16  # bytes of a JPEG, whose data come first; those of a WebP come last
_TAG, _SHORT = 0x112, 3


def orientation(encoded: tf.Tensor | bytes) -> tf.Tensor:
    """The orientation of an image file, int64: 1, as it is stored, to 8; 1 if it has none."""
    kind = tf.argmax(tf.cast(tf.strings.substr(encoded, 0, 1) == _STARTS, tf.int32))
    searched = tf.where(kind == 0, _SEARCHED, tf.int32.max)
    # Of `tf.strings.split`, the one operation that is needed here.
    parts = tf.raw_ops.StringSplitV2(
        input=[tf.strings.substr(encoded, 0, searched)], sep=tf.gather(_MARKS, kind), maxsplit=1
    ).values

    def found() -> tf.Tensor:
        padded = tf.strings.join([parts[1], b"\0" * 16])
        return _of_tiff(tf.strings.substr(padded, tf.gather(_BETWEEN, kind), _SEARCHED))

    return tf.cond(tf.size(parts) > 1, found, lambda: tf.constant(1, tf.int64))


def _of_tiff(tiff: tf.Tensor) -> tf.Tensor:
    """The orientation in the first directory of EXIF data, at least 12 bytes."""
    header, data = tf.strings.substr(tiff, 0, 4), tf.io.decode_raw(tiff, tf.uint8)
    is_big = header == b"MM\0*"

    def number(part: tf.Tensor, width: int) -> tf.Tensor:
        part = tf.where(is_big, tf.reverse(part, [-1]), part)
        return tf.reduce_sum(tf.cast(part, tf.int64) * [256**n for n in range(width)], -1)

    begin = tf.minimum(number(data[4:8], 4), tf.size(data, tf.int64) - 2)
    count = number(data[begin : begin + 2], 2)
    entries = data[begin + 2 :][: 12 * count]
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], (-1, 12))
    tags, kinds, values = (number(entries[:, n : n + 2], 2) for n in (0, 2, 8))
    is_one = (tags == _TAG) & (kinds == _SHORT) & (values <= 8) & (is_big | (header == b"II*\0"))
    return tf.maximum(tf.reduce_max(tf.where(is_one, values, 1)), 1)


def stored_window(
    window: Callable[[tf.Tensor], tf.Tensor], shape: tf.Tensor, turn: tf.Tensor
) -> tf.Tensor:
    """Where the window of an image that is shown lies in the one that is stored.

    `window` maps the shape to top, left, height and width; `shape` is that of the stored image.
    """
    axes, is_mirrored = _axes(turn)
    shown = tf.gather(shape, axes)
    begin, size = tf.split(window(shown), 2)
    begin = tf.where(is_mirrored, shown[:2] - begin - size, begin)
    return tf.concat([tf.gather(begin, axes[:2]), tf.gather(size, axes[:2])], 0)


def turned(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """A stored image `(height, width, 3)` as it is to be shown."""

    def turned() -> tf.Tensor:
        axes: Any
        axes, is_mirrored = _axes(turn)
        dims = tf.concat([is_mirrored, [False]], 0)
        return tf.raw_ops.Reverse(tensor=tf.transpose(image, axes), dims=dims)

    return tf.ensure_shape(tf.cond(turn == 1, lambda: image, turned), (None, None, 3))


def _axes(turn: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The order of the stored axes, and whether rows and columns are then mirrored `(2,)`."""
    number = turn - 1
    is_mirrored = tf.bitwise.bitwise_and(tf.stack([number, number + 1]), 2) > 0
    return tf.where(number > 3, [1, 0, 2], [0, 1, 2]), is_mirrored
