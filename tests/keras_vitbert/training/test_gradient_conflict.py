"""What is said of two gradients, against NumPy in float64."""

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.gradient_conflict import ALL, GradientConflict

BLOCKS = ("block_0", "block_1", "final_norm")


class Shared:
    """What is asked of a shared variable."""

    def __init__(self, path):
        self.path = path


def measured(text, image):
    """The conflict of gradients that are given as dicts of path to array."""
    conflict = GradientConflict([Shared(path) for path in text])
    conflict.measure(
        *([tf.constant(g, tf.float32) for g in side.values()] for side in (text, image))
    )
    return conflict


def by_numpy(text, image):
    """The numbers of two flat gradients."""
    t, i = np.float64(text), np.float64(image)
    norms = np.sqrt(t @ t), np.sqrt(i @ i)
    return {
        "text_norm": norms[0],
        "image_norm": norms[1],
        "cosine": t @ i / (norms[0] * norms[1]),
        "norm_ratio": norms[0] / norms[1],
        "opposite_sign": np.mean(np.sign(t) * np.sign(i) < 0),
    }


def flat(gradients, block=""):
    return np.concatenate([np.ravel(g) for path, g in gradients.items() if path.startswith(block)])


def test_gradients_made_by_hand():
    """Opposite, at right angles, and alike but for entries that are 0."""
    text = {
        "block_0/a": [[3.0, -4.0], [0.0, 0.0]],
        "block_0/b": [0.0],
        "block_1/a": [1.0, 0.0, 0.0],
        "final_norm/a": [1.0, 2.0, 2.0, -1.0],
    }
    image = {
        "block_0/a": [[-6.0, 8.0], [0.0, 0.0]],
        "block_0/b": [0.0],
        "block_1/a": [0.0, -5.0, 0.0],
        "final_norm/a": [1.0, 2.0, -2.0, 0.0],
    }
    found = measured(text, image).values()
    assert list(found) == [*BLOCKS, ALL]
    opposed = {"text_norm": 5, "image_norm": 10, "norm_ratio": 0.5, "cosine": -1}
    assert found["block_0"] == pytest.approx({**opposed, "opposite_sign": 2 / 5})
    across = {"text_norm": 1, "image_norm": 5, "norm_ratio": 0.2, "cosine": 0}
    assert found["block_1"] == pytest.approx({**across, "opposite_sign": 0})
    assert found["final_norm"]["cosine"] == pytest.approx(1 / np.sqrt(10 * 9))
    assert found["final_norm"]["opposite_sign"] == 1 / 4
    assert found[ALL] == pytest.approx(by_numpy(flat(text), flat(image)), rel=1e-6)


def test_what_is_not_there_or_tiny():
    """No gradient at all; and signs that a float32 product would lose."""
    nothing = {"block_0/a": [0.0, 0.0]}
    found = measured(nothing, {"block_0/a": [1.0, -1.0]}).values()["block_0"]
    assert (found["cosine"], found["norm_ratio"], found["opposite_sign"]) == (0, 0, 0)
    assert measured({"block_0/a": [1.0, 1.0]}, nothing).values()[ALL]["norm_ratio"] == 0
    tiny = measured({"block_0/a": [1e-30, 1e-30]}, {"block_0/a": [-1e-30, 1e-30]})
    assert tiny.values()["block_0"]["opposite_sign"] == 0.5
