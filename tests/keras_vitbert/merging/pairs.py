"""Pairs of gradients for tests of merges: as flat vectors, with chosen lengths and cosine."""

import functools
import types

import numpy as np
import tensorflow as tf

from keras_vitbert.merging import Merge

# Of the variables that both losses reach; the first part of a path names the block.
SHAPES = {
    "block_0/kernel": (3, 5),
    "block_0/bias": (7,),
    "block_1/kernel": (2, 2, 2),
    "block_2/kernel": (4, 2),
    "final_norm/gamma": (1,),
}
SIZES = [int(np.prod(shape)) for shape in SHAPES.values()]
SIZE = sum(SIZES)
BLOCKS = np.repeat([path.split("/")[0] for path in SHAPES], SIZES)  # of each entry
EPS = 2.0**-23  # of float32


# As much of a Keras variable as `make_state` looks at.
SHARED = [types.SimpleNamespace(path=path, shape=shape) for path, shape in SHAPES.items()]


def split(flat):
    """The tensors of a flat vector."""
    parts = tf.split(tf.convert_to_tensor(flat, tf.float32), SIZES)
    return [tf.reshape(part, v.shape) for part, v in zip(parts, SHARED, strict=True)]


def flat(tensors):
    """The flat vector of tensors, in float64."""
    return np.concatenate([np.ravel(x) for x in tensors]).astype(np.float64)


def pair(seed, gap, text_norm=1.0, image_norm=1.0):
    """Two gradients in random directions.

    Args:
        seed: int.
        gap: float in [0, 2], one and their cosine: 0 for opposite ones, exact for small gaps.
        text_norm, image_norm: float.

    Returns:
        float32 array `(2, SIZE)`.
    """
    rng = np.random.default_rng(seed)
    u, across = np.linalg.qr(rng.normal(size=(SIZE, 2)))[0].T
    v = (gap - 1) * u + np.sqrt(gap * (2 - gap)) * across
    return np.array([text_norm * u, image_norm * v], np.float32)


def draw(seed, text_norm=1.0, image_norm=1.0):
    """Two independent random gradients: float32 array `(2, SIZE)`."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(2, SIZE)) * [[text_norm], [image_norm]]).astype(np.float32)


def built(weighting, *entries, **options):
    """A merge of `SHARED`."""
    merge = Merge(weighting, *entries, **options)
    merge.make_state(SHARED)
    return merge


@functools.cache
def compiled(make, **options):
    """`merged(gradients) -> flat array` of the weighting `make(**options)`, traced once."""
    merge = built(make(**options))

    @tf.function(autograph=False)
    def traced(gradients):
        merged = merge.merge(*map(split, tf.unstack(gradients)))
        return tf.concat([tf.reshape(x, [-1]) for x in merged.gradients], 0)

    return lambda gradients: np.float64(traced(tf.constant(gradients, tf.float32)))
