"""Augments images: RandAugment for one image, MixUp and CutMix for the pairs of a batch.

Every random number is keyed by (seed, number of the example), so that an example is the same
however the stream was cut into batches and wherever it was entered.
"""

import functools
import math

import numpy as np

# Keys of numbers that must not follow those of the crop, nor each other.
_OPERATIONS, _SWITCH, _FIRST_GAMMA, _SECOND_GAMMA, _CENTER = range(101, 106)
_BINS = 31  # magnitudes are 0 to 30, as in torchvision; the paper's are 0 to 30 as well


class RandAugment:
    """RandAugment: some random operations out of 14, all of one strength.

    Cubuk et al. 2020, with the operations and the scale of magnitudes of torchvision: shear up to
    0.3, translation up to 150 / 331 of the side, rotation up to 30 degrees, brightness, colour,
    contrast and sharpness up to 0.9 more or less, 8 to 4 bits, thresholds 255 to 0. What has a
    sign gets either with probability 1/2. Pixels from outside of the image are black and none is
    interpolated. Arithmetic is that of Pillow, to one unit.

    Args:
        num_ops: int, operations an image.
        magnitude: int, 0 to 30.
        jit_compile: bool, whether XLA compiles the operations that gain by it. The plain kernels
            give the same images in some 1.4 times the time.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, num_ops=2, magnitude=9, jit_compile=True):
        if num_ops < 0:
            raise ValueError(f"num_ops is {num_ops}; give 0 or more")
        if not 0 <= magnitude < _BINS:
            raise ValueError(f"magnitude is {magnitude}; give 0 to {_BINS - 1}")
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
        return self._function(image.shape[0])(image, key)

    def operations(self, size):
        """The operations: dict of name to a pair of functions of an image, for either sign."""
        kernels = _Kernels(size, self.jit_compile)
        strength = self.magnitude / (_BINS - 1)

        def signed(operation, amount):
            return [functools.partial(operation, amount=sign * amount) for sign in (1, -1)]

        # Shears and rotations are maps from the output's coordinates to the input's.
        shift = int(150 / 331 * size * strength)
        return {
            "identity": [kernels.identity] * 2,
            "shear_x": signed(kernels.shear_x, 0.3 * strength),
            "shear_y": signed(kernels.shear_y, 0.3 * strength),
            "translate_x": signed(kernels.translate_x, shift),
            "translate_y": signed(kernels.translate_y, shift),
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
            int32 tensor `(num_ops,)`: twice the operation's place in `operations`, plus its sign.
        """
        import tensorflow as tf

        key = tf.random.fold_in(key, _OPERATIONS)
        return tf.random.stateless_uniform((self.num_ops,), key, 0, 2 * 14, tf.int32)

    def _function(self, size):
        if size not in self._functions:
            self._functions[size] = self._build(size)
        return self._functions[size]

    def _build(self, size):
        import tensorflow as tf

        spec = tf.TensorSpec((size, size, 3), tf.uint8)
        branches = [
            tf.function(operation).get_concrete_function(spec)
            for pair in self.operations(size).values()
            for operation in pair
        ]

        def augmented(image, key):
            choices = self.choices(key)
            for place in range(self.num_ops):
                # tf.switch_case becomes one graph of all branches, whose idle nodes cost 15 us an
                # operation; this calls the function that is wanted.
                [image] = tf.raw_ops.StatelessCase(
                    branch_index=choices[place],
                    input=[image],
                    Tout=[tf.uint8],
                    branches=branches,
                    output_shapes=[spec.shape],
                )
            return image

        return tf.function(augmented, input_signature=[spec, tf.TensorSpec((2,), tf.int64)])


