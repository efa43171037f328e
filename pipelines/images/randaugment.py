"""RandAugment for one image, with stateless random numbers.

The numbers are keyed by (seed, number of the example), so that an example does not depend on the
batches of the stream, or on where it was entered.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from pipelines.images.image_decoding import OPERATIONS, derived_key

_BINS = 31  # magnitudes are 0 to 30, as in torchvision; the paper's are 0 to 30 as well


class RandAugment:
    """RandAugment: random operations out of 14, all of the same strength (Cubuk et al. 2020).

    Operations and the scale of magnitudes are those of torchvision: shear up to 0.3, translation up
    to 150 / 331 of the side, rotation up to 30 degrees, brightness, colour, contrast and sharpness
    up to 0.9 more or less, 8 to 4 bits, thresholds 255 to 0. Signs are random. Pixels from outside
    the image are black, and none is interpolated. The arithmetic is Pillow's to within one unit.

    Args:
        num_ops: int, operations per image.
        magnitude: int, 0 to 30.
        jit_compile: bool, whether XLA compiles the operations that gain from it. Without it the
            same images take about five times as long.
    """

    def __init__(self, num_ops=2, magnitude=9, jit_compile=True):
        self.num_ops, self.magnitude, self.jit_compile = num_ops, magnitude, jit_compile
        self._functions = {}

    def __call__(self, image, key):
        """Augments one image.

        Args:
            image: uint8 tensor `(size, size, 3)` of static shape.
            key: int64 tensor `(2,)`, the seed and the number of the example.

        Returns:
            uint8 tensor `(size, size, 3)`.
        """
        size = image.shape[0]
        if size not in self._functions:
            self._functions[size] = self._build(size)
        return self._functions[size](image, key)

    def operations(self, size):
        """The operations on images of a size.

        Args:
            size: int, in pixels.

        Returns:
            dict of name to a pair of functions of an image, one for each sign.
        """
        kernels = ImageOperations(size, self.jit_compile)
        strength = self.magnitude / (_BINS - 1)

        def signed(operation, amount, **options):
            return [
                functools.partial(operation, amount=sign * amount, **options) for sign in (1, -1)
            ]

        # Shears and rotations are maps from the output's coordinates to the input's.
        shift = int(150 / 331 * size * strength)
        return {
            "identity": [kernels.identity] * 2,
            "shear_x": signed(kernels.shear_x, 0.3 * strength),
            "shear_y": signed(kernels.shear_y, 0.3 * strength),
            "translate_x": signed(kernels.translate, shift, axis=1),
            "translate_y": signed(kernels.translate, shift, axis=0),
            "rotate": signed(kernels.rotate, 30 * strength),
            "brightness": signed(kernels.brightness, 0.9 * strength),
            "color": signed(kernels.color, 0.9 * strength),
            "contrast": signed(kernels.contrast, 0.9 * strength),
            "sharpness": signed(kernels.sharpness, 0.9 * strength),
            "posterize": [functools.partial(kernels.posterize, bits=8 - round(4 * strength))] * 2,
            "solarize": [functools.partial(kernels.solarize, threshold=255 * (1 - strength))] * 2,
            "autocontrast": [kernels.autocontrast] * 2,
            "equalize": [kernels.equalize] * 2,
        }

    def choices(self, key):
        """Which operations an image gets.

        Args:
            key: int64 tensor `(2,)`.

        Returns:
            int32 tensor `(num_ops,)`: twice the operation's index in `operations`, plus its sign.
        """
        key = derived_key(key, OPERATIONS)
        return tf.random.stateless_uniform((self.num_ops,), key, 0, 2 * 14, tf.int32)

    def _build(self, size):
        spec = tf.TensorSpec((size, size, 3), tf.uint8)
        branches = [
            tf.function(operation).get_concrete_function(spec)
            for pair in self.operations(size).values()
            for operation in pair
        ]

        def augmented(image, key):
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

        return tf.function(augmented, input_signature=[spec, tf.TensorSpec((2,), tf.int64)])


class ImageOperations:
    """The operations on uint8 images `(size, size, 3)`; `amount` is signed.

    Those that XLA compiles use integers or, in one case, round with a margin: a compiler may round
    floats in its own way.

    Args:
        size: int, in pixels.
        jit_compile: bool, whether XLA compiles the operations that gain from it.
    """

    def __init__(self, size, jit_compile):
        self.size = size
        for name in ("_take", "_look_up", "autocontrast", "color", "_sharpen", "solarize"):
            function = tf.function(getattr(self, name), jit_compile=jit_compile or None)
            setattr(self, name, function)

    def identity(self, image):
        return tf.identity(image)

    def shear_x(self, image, amount):
        return self._affine(image, (1, amount, 0), (0, 1, 0))

    def shear_y(self, image, amount):
        return self._affine(image, (1, 0, 0), (amount, 1, 0))

    def rotate(self, image, amount):
        angle, center = math.radians(amount), self.size / 2
        sin, cos = math.sin(angle), math.cos(angle)
        x, y = (cos, -sin), (sin, cos)
        return self._affine(image, *((a, b, center - (a + b) * center) for a, b in (x, y)))

    def translate(self, image, amount, axis):
        if amount > 0:
            kept, lost = tf.split(image, [self.size - amount, amount], axis)
            return tf.concat([tf.zeros_like(lost), kept], axis)
        lost, kept = tf.split(image, [-amount, self.size + amount], axis)
        return tf.concat([kept, tf.zeros_like(lost)], axis)

    def _affine(self, image, x, y):
        """Takes the pixel at `x . (column, row, 1)`, `y . (column, row, 1)`, or black."""
        row, column = np.mgrid[: self.size, : self.size] + 0.5
        x, y = (np.floor(a * column + b * row + c).astype(np.int32) for a, b, c in (x, y))
        inside = (x >= 0) & (x < self.size) & (y >= 0) & (y < self.size)
        return self._take(image, tf.constant(np.where(inside, y * self.size + x, -1)))

    def _take(self, image, places):
        pixels = tf.gather(tf.reshape(image, (-1, 3)), tf.maximum(places, 0))
        return tf.where((places >= 0)[..., None], pixels, tf.constant(0, tf.uint8))

    def brightness(self, image, amount):
        image = tf.cast(self._rows(image), tf.float32) * (1 + amount)
        return self._image(tf.cast(tf.minimum(image, 255.0), tf.uint8))

    def color(self, image, amount):
        return _blended(_grey(image), image, round((1 + amount) * 65536))

    def contrast(self, image, amount):
        pixels = tf.cast(self._rows(image), tf.float32)
        channels = tf.reduce_sum(tf.reshape(tf.reduce_sum(pixels, 0), (-1, 3)), 0)
        mean = tf.round(tf.reduce_sum(channels * [0.299, 0.587, 0.114]) / self.size**2)
        pixels = (pixels - mean) * (1 + amount) + mean
        return self._image(tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8))

    def sharpness(self, image, amount):
        """Blends with a blurred image; the outermost pixels stay."""
        line = tf.reshape(image, (-1,))
        edge = self.size * 3 + 3  # the top row and a pixel
        top, inner, bottom = tf.split(line, [edge, line.shape[0] - 2 * edge, edge])
        inner = self._sharpen(line, inner, round((1 + amount) * 65536))
        return tf.reshape(tf.concat([top, inner, bottom], 0), image.shape)

    def _sharpen(self, line, inner, factor):
        """Sharpens an image as one line of bytes, which suits vector instructions best."""
        row, count = self.size * 3, inner.shape[0]
        neighbours = [
            tf.cast(line[begin : begin + count], tf.int16)
            for begin in (y * row + x * 3 for y in range(3) for x in range(3))
        ]
        weighted = sum(neighbours, 4 * tf.cast(inner, tf.int16))
        # (weighted + 6) // 13 for all that 13 bytes can be, without a division.
        blurred = tf.bitwise.right_shift((tf.cast(weighted, tf.int32) + 6) * 5042, 16)
        column = (np.arange(count) // 3 + 1) % self.size
        is_inside = (column > 0) & (column < self.size - 1)
        return tf.where(tf.constant(is_inside), _blended(blurred, inner, factor), inner)

    def posterize(self, image, bits):
        return tf.bitwise.bitwise_and(image, tf.constant(256 - (1 << (8 - bits)), tf.uint8))

    def solarize(self, image, threshold):
        return tf.where(image >= tf.constant(math.ceil(threshold), tf.uint8), 255 - image, image)

    def autocontrast(self, image):
        image = self._rows(image)
        low, high = (
            tf.cast(reduce(tf.reshape(reduce(image, 0), (self.size, 3)), 0), tf.float32)
            for reduce in (tf.reduce_min, tf.reduce_max)
        )
        flat = high == low
        scale = tf.where(flat, 1.0, 255 / tf.maximum(high - low, 1))
        low = tf.where(flat, 0.0, low)
        low, scale = (tf.tile(value, [self.size]) for value in (low, scale))
        # A non-integer value is at least 1 / 255 from an integer: the addition corrects rounding.
        return self._image(tf.cast((tf.cast(image, tf.float32) - low) * scale + 1e-3, tf.uint8))

    def equalize(self, image):
        """Makes each channel's histogram as flat as a map of its 256 values can."""
        channels = np.tile(np.arange(3, dtype=np.int32) * 256, (self.size, self.size))
        values = tf.cast(self._rows(image), tf.int32) + channels
        counts = tf.raw_ops.DenseBincount(  # its wrapper tf.math.bincount costs twice as much
            input=tf.reshape(values, (-1,)), size=768, weights=tf.zeros((0,), tf.int32)
        )
        counts = tf.reshape(counts, (3, 256))
        below = tf.cumsum(counts, 1, exclusive=True)
        step = tf.reduce_max(tf.where(counts > 0, below, 0), 1, keepdims=True) // 255
        table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
        return self._look_up(image, tf.cast(tf.where(step > 0, table, tf.range(256)), tf.uint8))

    def _look_up(self, image, table):
        # A channel at a time, so that the compiler sees that no index can be out of range.
        image = tf.cast(image, tf.int32)
        channels = [tf.gather(table[channel], image[..., channel]) for channel in range(3)]
        return tf.stack(channels, -1)

    def _rows(self, image):
        """`(size, size * 3)`: kernels are several times faster on long rows than on triples."""
        return tf.reshape(image, (self.size, self.size * 3))

    def _image(self, rows):
        return tf.reshape(rows, (self.size, self.size, 3))


def _grey(image):
    """Luminance in integers, rounded: int32 `(size, size, 1)`."""
    red, green, blue = tf.split(tf.cast(image, tf.int32), 3, -1)
    return tf.bitwise.right_shift(red * 19595 + green * 38470 + blue * 7471 + 32768, 16)


def _blended(base, image, factor):
    """`base + factor * (image - base)` in 0 to 255, rounded down; `factor` in units of 2**-16."""
    image = tf.cast(image, tf.int32)
    blend = tf.bitwise.right_shift(base * 65536 + factor * (image - base), 16)
    return tf.cast(tf.clip_by_value(blend, 0, 255), tf.uint8)
