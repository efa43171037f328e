"""Activations by their names, against the formulas in float64."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erfc, expit

from keras_vitbert.model.encoder_block import ACTIVATIONS
from tests.keras_vitbert.training import reference

X = np.linspace(-6, 6, 241)
FORMULAS = {
    "gelu": reference.gelu(X),
    "gelu_tanh": reference.gelu_tanh(X),
    "silu": X * expit(X),
    "relu": np.maximum(X, 0),
    "tanh": np.tanh(X),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_formulas(name):
    found = np.asarray(ACTIVATIONS[name](X.astype(np.float32)))
    np.testing.assert_allclose(found, FORMULAS[name], rtol=1e-6, atol=2e-6)


def test_gelu_in_bfloat16_is_rounded_once():
    """Computed in bfloat16 step by step, small values would be off by a fifth of themselves."""
    x = tf.cast(np.linspace(-9, 9, 20_001), tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ACTIVATIONS["gelu"](x)
    derivative = np.asarray(tape.gradient(y, x), np.float64)
    x = np.asarray(x, np.float64)
    below = 0.5 * erfc(-x / np.sqrt(2))
    half_a_unit = 2**-8 * 1.01
    np.testing.assert_allclose(np.asarray(y, np.float64), x * below, rtol=half_a_unit)
    expected = below + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(derivative, expected, rtol=half_a_unit, atol=1e-6)
