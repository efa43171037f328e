"""Small models as Hugging Face's transformers wrote them, and the logits that those gave.

They are made by `make_fixtures.py`.
"""

import pathlib

import numpy as np
import tensorflow as tf

from keras_vitbert.importing.image_teachers import load_image_teacher
from keras_vitbert.importing.text_teachers import load_text_teacher
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.trained.finding import find

FIXTURES = pathlib.Path(__file__).parent / "fixtures"
BERTS = ("bert", "masked_lm", "untied")
VITS = ("vit", "vit_half", "deit", "deit_teacher")
LOGITS = ("image_logits", "mlm_logits", "nsp_logits")


def expected(name):
    """The stored batch, and the logits."""
    stored = dict(np.load(FIXTURES / name / "expected.npz"))
    logits = {key: stored.pop(key) for key in LOGITS if key in stored}
    return {key: tf.constant(value) for key, value in stored.items()}, logits


def load(name, **options):
    source = find(str(FIXTURES / name))
    load = load_text_teacher if name in BERTS else load_image_teacher
    return load(source, **options)


def call(teacher, batch):
    inputs = image_inputs(batch) if "images" in batch else text_inputs(batch)
    return teacher(inputs, training=False)


def assert_close(logits, wanted, tolerance=1e-5):
    assert set(logits) == set(wanted)
    for key, value in wanted.items():
        assert logits[key].dtype == tf.float32
        scale = np.abs(value).max()  # some 5: a relative tolerance of the largest
        np.testing.assert_allclose(logits[key], value, rtol=0, atol=tolerance * scale)


def image_tokens(backbone, name):
    """What a backbone makes of the images stored beside a model, and what is stored."""
    stored = np.load(FIXTURES / name / "expected.npz")
    return np.asarray(backbone({"images": stored["images"]})["image_sequence"]), stored


def has_float32_products(logits):
    """Whether logits hold what bfloat16 cannot: products that were not rounded to 8 bits."""
    logits = tf.convert_to_tensor(logits)
    rounded = tf.cast(tf.cast(logits, tf.bfloat16), tf.float32)
    return logits.dtype == tf.float32 and np.mean(logits != rounded) > 0.9
