"""RandAugment for one image, with stateless random numbers.

The numbers are keyed by (seed, number of the example), so that an example does not depend on the
batches of the stream, or on where it was entered.
"""

import functools

import tensorflow as tf

from pipelines.images import random_keys
from pipelines.images.image_operations import ImageOperations

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
        key = random_keys.derived_key(key, random_keys.OPERATIONS)
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
