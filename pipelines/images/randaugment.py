"""RandAugment for one image, with stateless random numbers.

The numbers are keyed by (seed, number of the example), so that an example does not depend on the
batches of the stream, or on where it was entered.

What XLA compiles uses integers or, in one case, rounds with a margin: a compiler may round floats
in its own way. Without XLA it takes about five times as long.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from pipelines.images.image_decoding import OPERATIONS, derived_key

_LARGEST = 30  # magnitude, as in torchvision and in the paper


class RandAugment:
    """RandAugment: random operations out of 14, all of the same strength (Cubuk et al. 2020).

    Operations and the scale of magnitudes are those of torchvision: shear up to 0.3, translation up
    to 150 / 331 of the side, rotation up to 30 degrees, brightness, colour, contrast and sharpness
    up to 0.9 more or less, 8 to 4 bits, thresholds 255 to 0. Signs are random. Pixels from outside
    the image are black, and none is interpolated. The arithmetic is Pillow's to within one unit.

    Args:
        size: of the images, in pixels.
        magnitude: 0 to 30.
    """

    def __init__(self, size: int, num_ops: int = 2, magnitude: int = 9) -> None:
        self.num_ops = num_ops
        spec = tf.TensorSpec((size, size, 3), tf.uint8)
        branches = [
            tf.function(operation).get_concrete_function(spec)
            for pair in operations(size, magnitude).values()
            for operation in pair
        ]

        def augmented(image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
            for choice in tf.unstack(self.choices(key)):
                # tf.switch_case would be one graph of all branches, whose idle nodes cost 15 us per
                # operation; this calls only the chosen function.
                [image] = tf.raw_ops.StatelessCase(
                    branch_index=choice,
                    input=[image],
                    Tout=[tf.uint8],
                    branches=branches,
                    output_shapes=[spec.shape],
                )
            return image

        self._augmented = tf.function(augmented, [spec, tf.TensorSpec((2,), tf.int64)])

    def __call__(self, image: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """Augments one image, uint8 `(size, size, 3)`; `key` is (seed, number of the example)."""
        return self._augmented(image, key)

    def choices(self, key: tf.Tensor) -> tf.Tensor:
        """Which operations an image gets: twice the index in `operations`, plus the sign."""
        key = derived_key(key, OPERATIONS)
        return tf.random.stateless_uniform((self.num_ops,), key, 0, 2 * 14, tf.int32)


def operations(size: int, magnitude: int) -> dict[str, list[Callable[[tf.Tensor], tf.Tensor]]]:
    """The operations on uint8 images `(size, size, 3)`, two of each: one for each sign."""
    strength = magnitude / _LARGEST

    def signed(
        operation: Callable[..., tf.Tensor], amount: float, **options: int
    ) -> list[Callable[[tf.Tensor], tf.Tensor]]:
        return [functools.partial(operation, amount=sign * amount, **options) for sign in (1, -1)]

    # Shears and rotations are maps from the output's coordinates to the input's.
    shift = int(150 / 331 * size * strength)
    return {
        "identity": [tf.identity] * 2,
        "shear_x": signed(_shear_x, 0.3 * strength),
        "shear_y": signed(_shear_y, 0.3 * strength),
        "translate_x": signed(_translate, shift, axis=1),
        "translate_y": signed(_translate, shift, axis=0),
        "rotate": signed(_rotate, 30 * strength),
        "brightness": signed(_brightness, 0.9 * strength),
        "color": signed(_color, 0.9 * strength),
        "contrast": signed(_contrast, 0.9 * strength),
        "sharpness": signed(_sharpness, 0.9 * strength),
        "posterize": [functools.partial(_posterize, bits=8 - round(4 * strength))] * 2,
        "solarize": [functools.partial(_solarize, threshold=255 * (1 - strength))] * 2,
        "autocontrast": [_autocontrast] * 2,
        "equalize": [_equalize] * 2,
    }


def _shear_x(image: tf.Tensor, amount: float) -> tf.Tensor:
    return _affine(image, (1, amount, 0), (0, 1, 0))


def _shear_y(image: tf.Tensor, amount: float) -> tf.Tensor:
    return _affine(image, (1, 0, 0), (amount, 1, 0))


def _rotate(image: tf.Tensor, amount: float) -> tf.Tensor:
    angle, center = math.radians(amount), _size(image) / 2
    sin, cos = math.sin(angle), math.cos(angle)
    x, y = (cos, -sin), (sin, cos)
    return _affine(image, *((a, b, center - (a + b) * center) for a, b in (x, y)))


def _affine(image: tf.Tensor, x: Sequence[float], y: Sequence[float]) -> tf.Tensor:
    """Takes the pixel at `x . (column, row, 1)`, `y . (column, row, 1)`, or black."""
    size = _size(image)
    row, column = np.mgrid[:size, :size] + 0.5
    left, top = (np.floor(a * column + b * row + c).astype(np.int32) for a, b, c in (x, y))
    inside = (left >= 0) & (left < size) & (top >= 0) & (top < size)
    return _take(image, tf.constant(np.where(inside, top * size + left, -1)))


@tf.function(jit_compile=True)
def _take(image: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    pixels = tf.gather(tf.reshape(image, (-1, 3)), tf.maximum(places, 0))
    return tf.where(tf.expand_dims(places >= 0, -1), pixels, tf.constant(0, tf.uint8))


def _translate(image: tf.Tensor, amount: int, axis: int) -> tf.Tensor:
    size = _size(image)
    if amount > 0:
        kept, lost = tf.split(image, [size - amount, amount], axis)
        return tf.concat([tf.zeros_like(lost), kept], axis)
    lost, kept = tf.split(image, [-amount, size + amount], axis)
    return tf.concat([kept, tf.zeros_like(lost)], axis)


def _brightness(image: tf.Tensor, amount: float) -> tf.Tensor:
    pixels = tf.cast(_rows(image), tf.float32) * (1 + amount)
    return tf.reshape(tf.cast(tf.minimum(pixels, 255.0), tf.uint8), image.shape)


@tf.function(jit_compile=True)
def _color(image: tf.Tensor, amount: float) -> tf.Tensor:
    return _blended(_grey(image), image, round((1 + amount) * 65536))


def _contrast(image: tf.Tensor, amount: float) -> tf.Tensor:
    pixels = tf.cast(_rows(image), tf.float32)
    channels = tf.reduce_sum(tf.reshape(tf.reduce_sum(pixels, 0), (-1, 3)), 0)
    mean = tf.round(tf.reduce_sum(channels * [0.299, 0.587, 0.114]) / _size(image) ** 2)
    pixels = (pixels - mean) * (1 + amount) + mean
    return tf.reshape(tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8), image.shape)


def _sharpness(image: tf.Tensor, amount: float) -> tf.Tensor:
    """Blends with a blurred image; the outermost pixels stay."""
    line = tf.reshape(image, (-1,))
    edge = _size(image) * 3 + 3  # the top row and a pixel
    top, inner, bottom = tf.split(line, [edge, 3 * _size(image) ** 2 - 2 * edge, edge])
    inner = _sharpened(line, inner, _size(image), round((1 + amount) * 65536))
    return tf.reshape(tf.concat([top, inner, bottom], 0), image.shape)


@tf.function(jit_compile=True)
def _sharpened(line: tf.Tensor, inner: tf.Tensor, size: int, factor: int) -> tf.Tensor:
    """Sharpens an image as one line of bytes, which suits vector instructions best."""
    row, count = size * 3, _size(inner)
    neighbours = [
        tf.cast(line[begin : begin + count], tf.int16)
        for begin in (y * row + x * 3 for y in range(3) for x in range(3))
    ]
    weighted = sum(neighbours, 4 * tf.cast(inner, tf.int16))
    # (weighted + 6) // 13 for all that 13 bytes can be, without a division.
    blurred = tf.bitwise.right_shift((tf.cast(weighted, tf.int32) + 6) * 5042, 16)
    column = (np.arange(count) // 3 + 1) % size
    is_inside = (column > 0) & (column < size - 1)
    return tf.where(tf.constant(is_inside), _blended(blurred, inner, factor), inner)


def _posterize(image: tf.Tensor, bits: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(image, tf.constant(256 - (1 << (8 - bits)), tf.uint8))


@tf.function(jit_compile=True)
def _solarize(image: tf.Tensor, threshold: float) -> tf.Tensor:
    return tf.where(image >= tf.constant(math.ceil(threshold), tf.uint8), 255 - image, image)


@tf.function(jit_compile=True)
def _autocontrast(image: tf.Tensor) -> tf.Tensor:
    size, pixels = _size(image), _rows(image)
    low, high = (
        tf.cast(reduce(tf.reshape(reduce(pixels, 0), (size, 3)), 0), tf.float32)
        for reduce in (tf.reduce_min, tf.reduce_max)
    )
    flat = high == low
    scale = tf.where(flat, 1.0, 255 / tf.maximum(high - low, 1))
    low = tf.where(flat, 0.0, low)
    low, scale = (tf.tile(value, [size]) for value in (low, scale))
    # A non-integer value is at least 1 / 255 from an integer: the addition corrects rounding.
    pixels = tf.cast((tf.cast(pixels, tf.float32) - low) * scale + 1e-3, tf.uint8)
    return tf.reshape(pixels, image.shape)


def _equalize(image: tf.Tensor) -> tf.Tensor:
    """Makes each channel's histogram as flat as a map of its 256 values can."""
    channels = np.tile(np.arange(3, dtype=np.int32) * 256, [_size(image)] * 2)
    values = tf.cast(_rows(image), tf.int32) + channels
    counts = tf.raw_ops.DenseBincount(  # its wrapper tf.math.bincount costs twice as much
        input=tf.reshape(values, (-1,)), size=768, weights=tf.zeros((0,), tf.int32)
    )
    counts = tf.reshape(counts, (3, 256))
    below = tf.cumsum(counts, 1, exclusive=True)
    step = tf.reduce_max(tf.where(counts > 0, below, 0), 1, keepdims=True) // 255
    table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
    return _look_up(image, tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8))


