"""The same steps on both backends, up to rounding."""

import numpy as np
import pytest

from tests.keras_vitbert.training.backends.comparison import (
    ALONE,
    MANY_DEVICES,
    MANY_PROCESSES,
    SGD,
    both,
)
from tests.marks import slow, thorough

CHOSEN = {
    "vitbert": ({}, ALONE),
    "alone": (
        {
            "merge": {"name": "mask+famo"},  # computes losses again, after the update
            "optimizer": SGD,
            "trainer": {"accumulation": 2, "remat": True},
            "steps_per_execution": 2,
        },
        ALONE,
    ),
    "devices": ({}, MANY_DEVICES),
    "divided": ({"sharding": "fsdp"}, MANY_DEVICES),
    # A part has one example of each process.
    "processes": ({"optimizer": SGD, "trainer": {"accumulation": 4}}, MANY_PROCESSES),
}


@pytest.fixture(scope="module")
def known():
    """What TensorFlow finds for a case."""
    return {}


@pytest.mark.parametrize(
    "name",
    [slow(name) if name in ("devices", "divided") else thorough(name) for name in CHOSEN],
)
def test_ten_steps(name, known, tmp_path):
    case, shared = CHOSEN[name]
    [(_, tensorflow, jax)] = both({name: case}, tmp_path, shared, known)
    assert tensorflow.keys() == jax.keys()
    cleared = 0
    for key, expected in tensorflow.items():
        if key.startswith("masks/"):
            cleared += np.count_nonzero(~expected)
            np.testing.assert_array_equal(jax[key], expected)
        elif key.startswith("conflict/"):
            *numbers, opposed = np.transpose(expected)
            np.testing.assert_allclose(jax[key][:, :3], np.transpose(numbers), rtol=1e-3, atol=1e-3)
            # The gradients of a key's 16 biases are 0 but for rounding: their signs say nothing.
            np.testing.assert_allclose(jax[key][:, 3], opposed, atol=16 / 1112)
        else:
            np.testing.assert_allclose(jax[key], expected, rtol=1e-5, atol=1e-5, err_msg=key)
    assert cleared == 606
    assert np.ptp(tensorflow["logs/loss"]) > 0.01
