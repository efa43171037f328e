"""The same steps on both backends, up to rounding."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.keras_vitbert.jax_process import ENVIRONMENT, ROOT, environments
from tests.keras_vitbert.training.backends import ten_steps
from tests.marks import slow, thorough

SGD = {"name": "sgd", "learning_rate": 0.1}
ALL_AT_ONCE = {
    "merge": {"name": "mask+famo"},  # computes losses again, after the update
    "optimizer": SGD,
    "trainer": {"accumulation": 2, "remat": True},
    "steps_per_execution": 2,
}
# How JAX trains, its processes, and the devices of each.
CASES = {
    "alone": (ALL_AT_ONCE, 1, 1),
    "devices": ({}, 1, 8),
    "divided": ({"sharding": "fsdp"}, 1, 8),
    # A part has one example of each process.
    "processes": ({"optimizer": SGD, "trainer": {"accumulation": 4}}, 2, 1),
}


def both(case, processes, devices, folder):
    """What each backend finds from the same random weights, see `ten_steps.train`."""
    rng = np.random.default_rng(3)
    keras.utils.set_random_seed(0)
    given = [
        [w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for w in network.get_weights()]
        for network in ten_steps.networks()
    ]
    for name, weights in zip(("student", "teacher"), given, strict=True):
        np.savez(folder / f"{name}.npz", *weights)
    (folder / "case.json").write_text(json.dumps(case))
    command = [sys.executable, "-m", ten_steps.__name__, str(folder)]
    running = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT, **more})
        for more in environments(processes, devices)
    ]
    found = ten_steps.train(case, *given)
    assert [process.wait() for process in running] == [0] * processes
    return found, dict(np.load(folder / "found.npz"))


@pytest.mark.parametrize(
    "name", [thorough("alone"), slow("devices"), slow("divided"), thorough("processes")]
)
def test_ten_steps(name, tmp_path):
    tensorflow, jax = both(*CASES[name], tmp_path)
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
