"""Optimisers and their rates against the reference in NumPy."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs.optimizers import KEPT, OPTIONS, PretrainingOptimizer
from keras_vitbert.training.optimizers import (
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    build_optimizer,
    decays,
)
from tests.keras_vitbert.training import reference
from tests.keras_vitbert.training.joint_steps import ADAMW

CONFIG = ADAMW | {"epsilon": 1e-6}


def test_what_decays(network):
    """Kernels and the embeddings of words and segments."""
    names = {True: set(), False: set()}
    for variable in network.trainable_variables:
        names[decays(variable)].add(variable.path.split("/")[-1])
    others = {"bias", "gamma", "beta", "class_token", "position_embedding"}
    assert names == {True: {"kernel", "embeddings"}, False: others}


# --- the optimisers ------------------------------------------------------------------------------


DECAY = CONFIG["weight_decay"]
REFERENCES = {
    "adamw": lambda start, decays: reference.AdamW(start, decays, 0.9, 0.99, 1e-6, DECAY),
    "lamb": lambda start, decays: reference.Lamb(start, decays, 0.9, 0.99, 1e-6, DECAY),
    "lion": lambda start, decays: reference.Lion(start, decays, 0.9, 0.99, None, DECAY),
    "adafactor": lambda start, decays: reference.Adafactor(start, decays, DECAY),
}
SHAPES = (3, 2), (2, 4, 3), (4,), (5,)
NAMES = ["kernel", "embeddings", "bias", "gamma"]  # the first two decay


@pytest.fixture
def gradients():
    """Those of seven steps."""
    rng = np.random.default_rng(1)
    return [[np.float32(rng.normal(size=s)) for s in SHAPES] for _ in range(7)]


def make_variables():
    """Two that decay, two that do not, one of them 0."""
    rng = np.random.default_rng(0)
    start = [np.float32(rng.normal(size=s)) for s in SHAPES]
    start[-1][:] = 0
    return [keras.Variable(w, name=n) for w, n in zip(start, NAMES, strict=True)]


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_optimizers_with_the_schedule(name, gradients, jit_compile):
    """Step by step, and as XLA compiles them."""
    variables = make_variables()
    config = {**CONFIG, "name": name, "warmup_steps": 2, "decay_power": 2.0}
    optimizer = build_optimizer(PretrainingOptimizer(**config), 6, variables)
    apply = optimizer.apply
    if jit_compile:
        apply = tf.function(lambda found: optimizer.apply(found, variables), jit_compile=True)
    expected = REFERENCES[name]([v.numpy() for v in variables], [True, True, False, False])
    for step, found in enumerate(gradients):
        apply([tf.constant(g) for g in found])
        expected.apply(found, reference.learning_rate(step, 0.01, 2, 6, 2.0))
        for variable, weight in zip(variables, expected.weights, strict=True):
            np.testing.assert_allclose(variable.value, weight, rtol=3e-6, atol=3e-8)
    for variable, old in zip(variables, make_variables(), strict=True):
        assert np.abs(variable.numpy() - old.numpy()).max() > 1e-5


@pytest.mark.parametrize("name", OPTIONS)
def test_a_bad_step_is_only_counted(name, gradients):
    """And the averages come nearer to the weights, as in every step."""
    config = {**CONFIG, "name": name, "ema": 0.9, "momentum": 0.9}
    optimizer = build_optimizer(PretrainingOptimizer(**config), 20, variables := make_variables())

    @tf.function
    def step(gradients, good):
        optimizer.apply(gradients, variables, good)

    def state():
        kept = [*variables, *optimizer.variables]
        return [v.numpy() for v in kept if "iteration" not in v.path and "average" not in v.path]

    for found in gradients:
        before = state()
        step([tf.zeros(v.shape) for v in variables], False)  # as the step makes it of NaN
        for new, old in zip(state(), before, strict=True):
            np.testing.assert_array_equal(new, old)
        step([tf.constant(g) for g in found], True)
        moved = [np.any(new != old) for new, old in zip(state(), before, strict=True)]
        assert all(moved[:4]) and sum(moved[4:]) >= 4 * KEPT[name]
    assert optimizer.iterations.numpy() == 2 * len(gradients)


@pytest.mark.parametrize(("warmup", "power"), [(0, 0.5), (10, 2.0)])
def test_schedule(warmup, power):
    schedule = WarmupPolynomialDecay(0.03, warmup, 50, power)
    steps = [0, 1, 5, 9, 10, 11, 30, 49, 50, 51, 10_000]
    expected = [reference.learning_rate(step, 0.03, warmup, 50, power) for step in steps]
    rates = [float(schedule(tf.constant(step, tf.int64))) for step in steps]
    # Near the end `1 - progress` is a small difference, which the root of power 0.5 spreads.
    np.testing.assert_allclose(rates, expected, rtol=2e-6, atol=1e-9)
    assert rates[-3:] == [0, 0, 0]
    with pytest.raises(ValueError, match="warmup_steps 10 .* steps is 10"):
        WarmupPolynomialDecay(0.1, 10, 10)


def test_the_cosine_schedule():
    schedule = WarmupCosineDecay(0.5, 4, 24)
    for step in range(30):
        progress = min(max(step - 4, 0) / 20, 1)
        wanted = 0.5 * (step / 4 if step < 4 else (1 + math.cos(math.pi * progress)) / 2)
        assert float(schedule(step)) == pytest.approx(wanted, abs=1e-7)
