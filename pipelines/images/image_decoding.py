"""Decodes images at the size that a model takes, with a random or the central crop.

Only the window of a JPEG is decoded. Other formats (PNG, GIF, BMP, WebP) are decoded whole and
cropped. All are turned as their EXIF data say. Images stay bytes until they are on a device: floats
take four times the memory, and four times as long to copy.
"""

from collections.abc import Callable

import tensorflow as tf

from pipelines.images.orientation import orientation, stored_window, turned

# A bilinear sample weighs two pixels per direction: if the window is larger than the image by more
# than this factor, pixels would be skipped. Averages over areas skip none and take twice the time.
_LARGEST_REDUCTION = 2.0

# Keys of an image's random numbers, one for each use, so that none depend on one another. The
# images that a seed gives depend on these values: give a new use a new value.
WINDOW, MIRROR = 1, 2
OPERATIONS, MIX_SWITCH, FIRST_GAMMA, SECOND_GAMMA, BOX_CENTER = range(101, 106)

_JPEG = b"\xff\xd8\xff"


def random_crop(
    encoded: tf.Tensor,
    key: tf.Tensor,
    image_size: int,
    crop_area: tuple[float, float] = (0.08, 1.0),
    flip: bool = True,
) -> tf.Tensor:
    """A random window, resized to a square and perhaps mirrored (Szegedy et al. 2015).

    Args:
        encoded: what `tf.io.decode_image` reads: JPEG (also grey, CMYK), PNG, ...
        key: int64 `(2,)`, the seed and the number of the example.
        crop_area: the fraction of the area in the window, whose aspect ratio is 3:4 to 4:3.

    Returns:
        uint8 `(image_size, image_size, 3)`.
    """

    def window(shape: tf.Tensor) -> tf.Tensor:
        begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
            shape,
            tf.zeros((1, 0, 4)),
            derived_key(key, WINDOW),
            area_range=crop_area,
            aspect_ratio_range=(3 / 4, 4 / 3),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        return tf.concat([begin[:2], size[:2]], 0)

    image = tf.cast(tf.round(_resized(_decoded(encoded, window), image_size)), tf.uint8)
    if flip:
        bits = tf.random.stateless_uniform((), derived_key(key, MIRROR), None, None, tf.int32)  # pyright: ignore[reportArgumentType]
        mirror = bits < 0
        image = tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, (image_size, image_size, 3))


def central_crop(encoded: tf.Tensor, image_size: int, central_crop: float = 0.875) -> tf.Tensor:
    """The central square, resized with a filter as wide as the reduction.

    `central_crop` is its side as a fraction of the shorter side. uint8 `(size, size, 3)`.
    """
    image = _decoded(encoded, lambda shape: _central_window(shape, central_crop))
    return _central_resized(image, image_size)


def central_view(image: tf.Tensor, image_size: int, central_crop: float = 0.875) -> tf.Tensor:
    """`central_crop` of pixels `([batch,] height, width, 3)` in 0 to 255; uint8."""
    top, left, height, width = tf.unstack(_central_window(tf.shape(image)[-3:], central_crop))
    window = image[..., top : top + height, left : left + width, :]  # pyright: ignore[reportArgumentType]
    return _central_resized(tf.cast(window, tf.float32), image_size)


def derived_key(key: tf.Tensor, name: int) -> tf.Tensor:
    """A key for one of the uses above, independent of the others of the same example.

    It is as good as `tf.random.fold_in`, since the operations scramble their keys themselves, and
    some 10 us faster, which matters for one image.
    """
    bits = name * 0x9E3779B97F4A7C15 % 2**63  # spread over all bits: seeds are small numbers
    return tf.bitwise.bitwise_xor(key, tf.constant([bits, 0], tf.int64))


@tf.function(jit_compile=True)
def to_floats(images: tf.Tensor) -> tf.Tensor:
    """Bytes of static shape to float32 in [0, 1], in one pass over memory: for whole batches."""
    return tf.cast(images, tf.float32) * (1 / 255)


def _decoded(encoded: tf.Tensor, window: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """The window of an image as it is shown, float32 `(height, width, 3)` in 0 to 255.

    `window(shape)` returns its top, left, height and width.
    """
    turn = orientation(encoded)

    def from_jpeg() -> tf.Tensor:
        # The default transform is coarser (up to 7 of 255 off, darker on average) and no faster.
        return tf.io.decode_and_crop_jpeg(
            encoded,
            stored_window(window, tf.io.extract_jpeg_shape(encoded), turn),
            channels=3,
            dct_method="INTEGER_ACCURATE",
        )

    def from_others() -> tf.Tensor:
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        top, left, height, width = tf.unstack(stored_window(window, tf.shape(image), turn))
        return image[top : top + height, left : left + width]

    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    image = turned(tf.cond(is_jpeg, from_jpeg, from_others), turn)
    return tf.cast(image, tf.float32)  # from floats the resize is faster


def _central_window(shape: tf.Tensor, fraction: float) -> tf.Tensor:
    side = tf.cast(tf.reduce_min(shape[:2]), tf.float32) * fraction
    side = tf.maximum(tf.cast(tf.round(side), tf.int32), 1)
    return tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])


def _central_resized(image: tf.Tensor, size: int) -> tf.Tensor:
    image = tf.image.resize(image, (size, size), antialias=True)
    image = tf.cast(tf.round(image), tf.uint8)
    return tf.ensure_shape(image, (*image.shape[:-3], size, size, 3))


def _resized(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes to a square: bilinear, or by areas where the image becomes much smaller."""
    sides = tf.shape(image)[:2]

    def by_area() -> tf.Tensor:
        # An average over less than a pixel would be a nearest neighbour: a side that is shorter
        # than the output's is left to the bilinear filter, which changes nothing else.
        smaller = tf.image.resize(image, tf.minimum(sides, size), "area")
        return tf.image.resize(smaller, (size, size))

    large = tf.reduce_max(sides) > round(_LARGEST_REDUCTION * size)
    return tf.cond(large, by_area, lambda: tf.image.resize(image, (size, size)))
