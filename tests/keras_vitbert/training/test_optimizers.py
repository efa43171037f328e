"""Optimisers and their rates against the reference in NumPy."""

import itertools
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
from tests.keras_vitbert.training.graphs import GIVEN, waited_for

CONFIG = {
    "name": "adamw",
    "ema": 0.0,
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "decay_power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-6,
    "weight_decay": 0.1,
}


# --- weight decay --------------------------------------------------------------------------------

BLOCK = [
    *(f"self_attention_layer/{n}/kernel" for n in ("query", "key", "value", "attention_output")),
    *("feedforward_intermediate_dense/kernel", "feedforward_output_dense/kernel"),
]
DECAYED = {
    "image_embedding/patch_projection/kernel",
    "text_embedding/word_embedding/embeddings",
    "text_embedding/segment_embedding/embeddings",
    *(f"block_{index}/{name}" for index in range(2) for name in BLOCK),
    *(
        f"{n}_head/{layer}/kernel"
        for n in ("image", "mlm", "nsp")
        for layer in ("hidden", "logits")
    ),
}


def test_what_decays(network):
    assert {v.path for v in network.trainable_variables if decays(v)} == DECAYED


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
def test_optimizers_with_the_schedule(name, gradients):
    variables = make_variables()
    config = {**CONFIG, "name": name, "warmup_steps": 2, "decay_power": 2.0}
    optimizer = build_optimizer(PretrainingOptimizer(**config), 6, variables)
    expected = REFERENCES[name]([v.numpy() for v in variables], [True, True, False, False])
    for step, found in enumerate(gradients):
        optimizer.apply([tf.constant(g) for g in found], variables)
        expected.apply(found, reference.learning_rate(step, 0.01, 2, 6, 2.0))
        for variable, weight in zip(variables, expected.weights, strict=True):
            np.testing.assert_allclose(variable.value, weight, rtol=2e-6, atol=2e-8)
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


@pytest.mark.parametrize("name", ["adamw", "lamb"])
def test_updates_are_in_turn(make_network, name):
    """Else each tensor of an update would be in memory for all weights at a time."""
    variables = make_network().trainable_variables[:12]
    config = {**CONFIG, **OPTIONS[name], "name": name}
    optimizer = build_optimizer(PretrainingOptimizer(**config), 100, variables)

    @tf.function
    def step(total):
        gradients = [tf.fill(v.shape, total) for v in variables]
        optimizer.apply(gradients, variables, total < 1e9, in_turn=True)

    graph = step.get_concrete_function(tf.constant(1.0)).graph
    inside = {id(handle): tensor for handle, tensor in graph.captures}
    last = [inside[id(v.value.handle)].consumers()[-1] for v in variables]
    for before, after in itertools.pairwise(last):
        for operation in waited_for(after) - waited_for(before):
            is_given = operation.type in GIVEN or operation.type == "Fill"  # gradients
            if not is_given and any(t.shape.num_elements() > 4 for t in operation.outputs):
                assert before in waited_for(operation)


@pytest.mark.parametrize("power", [0.5, 2.0])
@pytest.mark.parametrize("warmup", [0, 10])
def test_schedule(warmup, power):
    schedule = WarmupPolynomialDecay(0.03, warmup, 50, power)
    steps = [0, 1, 5, 9, 10, 11, 30, 49, 50, 51, 10_000]
    expected = [reference.learning_rate(step, 0.03, warmup, 50, power) for step in steps]
    rates = [float(schedule(step)) for step in steps]
    # Near the end `1 - progress` is a small difference, which the root of power 0.5 spreads.
    np.testing.assert_allclose(rates, expected, rtol=2e-6, atol=1e-9)
    assert float(schedule(tf.constant(warmup, tf.int64))) == pytest.approx(0.03)
    assert rates[-3:] == [0, 0, 0]


@pytest.mark.parametrize("warmup, steps", [(10, 10), (-1, 10)])
def test_schedule_that_never_decays_is_refused(warmup, steps):
    with pytest.raises(ValueError, match=f"warmup_steps {warmup} .* steps is {steps}"):
        WarmupPolynomialDecay(0.1, warmup, steps)


def test_the_cosine_schedule():
    schedule = WarmupCosineDecay(0.5, 4, 24)
    for step in range(30):
        progress = min(max(step - 4, 0) / 20, 1)
        wanted = 0.5 * (step / 4 if step < 4 else (1 + math.cos(math.pi * progress)) / 2)
        assert float(schedule(step)) == pytest.approx(wanted, abs=1e-7)
    assert WarmupCosineDecay(**schedule.get_config()).get_config() == schedule.get_config()
