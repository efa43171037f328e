"""MixUp and CutMix for the pairs of a batch, with stateless random numbers."""

import tensorflow as tf

from pipelines.images import random_keys
from pipelines.images.random_keys import derived_key


def mix(images, labels, numbers, seed, mixup_alpha, cutmix_alpha):
    """Mixes the neighbours of a batch: the first with the second, the third with the fourth, ...

    MixUp (Zhang et al. 2018) averages the two images. CutMix (Yun et al. 2019) puts a box of each
    into the other. With both, every pair gets either with probability 1/2. The share of a pair is
    drawn from Beta(alpha, alpha), keyed by `seed` and the number of its first example alone, so
    splitting a batch between pairs changes nothing.

    Args:
        images: float32 tensor `(batch, size, size, 3)`; the batch must be even.
        labels: int32 tensor `(batch,)`.
        numbers: int64 tensor `(batch,)`, the examples' numbers in the stream.
        seed: int.
        mixup_alpha: float, 0 for no MixUp.
        cutmix_alpha: float, 0 for no CutMix; one of the two is above 0.

    Returns:
        Dict of `images`; `image_labels`, as given; `image_mix_labels`, those of the partners; and
        `image_mix_weights` `(batch,)` float32, the share of the image's own label, 0.5 to 1.
        Partners have the same weight. For CutMix it is the area that is kept.
    """
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
            # Partners swap the box or, if it is more than half of the area, what is around it.
            around = tf.cast(area > 0.5, tf.float32)
            swapped = tf.abs(around - rows[:, None] * columns)
            return difference * swapped, tf.maximum(area, 1 - area)

        if not cutmix_alpha:
            moved, share = by_mixup()
        elif not mixup_alpha:
            moved, share = by_cutmix()
        else:
            choice = tf.random.stateless_uniform((), derived_key(key, random_keys.MIX_SWITCH))
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
    """A sample of Beta(alpha, alpha)."""
    first, second = (
        tf.random.stateless_gamma((), derived_key(key, name), alpha)
        for name in (random_keys.FIRST_GAMMA, random_keys.SECOND_GAMMA)
    )
    # If alpha is tiny, both may be the smallest float, although one should be nearly everything.
    return tf.where(first == second, 1.0, first / (first + second))


def _box(key, share, height, width):
    """A box of `1 - share` of the area around a random pixel, clipped at the edges.

    Returns:
        int32 tensors: top, bottom, left, right.
    """
    center = tf.random.stateless_uniform((2,), derived_key(key, random_keys.BOX_CENTER))
    edges = []
    for middle, side in zip(tf.unstack(center), (height, width), strict=True):
        half = tf.sqrt(1 - share) * side / 2
        low, high = middle * side - half, middle * side + half
        edges += [tf.clip_by_value(tf.cast(tf.round(e), tf.int32), 0, side) for e in (low, high)]
    return edges