class _Kernels:
    """The operations on uint8 images `(size, size, 3)`; `amount` is signed.

    Those that XLA compiles use integers alone, which no compiler rounds in its own way.
    """

    def __init__(self, size, jit_compile):
        import tensorflow as tf

        self.size = size
        for name in (
            "_take",
            "_look_up",
            "_autocontrast",
            "_color",
            "_column_sums",
            "_sharpen",
            "_solarize",
        ):
            function = tf.function(getattr(self, name), jit_compile=jit_compile or None)
            setattr(self, name, function)

    def identity(self, image):
        import tensorflow as tf

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

    def translate_x(self, image, amount):
        return self._translate(image, amount, axis=1)

    def translate_y(self, image, amount):
        return self._translate(image, amount, axis=0)

    def _translate(self, image, amount, axis):
        import tensorflow as tf

        kept, black = tf.split(image, [self.size - abs(amount), abs(amount)], axis)
        if amount > 0:
            return tf.concat([tf.zeros_like(black), kept], axis)
        _, kept = tf.split(image, [abs(amount), self.size - abs(amount)], axis)
        return tf.concat([kept, tf.zeros_like(black)], axis)

    def _affine(self, image, x, y):
        """Takes the pixel at `x . (column, row, 1)`, `y . (column, row, 1)`, or black."""
        import tensorflow as tf

        row, column = np.mgrid[: self.size, : self.size] + 0.5
        x, y = (np.floor(a * column + b * row + c).astype(np.int32) for a, b, c in (x, y))
        inside = (x >= 0) & (x < self.size) & (y >= 0) & (y < self.size)
        return self._take(image, tf.constant(np.where(inside, y * self.size + x, -1)))

    def _take(self, image, places):
        import tensorflow as tf

        pixels = tf.gather(tf.reshape(image, (-1, 3)), tf.maximum(places, 0))
        return tf.where((places >= 0)[..., None], pixels, tf.constant(0, tf.uint8))

    def brightness(self, image, amount):
        import tensorflow as tf

        image = tf.cast(self._rows(image), tf.float32) * (1 + amount)
        return self._image(tf.cast(tf.minimum(image, 255.0), tf.uint8))

    def color(self, image, amount):
        return self._color(image, round((1 + amount) * 65536))

    def _color(self, image, factor):
        return _blended(_grey(image), image, factor)

    def contrast(self, image, amount):
        import tensorflow as tf

        pixels = tf.cast(self._rows(image), tf.float32)
        channels = tf.reduce_sum(tf.reshape(tf.reduce_sum(pixels, 0), (-1, 3)), 0)
        mean = tf.round(tf.reduce_sum(channels * [0.299, 0.587, 0.114]) / self.size**2)
        pixels = (pixels - mean) * (1 + amount) + mean
        return self._image(tf.cast(tf.clip_by_value(pixels, 0.0, 255.0), tf.uint8))

    def sharpness(self, image, amount):
        """Against a blurred image; the outermost pixels stay."""
        import tensorflow as tf

        image = self._rows(image)
        # Two compiled functions: in one, XLA would add the same rows three times over.
        inner = self._sharpen(image, self._column_sums(image), round((1 + amount) * 65536))
        inner = tf.concat([image[1:-1, :3], inner, image[1:-1, -3:]], 1)
        return self._image(tf.concat([image[:1], inner, image[-1:]], 0))

    def _column_sums(self, rows):
        import tensorflow as tf

        rows = tf.cast(rows, tf.int16)
        return rows[:-2] + rows[1:-1] + rows[2:]

    def _sharpen(self, rows, sums, factor):
        import tensorflow as tf

        center = rows[1:-1, 3:-3]
        weighted = sums[:, :-6] + sums[:, 3:-3] + sums[:, 6:] + 4 * tf.cast(center, tf.int16)
        # (weighted + 6) // 13 for all that 13 bytes can be, without a division.
        blurred = tf.bitwise.right_shift((tf.cast(weighted, tf.int32) + 6) * 5042, 16)
        return _blended(blurred, center, factor)

    def posterize(self, image, bits):
        import tensorflow as tf

        return tf.bitwise.bitwise_and(image, tf.constant(256 - (1 << (8 - bits)), tf.uint8))

    def solarize(self, image, threshold):
        return self._solarize(image, math.ceil(threshold))

    def _solarize(self, image, threshold):
        import tensorflow as tf

        return tf.where(tf.cast(image, tf.int32) >= threshold, 255 - image, image)

    def autocontrast(self, image):
        return self._autocontrast(image)

    def _autocontrast(self, image):
        import tensorflow as tf

        image = self._rows(image)
        low, high = (
            tf.cast(reduce(tf.reshape(reduce(image, 0), (self.size, 3)), 0), tf.float32)
            for reduce in (tf.reduce_min, tf.reduce_max)
        )
        flat = high == low
        scale = tf.where(flat, 1.0, 255 / tf.maximum(high - low, 1))
        low = tf.where(flat, 0.0, low)
        low, scale = (tf.tile(value, [self.size]) for value in (low, scale))
        # What is not an integer is at least 1 / 255 from one: the addition mends rounding.
        return self._image(tf.cast((tf.cast(image, tf.float32) - low) * scale + 1e-3, tf.uint8))

    def equalize(self, image):
        """Makes every channel's histogram as flat as a map of its 256 values can."""
        import tensorflow as tf

        channels = np.tile(np.arange(3, dtype=np.int32) * 256, self.size)
        values = tf.cast(self._rows(image), tf.int32) + channels
        counts = tf.raw_ops.DenseBincount(  # tf.math.bincount around it costs twice as much
            input=tf.reshape(values, (-1,)), size=768, weights=tf.zeros((0,), tf.int32)
        )
        counts = tf.reshape(counts, (3, 256))
        levels = tf.range(256)
        brightest = tf.reduce_max(tf.where(counts > 0, levels, 0), 1, keepdims=True)
        step = (self.size**2 - tf.gather(counts, brightest, batch_dims=1)) // 255
        below = tf.cumsum(counts, 1, exclusive=True)
        table = tf.minimum((below + step // 2) // tf.maximum(step, 1), 255)
        return self._look_up(image, tf.cast(tf.where(step > 0, table, levels), tf.uint8))

    def _look_up(self, image, table):
        import tensorflow as tf

        return tf.gather(tf.reshape(table, (-1,)), tf.cast(image, tf.int32) + tf.range(3) * 256)

    def _rows(self, image):
        """`(size, size * 3)`: kernels are several times faster on long rows than on triples."""
        import tensorflow as tf

        return tf.reshape(image, (self.size, self.size * 3))

    def _image(self, rows):
        import tensorflow as tf

        return tf.reshape(rows, (self.size, self.size, 3))


def _grey(image):
    """Luminance in integers, rounded: int32 `(size, size, 1)`."""
    import tensorflow as tf

    red, green, blue = tf.split(tf.cast(image, tf.int32), 3, -1)
    return tf.bitwise.right_shift(red * 19595 + green * 38470 + blue * 7471 + 32768, 16)


def _blended(base, image, factor):
    """`base + factor * (image - base)` in 0 to 255, rounded down; `factor` in units of 2**-16."""
    import tensorflow as tf

    image = tf.cast(image, tf.int32)
    blend = tf.bitwise.right_shift(base * 65536 + factor * (image - base), 16)
    return tf.cast(tf.clip_by_value(blend, 0, 255), tf.uint8)


def mix(images, labels, numbers, seed, mixup_alpha, cutmix_alpha):
    """Mixes the neighbours of a batch: the first with the second, the third with the fourth, ...

    MixUp (Zhang et al. 2018) weighs the two images, CutMix (Yun et al. 2019) puts a box of each
    into the other; with both, every pair gets either with probability 1/2. The share of a pair is
    drawn from Beta(alpha, alpha) by `seed` and the number of its first example alone: a batch may
    be split between pairs without changing anything.

    Args:
        images: float32 tensor `(batch, size, size, 3)`; the batch must be even.
        labels: int32 tensor `(batch,)`.
        numbers: int64 tensor `(batch,)`, the numbers of the examples.
        seed: int.
        mixup_alpha: float, 0 for no MixUp.
        cutmix_alpha: float, 0 for no CutMix.

    Returns:
        Dict of `images`; `image_labels`, the labels that came in; `image_mix_labels`, those of the
        partners; and `image_mix_weights (batch,)` float32, the share of the image's own label, 0.5
        to 1. Partners have the same weight. For CutMix it is the area that is kept.

    Raises:
        ValueError: an alpha is negative or both are 0, or the batch is odd.
    """
    import tensorflow as tf

    for name, alpha in (("mixup_alpha", mixup_alpha), ("cutmix_alpha", cutmix_alpha)):
        if not (math.isfinite(alpha) and alpha >= 0):
            raise ValueError(f"{name} is {alpha}; give 0 or more")
    if not mixup_alpha and not cutmix_alpha:
        raise ValueError(
            "mixup_alpha and cutmix_alpha are both 0; give one that is more, or leave mix out"
        )
    if images.shape[0] is not None and images.shape[0] % 2:
        raise ValueError(f"a batch of {images.shape[0]} images has no pairs; give an even number")

    height, width = images.shape[1:3]

    def mixed_pair(arguments):
        pair, number = arguments
        key = tf.stack([tf.cast(seed, tf.int64), number])
        one, other = tf.unstack(tf.reshape(pair, (2, height, width * 3)))
        difference = one - other

        def by_mixup():
            share = _share(key, mixup_alpha)
            share = tf.maximum(share, 1 - share)
            return difference * (1 - share), share

        def by_cutmix():
            top, bottom, left, right = _box(key, _share(key, cutmix_alpha), height, width)
            rows = tf.cast((tf.range(height) >= top) & (tf.range(height) < bottom), tf.float32)
            places = tf.range(width * 3) // 3
            columns = tf.cast((places >= left) & (places < right), tf.float32)
            area = tf.cast((bottom - top) * (right - left), tf.float32) / (height * width)
            # Partners swap the box or, where that is more than half, what is around it.
            around = tf.cast(area > 0.5, tf.float32)
            swapped = tf.abs(around - rows[:, None] * columns)
            return difference * swapped, tf.maximum(area, 1 - area)

        if not cutmix_alpha:
            moved, share = by_mixup()
        elif not mixup_alpha:
            moved, share = by_cutmix()
        else:
            choice = tf.random.stateless_uniform((), tf.random.fold_in(key, _SWITCH))
            moved, share = tf.cond(choice < 0.5, by_mixup, by_cutmix)
        return tf.reshape(tf.stack([one - moved, other + moved]), (2, height, width, 3)), share

    pairs = tf.reshape(images, (-1, 2, height, width, 3))
    mixed, shares = tf.map_fn(
        mixed_pair,
        (pairs, numbers[::2]),
        fn_output_signature=(
            tf.TensorSpec((2, height, width, 3), tf.float32),
            tf.TensorSpec((), tf.float32),
        ),
    )
    return {
        "images": tf.reshape(mixed, tf.shape(images)),
        "image_labels": labels,
        "image_mix_labels": tf.reshape(tf.reverse(tf.reshape(labels, (-1, 2)), [1]), (-1,)),
        "image_mix_weights": tf.repeat(shares, 2),
    }


def _share(key, alpha):
    """A number from Beta(alpha, alpha)."""
    import tensorflow as tf

    first, second = (
        tf.random.stateless_gamma((), tf.random.fold_in(key, name), alpha)
        for name in (_FIRST_GAMMA, _SECOND_GAMMA)
    )
    # Where alpha is tiny both may be the smallest float; in truth one is then nearly everything.
    return tf.where(first == second, 1.0, first / (first + second))


def _box(key, share, height, width):
    """A box of `1 - share` of the area around a random pixel, cut at the edges.

    Returns:
        int32 tensors: top, bottom, left, right.
    """
    import tensorflow as tf

    center = tf.random.stateless_uniform((2,), tf.random.fold_in(key, _CENTER))
    edges = []
    for middle, side in zip(tf.unstack(center), (height, width), strict=True):
        half = tf.sqrt(1 - share) * side / 2
        low, high = middle * side - half, middle * side + half
        edges += [tf.clip_by_value(tf.cast(tf.round(e), tf.int32), 0, side) for e in (low, high)]
    return edges
