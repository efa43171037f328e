"""N replicas with one global batch are one replica: masks, clipping and distillation included."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from tests.keras_vitbert.replicas_script import CLEAR, CLIP_NORM

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = "tests.keras_vitbert.replicas_script"


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """`start(optimizer, replicas)` starts a process, once; called on, it waits for its arrays."""
    folder = tmp_path_factory.mktemp("replicas")

    @functools.cache
    def start(optimizer, replicas):
        path = folder / f"{optimizer}_{replicas}.npz"
        process = subprocess.Popen(
            [sys.executable, "-m", SCRIPT, optimizer, str(replicas), str(path)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"},
            stderr=subprocess.PIPE,
            text=True,
        )

        @functools.cache
        def arrays():
            _, errors = process.communicate()
            assert process.returncode == 0, errors[-3000:]
            return dict(np.load(path))

        return arrays

    return start


@pytest.mark.parametrize(
    "optimizer, replicas",
    [
        pytest.param("adamw", 2, marks=pytest.mark.slow),
        pytest.param("adamw", 4, marks=pytest.mark.slow),
        pytest.param("sgd", 2, marks=pytest.mark.slow),
        pytest.param("sgd", 4, marks=pytest.mark.slow),
    ],
)
def test_replicas_are_one(start, optimizer, replicas):
    processes = start(optimizer, 1), start(optimizer, replicas)
    one, many = (process() for process in processes)
    weights, masks = many["weights"], many["masks"]
    print(
        json.dumps(
            {
                "replicas": len(weights),
                "optimizer": optimizer,
                "weights": weights[0].size,
                "weights_moved": float(np.abs(weights[0] - many["before"][0]).max()),
                "weights_apart": float(np.abs(weights[0] - one["weights"][0]).max()),
                "mask_entries": masks[0].size,
                "mask_entries_cleared": int(np.count_nonzero(~masks[0])),
                "mask_entries_apart": int(np.count_nonzero(masks[0] != one["masks"][0])),
                "gradient_norms": [round(float(x), 3) for x in many["gradient_norms"]],
            }
        )
    )
    assert len(weights) == len(masks) == replicas
    for replica in range(1, replicas):
        np.testing.assert_array_equal(masks[replica], masks[0])
        np.testing.assert_array_equal(weights[replica], weights[0])

    np.testing.assert_array_equal(many["before"][0], one["before"][0])
    assert np.abs(weights[0] - many["before"][0]).max() > 0.01
    np.testing.assert_allclose(weights[0], one["weights"][0], rtol=0, atol=1e-5)
    assert np.count_nonzero(~masks[0]) == sum(CLEAR.values())
    assert np.mean(masks[0] != one["masks"][0]) <= 0.001
    assert np.all(many["gradient_norms"] > CLIP_NORM)
    np.testing.assert_allclose(many["gradient_norms"], one["gradient_norms"], rtol=1e-4)
