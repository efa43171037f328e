"""A step traced for a TPU, checked against one device with the large batch."""

import importlib.util
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.extras.ahead_of_time.tracing import stablehlo, tracing_strategy
from keras_vitbert.merging import GradientMask, Merge, Unit
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from tests.keras_vitbert.extras.ahead_of_time.program_script import REPLICAS
from tests.keras_vitbert.training.replicas_script import ADAMW, CLIP_NORM, MODEL, make_examples
from tests.tpu.servers import ROOT

FLOATS = tf.TensorSpec((4,), tf.float32)
CLEAR = 150


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


def make_trainer(strategy):
    """With dropout, masks, clipping, teachers and metrics; its learning rate is not 0."""
    with strategy.scope():
        keras.utils.set_random_seed(0)
        network, teacher = build_network(MODEL), build_network(MODEL)
        teachers, merge = Teachers(teacher, teacher), Merge(Unit(), GradientMask())
        trainer = JointTrainer(network, merge, teachers, 0.5, 2.0, clip_norm=CLIP_NORM)
        # A gradient near 0 moves AdamW's update by up to learning_rate / epsilon times its
        # rounding: with an epsilon of 1e-6, 1e-9 would become 1e-5.
        config = PretrainingOptimizer(**ADAMW | {"epsilon": 1e-4})
        trainer.compile(build_optimizer(config, 10, network.trainable_variables))
    trainer.optimizer.iterations.assign(3)
    trainer.clear_counts.assign([CLEAR])
    return trainer


def variables_of(trainer):
    """Everything that a step reads or writes, by name."""
    state = {
        **trainer.state_variables,
        "optimizer": trainer.optimizer.variables,
        "teacher": trainer.teachers.image.variables,
        "probe": [*trainer.conflict.variables, trainer.clear_counts],
    }
    return {
        f"{group} {place}": variable.value
        for group, members in state.items()
        for place, variable in enumerate(members)
    }


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="runs the program by JAX")
def test_eight_replicas_compute_what_one_large_batch_does(tmp_path):
    """Each example is on another replica."""
    batch = {name: values[:REPLICAS] for name, values in make_examples().items()}
    strategy = tracing_strategy(REPLICAS)
    trainer = make_trainer(strategy)
    spec = {name: tf.TensorSpec((1, *x.shape[1:]), x.dtype) for name, x in batch.items()}
    step = lambda batch: trainer.train_step(batch, probing=True)  # noqa: E731
    program, handles = stablehlo(strategy, step, (spec,))
    (tmp_path / "program.mlir").write_bytes(program)
    by_handle = {}
    for name, variable in variables_of(trainer).items():
        for copy in getattr(variable, "values", [variable]):
            by_handle[id(copy.handle)] = name, copy.numpy()
    before = dict(by_handle[id(handle)] for handle in handles)
    np.savez(tmp_path / "batch.npz", **batch)
    np.savez(tmp_path / "before.npz", **before)
    script = "tests.keras_vitbert.extras.ahead_of_time.program_script"
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-m", script, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    found = np.load(tmp_path / "found.npz")

    single = make_trainer(tf.distribute.get_strategy())
    single.dropout.generator = trainer.dropout.generator
    step = tf.function(lambda batch: single.train_step(batch, probing=True), autograph=False)
    logs = step({name: tf.constant(x) for name, x in batch.items()})
    assert logs["gradient_norm"] > CLIP_NORM
    expected = {name: variable.numpy() for name, variable in variables_of(single).items()}
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
    changed = {name for name in before if not np.array_equal(before[name], expected[name])}
    assert changed <= set(found.files) and min(compared.values()) > 0
    assert any(name.startswith("network") for name in changed)
    assert sum(np.count_nonzero(~found[name][0]) for name in masks) == CLEAR
