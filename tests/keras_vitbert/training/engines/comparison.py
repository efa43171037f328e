"""Compares ten steps of both engines, with dropout, teachers, clipping and masks that refresh.

python -m tests.keras_vitbert.training.engines.comparison [CASE ...]

prints for each case, of all merges by default, how far JAX is from TensorFlow at the end.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

from keras_vitbert.configs.merges import WEIGHTINGS
from keras_vitbert.configs.optimizers import OPTIONS
from tests.keras_vitbert.training.engines import ten_steps

ROOT = pathlib.Path(__file__).parents[4]
# XLA optimises tiny programs for longer than they run.
ENVIRONMENT = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",
}
SGD = {"name": "sgd", "learning_rate": 0.1}
CASES = {
    "vit": {"modalities": ["images"]},
    "bert": {"modalities": ["text"]},
    "mask": {},
    "mask_of_updates": {"merge": {"name": "mask+pcgrad", "mask_target": "update"}},
    "by_block": {"merge": {"name": "mask+gradvac", "per_block": True}, "optimizer": SGD},
    "executions": {"steps_per_execution": 2},
    "parts": {"trainer": {"accumulation": 4, "remat": True}},
    **{name: {"merge": {"name": name}, "optimizer": SGD} for name in WEIGHTINGS},
    **{
        name: {"merge": {"name": "sum"}, "optimizer": {"name": name, "ema": 0.9}}
        for name in OPTIONS
    },
}


def both(cases, folder):
    """What each engine makes of cases, from the same random weights.

    Args:
        cases: dict of name to case, see `ten_steps.train`.
        folder: str, for what one process gives to the other.

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
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT})
    found = {name: ten_steps.train(case, *given[name]) for name, case in cases.items()}
    assert process.wait() == 0
    for name, ours in found.items():
        yield name, ours, dict(np.load(f"{folder}/{name}.jax.npz"))


def apart(first, second):
    """The largest difference of the entries of each kind: dict."""
    assert first.keys() == second.keys()
    largest = {}
    for name, values in first.items():
        kind = name if name.startswith("logs/") else name.partition("/")[0]
        difference = np.abs(np.asarray(values, float) - np.asarray(second[name], float))
        largest[kind] = max(largest.get(kind, 0.0), float(np.max(difference, initial=0.0)))
    return largest


if __name__ == "__main__":
    chosen = {name: CASES[name] for name in sys.argv[1:] or CASES}
    with tempfile.TemporaryDirectory() as made:
        for case_name, tensorflow, jax in both(chosen, made):
            print(
                case_name,
                {kind: float(f"{value:.1e}") for kind, value in apart(tensorflow, jax).items()},
                flush=True,
            )
