"""Ten steps on both backends, with dropout, teachers, clipping and masks that refresh."""

import json
import os
import pathlib
import subprocess
import sys

import keras
import numpy as np

from tests.keras_vitbert.jax_process import ENVIRONMENT, environments
from tests.keras_vitbert.training.backends import ten_steps

ROOT = pathlib.Path(__file__).parents[4]
SGD = {"name": "sgd", "learning_rate": 0.1}


# Processes of JAX that share a training: how many, and how many devices each has.
ALONE, MANY_DEVICES, MANY_PROCESSES = (1, 1), (1, 8), (2, 1)


def both(cases, folder, shared=ALONE, known=None):
    """What each backend makes of cases, from the same random weights.

    Args:
        cases: dict of name to case, see `ten_steps.train`.
        folder: str, for what one process gives to the other.
        shared: pair of int, the processes of JAX, and the devices of each.
        known: dict, in which what TensorFlow finds is kept, and looked up the next time.

    Yields:
        (name, what TensorFlow finds, what JAX finds), see `ten_steps.train`.
    """
    rng, given = np.random.default_rng(3), {}
    for name, case in cases.items():
        keras.utils.set_random_seed(0)
        given[name] = [
            [w + rng.normal(0, 0.05, w.shape).astype(w.dtype) for w in network.get_weights()]
            for network in ten_steps.networks(case)
        ]
        arrays = {
            f"{of}/{number:03}": array
            for of, weights in zip(("student", "teacher"), given[name], strict=True)
            for number, array in enumerate(weights)
        }
        np.savez(f"{folder}/{name}.npz", **arrays)
    with open(f"{folder}/cases.json", "w") as file:
        json.dump(cases, file)
    command = [sys.executable, "-m", ten_steps.__name__, str(folder)]
    processes = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT, **more})
        for more in environments(*shared)
    ]
    found, known = {}, {} if known is None else known
    for name, case in cases.items():
        key = json.dumps({**case, "sharding": None}, sort_keys=True)  # which is JAX's alone
        if key not in known:
            known[key] = ten_steps.train(case, *given[name])
        found[name] = known[key]
    assert [process.wait() for process in processes] == [0] * len(processes)
    for name, ours in found.items():
        yield name, ours, dict(np.load(f"{folder}/{name}.jax.npz"))
