"""The same steps on both engines, up to rounding; `comparison` has all merges and optimisers."""

import numpy as np
import pytest

from tests.keras_vitbert.training.engines.comparison import CASES, SGD, both

CHOSEN = {
    "mask": CASES["mask"],
    "others": {
        "merge": {"name": "famo"},  # computes losses again, after the update
        "optimizer": SGD,
        "trainer": {"accumulation": 4, "remat": True},
        "steps_per_execution": 2,
    },
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return {
        name: (ours, other)
        for name, *(ours, other) in both(CHOSEN, tmp_path_factory.mktemp("engines"))
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_ten_steps(found, name):
    tensorflow, jax = found[name]
    assert tensorflow.keys() == jax.keys()
    cleared = 0
    for key, expected in tensorflow.items():
        if key.startswith("masks/"):
            cleared += np.count_nonzero(~expected)
            np.testing.assert_array_equal(jax[key], expected)
        elif key.startswith("conflict/"):
            np.testing.assert_allclose(jax[key], expected, rtol=1e-3, atol=1e-3, err_msg=key)
        else:
            np.testing.assert_allclose(jax[key], expected, rtol=1e-5, atol=1e-5, err_msg=key)
    assert cleared == (606 if name == "mask" else 0)
    assert np.ptp(tensorflow["logs/loss"]) > 0.01
