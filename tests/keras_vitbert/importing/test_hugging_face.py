"""Logits of imported models, checked against Hugging Face's transformers.

The fixtures are made by `make_fixtures.py`.
"""

import numpy as np
import pytest
import tensorflow as tf

from tests.keras_vitbert.importing.stored_models import (
    BERTS,
    VITS,
    assert_close,
    call,
    expected,
    has_float32_products,
    load,
)
from tests.marks import slow


@pytest.mark.parametrize("name", BERTS + VITS)
def test_logits(name):
    batch, wanted = expected(name)
    assert_close(call(load(name), batch), wanted)


@pytest.mark.parametrize("name", ["bert", slow("deit_teacher")])
def test_in_bfloat16_inside_a_strategy(name):
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        teacher = load(name, dtype="mixed_bfloat16")
    assert {weight.dtype for weight in teacher.weights} == {"float32"}
    assert not teacher.trainable_variables
    batch, wanted = expected(name)
    logits = tf.function(lambda: strategy.run(call, (teacher, batch)))()
    assert_close(logits, wanted, tolerance=16 * 2**-8)  # some roundings to 8 bits
    assert all(has_float32_products(values) for values in logits.values())
    assert not np.array_equal(logits["mlm_logits" if "bert" in name else "image_logits"], wanted)


@pytest.mark.slow
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
