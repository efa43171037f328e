"""Small models as Hugging Face's transformers wrote them, and the logits that those gave.

They are made by `make_fixtures.py`.
"""

import pathlib

import numpy as np
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
LOGITS = ("image_logits", "mlm_logits", "nsp_logits", "text_logits")
INPUTS = ("images", "token_ids", "segment_ids", "padding_mask", "masked_positions")


def stored(name):
    """All arrays beside a model: the batch, and what the model makes of it."""
    return dict(np.load(FIXTURES / name / "expected.npz"))


def expected(name):
    """The stored batch, and the logits."""
    arrays = stored(name)
    batch = {key: tf.constant(arrays[key]) for key in INPUTS if key in arrays}
    return batch, {key: arrays[key] for key in LOGITS if key in arrays}


def opened(name, dtype="float32"):
    """The stored model as a `TrainedModel`."""
    return open_source(find(str(FIXTURES / name)), dtype)


def call(network, batch):
    """The logits of a network, or of a `Teacher`, by name."""
    inputs = image_inputs(batch) if "images" in batch else text_inputs(batch)
    logits = network(inputs, training=False)
    return logits if isinstance(logits, dict) else {"text_logits": logits}


def assert_close(logits, wanted, tolerance=1e-5):
    assert set(logits) == set(wanted)
    for key, value in wanted.items():
        assert logits[key].dtype == tf.float32
        scale = np.abs(value).max()  # some 5: a relative tolerance of the largest
        np.testing.assert_allclose(logits[key], value, rtol=0, atol=tolerance * scale)