@tf.function(jit_compile=True)
def _look_up(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    # A channel at a time, so that the compiler sees that no index can be out of range.
    planes = tf.unstack(tf.cast(image, tf.int32), 3, -1)
    return tf.stack([tf.gather(table[n], plane) for n, plane in enumerate(planes)], -1)


def _size(image: tf.Tensor) -> int:
    shape: Any = image.shape  # static
    return shape[0]


def _rows(image: tf.Tensor) -> tf.Tensor:
    """`(size, size * 3)`: kernels are several times faster on long rows than on triples."""
    return tf.reshape(image, (_size(image), -1))


def _grey(image: tf.Tensor) -> tf.Tensor:
    """Luminance in integers, rounded: int32 `(size, size, 1)`."""
    red, green, blue = tf.split(tf.cast(image, tf.int32), 3, -1)
    return tf.bitwise.right_shift(red * 19595 + green * 38470 + blue * 7471 + 32768, 16)


def _blended(base: tf.Tensor, image: tf.Tensor, factor: int) -> tf.Tensor:
    """`base + factor * (image - base)` in 0 to 255, rounded down; `factor` in units of 2**-16."""
    image = tf.cast(image, tf.int32)
    blend = tf.bitwise.right_shift(base * 65536 + factor * (image - base), 16)
    return tf.cast(tf.clip_by_value(blend, 0, 255), tf.uint8)
