"""Decodes images at the size that a model takes, with a random or the central crop.

Only the window of a JPEG is decoded. Other formats (PNG, GIF, BMP, WebP) are decoded whole and
cropped. Images stay bytes until they are on a device: floats take four times the memory, and four
times as long to copy.
"""

import tensorflow as tf

# A bilinear sample weighs two pixels per direction: if the window is larger than the image by more
# than this factor, pixels would be skipped. Averages over areas skip none and take twice the time.
_LARGEST_REDUCTION = 2.0

# Keys of an image's random numbers, one for each use, so that none depend on one another. The
# images that a seed gives depend on these values: give a new use a new value.
WINDOW, MIRROR = 1, 2
OPERATIONS, MIX_SWITCH, FIRST_GAMMA, SECOND_GAMMA, BOX_CENTER = range(101, 106)

_JPEG = b"\xff\xd8\xff"


def random_crop(encoded, key, image_size, crop_area=(0.08, 1.0), flip=True):
    """A random window, resized to a square and perhaps mirrored (Szegedy et al. 2015).

    Args:
        encoded: string tensor, what `tf.io.decode_image` reads: JPEG (also grey, CMYK), PNG, ...
        key: int64 tensor `(2,)`, the seed and the number of the example: equal keys, equal crops.
        image_size: int, height and width of the result, in pixels.
        crop_area: pair of floats, the fraction of the area that the window holds. Its aspect ratio
            is between 3:4 and 4:3.
        flip: bool, whether half of the images are mirrored.

    Returns:
        uint8 tensor `(image_size, image_size, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: when run, if `encoded` is not an image or is cut short.
    """

    def window(shape):
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
        bits = tf.random.stateless_uniform((), derived_key(key, MIRROR), None, None, tf.int32)
        mirror = bits < 0
        image = tf.cond(mirror, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, (image_size, image_size, 3))


def central_crop(encoded, image_size, central_crop=0.875):
    """The central square, resized with a filter as wide as the reduction.

    Args:
        encoded, image_size: as in `random_crop`.
        central_crop: float, the side of the square as a fraction of the shorter side.

    Returns:
        uint8 tensor `(image_size, image_size, 3)`.

    Raises:
        tf.errors.InvalidArgumentError: as in `random_crop`.
    """
    image = _decoded(encoded, lambda shape: _central_window(shape, central_crop))
    return _central_resized(image, image_size)


def central_view(image, image_size, central_crop=0.875):
    """What `central_crop` makes of an image, from its pixels.

    Args:
        image: tensor `(height, width, 3)` or `(batch, height, width, 3)` of values in 0 to 255.
        image_size, central_crop: as in `central_crop`.

    Returns:
        uint8 tensor `(..., image_size, image_size, 3)`.
    """
    top, left, height, width = tf.unstack(_central_window(tf.shape(image)[-3:], central_crop))
    window = image[..., top : top + height, left : left + width, :]
    return _central_resized(tf.cast(window, tf.float32), image_size)


def derived_key(key, name):
    """A key for random numbers that are independent of all others of the same example.

    It is as good as `tf.random.fold_in`, since the operations scramble their keys themselves, and
    some 10 us faster, which matters for one image.

    Args:
        key: int64 tensor `(2,)`, the seed and the number of the example.
        name: int, one of the uses above.

    Returns:
        int64 tensor `(2,)`.
    """
    bits = name * 0x9E3779B97F4A7C15 % 2**63  # spread over all bits: seeds are small numbers
    return tf.bitwise.bitwise_xor(key, tf.constant([bits, 0], tf.int64))


@tf.function(jit_compile=True)
def to_floats(images):
    """Bytes to floats in [0, 1], in one pass over memory: for whole batches.

    Args:
        images: uint8 tensor of static shape.

    Returns:
        float32 tensor of the same shape.
    """
    return tf.cast(images, tf.float32) * (1 / 255)


def _decoded(encoded, window):
    """The window of an image: `window(shape)` returns its top, left, height and width.

    Returns:
        float32 tensor `(height, width, 3)` in 0 to 255. The resize is faster from floats.
    """

    def from_jpeg():
        # The default transform is coarser (up to 7 of 255 off, darker on average) and no faster.
        return tf.io.decode_and_crop_jpeg(
            encoded,
            window(tf.io.extract_jpeg_shape(encoded)),
            channels=3,
            dct_method="INTEGER_ACCURATE",
        )

    def from_others():
        image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
        image.set_shape((None, None, 3))
        top, left, height, width = tf.unstack(window(tf.shape(image)))
        return image[top : top + height, left : left + width]

    is_jpeg = tf.strings.substr(encoded, 0, len(_JPEG)) == _JPEG
    image = tf.cond(is_jpeg, from_jpeg, from_others)
    return tf.cast(image, tf.float32)


def _central_window(shape, part):
    side = tf.cast(tf.reduce_min(shape[:2]), tf.float32) * part
    side = tf.maximum(tf.cast(tf.round(side), tf.int32), 1)
    return tf.stack([(shape[0] - side) // 2, (shape[1] - side) // 2, side, side])


def _central_resized(image, size):
    image = tf.image.resize(image, (size, size), antialias=True)
    image = tf.cast(tf.round(image), tf.uint8)
    return tf.ensure_shape(image, (*image.shape[:-3], size, size, 3))


def _resized(image, size):
    """Resizes to a square: bilinear, or by areas where the image becomes much smaller."""
    sides = tf.shape(image)[:2]

    def by_area():
        # An average over less than a pixel would be a nearest neighbour: a side that is shorter
        # than the output's is left to the bilinear filter, which changes nothing else.
        smaller = tf.image.resize(image, tf.minimum(sides, size), "area")
        return tf.image.resize(smaller, (size, size))

    large = tf.reduce_max(sides) > round(_LARGEST_REDUCTION * size)
    return tf.cond(large, by_area, lambda: tf.image.resize(image, (size, size)))
