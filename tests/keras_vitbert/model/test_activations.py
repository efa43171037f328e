"""Activations by their names, against the formulas in float64."""

import numpy as np
import pytest
from scipy.special import erf, expit

from keras_vitbert.model.activations import ACTIVATIONS

X = np.linspace(-6, 6, 241)
EXACT = X * 0.5 * (1 + erf(X / np.sqrt(2)))
BY_TANH = X * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))
FORMULAS = {
    "gelu": EXACT,
    "gelu_tanh": BY_TANH,
    "silu": X * expit(X),
    "relu": np.maximum(X, 0),
    "tanh": np.tanh(X),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_formulas(name):
    assert np.abs(EXACT - BY_TANH).max() > 1e-4  # so the tests below tell them apart
    found = np.asarray(ACTIVATIONS[name](X.astype(np.float32)))
    np.testing.assert_allclose(found, FORMULAS[name], rtol=1e-6, atol=2e-6)
