"""A step traced for a TPU, checked against one device with the large batch."""

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.extras.ahead_of_time.tracing import stablehlo, tracing_strategy
from tests.keras_vitbert.extras.ahead_of_time.program_script import CLEAR, CLIP_NORM, REPLICAS
from tests.keras_vitbert.training.replicas_script import MODEL
from tests.tpu.servers import ROOT

FLOATS = tf.TensorSpec((4,), tf.float32)


def test_a_program_comes_with_the_variables_that_it_uses():
    strategy = tracing_strategy(8)
    with strategy.scope():
        weights, unused, counter = (tf.Variable(tf.zeros(4), name=name) for name in "abc")

    def step(x):
        counter.assign_add(x)
        return tf.distribute.get_replica_context().all_reduce("SUM", x * weights)

    program, handles = stablehlo(strategy, step, (FLOATS,))
    assert b"all_reduce" in program
    names = {
        id(variable.values[0].handle): variable.name for variable in (weights, unused, counter)
    }
    assert {names[id(handle)] for handle in handles} == {weights.name, counter.name}


@pytest.mark.parametrize(
    "step",
    [
        lambda x: tf.py_function(np.sqrt, [x], tf.float32),
        lambda x: tf.strings.to_number(tf.strings.as_string(x)),
    ],
    ids=["Python", "strings"],
)
def test_what_no_tpu_can_do_is_told(step):
    with pytest.raises(ValueError, match="XLA"):
        stablehlo(tracing_strategy(8), step, (FLOATS,))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="runs the program by JAX")
def test_eight_replicas_compute_what_one_large_batch_does(tmp_path):
    """With dropout, masks, clipping, teachers and metrics; each example is on another replica."""
    script = "tests.keras_vitbert.extras.ahead_of_time.program_script"
    for what in ("trace", "run"):
        done = subprocess.run(
            [sys.executable, "-m", script, what, str(tmp_path)],
            cwd=ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    expected, found = np.load(tmp_path / "expected.npz"), np.load(tmp_path / "found.npz")
    names = json.loads((tmp_path / "variables.json").read_text())
    before = dict(zip(names, np.load(tmp_path / "before.npz").values(), strict=True))
    assert expected["gradient_norm"] > CLIP_NORM

    masks = [name for name in found.files if name.startswith("merge")]
    groups = ("network", "optimizer", "merge", "probe", "metrics", "step_check")
    compared = dict.fromkeys(groups, 0)
    for name in found.files:
        group, values = name.split()[0], found[name]
        compared[group] += 1
        assert len(values) == REPLICAS
        if group == "metrics":  # each replica has its own, which are summed when they are read
            values = values.sum(axis=0, keepdims=True)
        for value in values[1:]:
            np.testing.assert_array_equal(value, values[0], err_msg=name)
        wanted, value = expected[name], values[0]
        if name == "probe 0":  # its last column counts the entries with opposite signs
            # The key's biases have no gradient but rounding, which may be of either sign.
            noise = MODEL["hidden_dim"] / sum(expected[n].size for n in masks)
            assert abs(value[-1, -1] - wanted[-1, -1]) <= noise + 0.001
            wanted, value = wanted[:, :-1], value[:, :-1]
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6, err_msg=name)
    # Nothing that changes is left out.
    changed = [name for name in before if not np.array_equal(before[name], expected[name])]
    assert set(changed) <= set(found.files) and min(compared.values()) > 0
    assert any(name.startswith("network") for name in changed)
    assert sum(np.count_nonzero(~found[name][0]) for name in masks) == CLEAR
