"""Compares ten steps of both backends, with dropout, teachers, clipping and masks that refresh.

python -m tests.keras_vitbert.training.backends.comparison [CASE ...]

prints for each case, by default of all variants, merges and optimisers, how far JAX is from
TensorFlow at the end: the largest `|a - b| / (1 + |b|)` of each kind.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import keras
import numpy as np

from keras_vitbert.configs.merges import ENTRIES, WEIGHTINGS
from keras_vitbert.configs.optimizers import OPTIONS
from tests.keras_vitbert.jax_process import ENVIRONMENT, environments
from tests.keras_vitbert.training.backends import ten_steps

ROOT = pathlib.Path(__file__).parents[4]
SGD = {"name": "sgd", "learning_rate": 0.1}
MERGES = [*(name for name in ENTRIES if name != "mask"), *WEIGHTINGS]
CASES = {
    # The variants.
    "vit": {"modalities": ["images"], "distillation": False},
    "bert": {"modalities": ["text"], "distillation": False},
    "joint": {"merge": {"name": "sum"}, "distillation": False},
    "vitbert": {},
    "vitbert_no_kd": {"distillation": False},
    "vitbert_no_gm": {"merge": {"name": "sum"}},
    # What else changes the step.
    "mask+pcgrad": {"merge": {"name": "mask+pcgrad"}},
    "by_block": {"merge": {"name": "mask+gradvac", "per_block": True}, "optimizer": SGD},
    "executions": {"steps_per_execution": 2},
    "parts": {"trainer": {"accumulation": 4, "remat": True}},
    **{name: {"merge": {"name": name}, "optimizer": SGD} for name in MERGES},
    **{
        name: {"merge": {"name": "sum"}, "optimizer": {"name": name, "ema": 0.9}}
        for name in OPTIONS
    },
}


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


def apart(first, second):
    """The largest `|a - b| / (1 + |b|)` of the entries of each kind: dict."""
    assert first.keys() == second.keys()
    largest = {}
    for name, values in first.items():
        kind = name if name.startswith("logs/") else name.partition("/")[0]
        # Their gradients are 0 but for rounding, which some optimisers divide by itself.
        kind += " of keys' biases" * bool(re.search("key.bias", name))
        values, expected = (np.asarray(side, float) for side in (values, second[name]))
        difference = np.abs(values - expected) / (1 + np.abs(expected))
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
