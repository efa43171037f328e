"""What is said of two gradients, against NumPy in float64."""

import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.gradient_conflict import ALL, GradientConflict


def measured(text, image):
    """The conflict of gradients that are given as dicts of path to array."""
    conflict = GradientConflict([types.SimpleNamespace(path=path) for path in text])
    conflict.measure(
        *([tf.constant(g, tf.float32) for g in side.values()] for side in (text, image))
    )
    return conflict.values()


def by_numpy(text, image, block=""):
    """The numbers of the flat gradients of a block."""
    t, i = (
        np.concatenate([np.ravel(side[path]) for path in side if path.startswith(block)])
        for side in (text, image)
    )
    norms = np.sqrt(t @ t), np.sqrt(i @ i)
    return {
        "text_norm": norms[0],
        "image_norm": norms[1],
        "cosine": t @ i / (norms[0] * norms[1]),
        "norm_ratio": norms[0] / norms[1],
        "opposite_sign": np.mean(np.sign(t) * np.sign(i) < 0),
    }


def test_random_gradients():
    """Half of the entries are 0."""
    shapes = {"block_0/a": (2, 2), "block_0/b": (3,), "block_1/a": (5,), "final_norm/a": (4,)}
    rng = np.random.default_rng(0)
    text, image = (
        {path: rng.normal(size=shape) * rng.integers(0, 2, shape) for path, shape in shapes.items()}
        for _ in range(2)
    )
    found = measured(text, image)
    assert list(found) == ["block_0", "block_1", "final_norm", ALL]
    for block, values in found.items():
        expected = by_numpy(text, image, "" if block == ALL else block)
        assert values == pytest.approx(expected, rel=1e-5)


def test_what_is_not_there_or_tiny():
    """No gradient at all; and signs that a float32 product would lose."""
    nothing = {"block_0/a": [0.0, 0.0]}
    found = measured(nothing, {"block_0/a": [1.0, -1.0]})["block_0"]
    assert (found["cosine"], found["norm_ratio"], found["opposite_sign"]) == (0, 0, 0)
    assert measured({"block_0/a": [1.0, 1.0]}, nothing)[ALL]["norm_ratio"] == 0
    tiny = measured({"block_0/a": [1e-30, 1e-30]}, {"block_0/a": [-1e-30, 1e-30]})
    assert tiny["block_0"]["opposite_sign"] == 0.5
