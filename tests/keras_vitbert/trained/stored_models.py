"""Small models as Hugging Face's transformers wrote them, and the logits that those gave.

They are made by `make_fixtures.py`.
"""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import open_source
from keras_vitbert.training.distillation import Teacher

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
BERTS = ("bert", "masked_lm", "untied", "distilbert")
TEXT_CLASSIFIERS = ("bert_classifier", "distilbert_classifier")
VITS = ("vit", "vit_half", "deit", "deit_teacher")
BARE = ("bert_model", "vit_model")
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


def load(name, dtype="float32", columns=None):
    """The stored model as a `Teacher` of a student with so many words."""
    return Teacher(opened(name, dtype).network, columns)


def call(teacher, batch):
    inputs = image_inputs(batch) if "images" in batch else text_inputs(batch)
    return teacher(inputs, training=False)


def assert_close(logits, wanted, tolerance=1e-5):
    assert set(logits) == set(wanted)
    for key, value in wanted.items():
        assert logits[key].dtype == tf.float32
        scale = np.abs(value).max()  # some 5: a relative tolerance of the largest
        np.testing.assert_allclose(logits[key], value, rtol=0, atol=tolerance * scale)


def block_outputs(backbone, batch, stream="text"):
    """What the embedding and each block return: `(layers + 1, batch, length, D)`.

    Of texts the tokens that are padding are 0.
    """
    names = [f"{stream}_embedding", *(f"{stream}_{block.name}" for block in backbone.blocks)]
    outputs = backbone.block_outputs
    model = keras.Model(backbone.inputs, [outputs[name] for name in names])
    found = np.stack(model({x.name: batch[x.name] for x in backbone.inputs}))
    return real(found, batch) if stream == "text" else found


def real(states, batch):
    """The states of texts with 0 at padding, of which nothing is promised."""
    return states * np.asarray(batch["padding_mask"], np.float32)[None, :, :, None]


def values_of(network):
    """The values of all weights of a network by their paths."""
    return {variable.path: np.asarray(variable.value) for variable in network.weights}


def has_float32_products(logits):
    """Whether logits hold what bfloat16 cannot: products that were not rounded to 8 bits."""
    logits = tf.convert_to_tensor(logits)
    rounded = tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
    return logits.dtype == tf.float32 and np.mean(logits != rounded) > 0.9
