"""Imported models give the logits that Hugging Face's transformers give.

The fixtures are made by `make_fixtures.py`.
"""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.importing.image_teachers import load_image_teacher
from keras_vitbert.importing.text_teachers import load_text_teacher
from keras_vitbert.importing.trunks import build_vit
from keras_vitbert.importing.vit_backbone import read_vit
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


@pytest.mark.parametrize("name", BERTS + VITS)
def test_logits(name):
    batch, wanted = expected(name)
    assert_close(call(load(name), batch), wanted)


def test_next_sentence_head_of_a_masked_lm_model():
    assert load("bert").has_next_sentence and not load("masked_lm").has_next_sentence


def test_labels():
    assert load("vit").labels == ["tench, Tinca tinca", "Great_White-Shark", "hen"]


def test_logits_of_words_that_the_student_lacks_are_cut_off():
    batch, wanted = expected("bert")
    logits = call(load("bert", columns=30), batch)
    wanted["mlm_logits"] = wanted["mlm_logits"][..., :30]
    assert_close(logits, wanted)


def test_images_of_another_size_are_resized():
    batch, wanted = expected("vit")
    teacher = load("vit")
    large = tf.repeat(tf.repeat(batch["images"], 3, axis=1), 3, axis=2)  # its pixels, nine times
    logits = tf.function(lambda images: call(teacher, {"images": images}))(large)
    # The middle of each nine is what a bilinear resize to a third takes.
    assert_close(logits, wanted)


@pytest.mark.parametrize("name", ["bert", "deit_teacher"])
def test_in_bfloat16_inside_a_strategy(name):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        teacher = load(name, dtype="mixed_bfloat16")
    assert {weight.dtype for weight in teacher.weights} == {"float32"}
    assert not teacher.trainable_variables
    batch, wanted = expected(name)
    logits = tf.function(lambda: strategy.run(call, (teacher, batch)))()
    assert_close(logits, wanted, tolerance=16 * 2**-8)  # some roundings to 8 bits
    assert not np.array_equal(logits["mlm_logits" if "bert" in name else "image_logits"], wanted)


@pytest.mark.parametrize("name", ["bert", "vit"])
def test_compiled_by_xla(name):
    """As on TPU, where strings and bicubic resizes cannot be compiled; images are resized here."""
    batch, _ = expected(name)
    if name == "vit":
        batch["images"] = tf.image.resize(batch["images"], (12, 12))
    teacher = load(name)
    compiled = tf.function(lambda: call(teacher, batch), jit_compile=True)()
    wanted = {key: value.numpy() for key, value in call(teacher, batch).items()}
    assert_close(compiled, wanted)


def test_the_encoder_of_a_vit():
    weights = read_vit(find(str(FIXTURES / "vit_model")))
    assert (weights.heads, weights.num_classes, weights.mean) == ((), None, (0.5, 0.5, 0.5))
    stored = np.load(FIXTURES / "vit_model" / "expected.npz")
    tokens = build_vit(weights)((stored["images"] - 0.5) / 0.5)
    scale = np.abs(stored["tokens"]).max()
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5 * scale)
