import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.merging.entries import Parts
from keras_vitbert.training.optimizers import (
    SGD,
    AdamW,
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    build_optimizer,
    decays,
)
from tests.keras_vitbert.training import reference

CONFIG = {
    "learning_rate": 0.01,
    "warmup_steps": 0,
    "power": 1.0,
    "beta_1": 0.9,
    "beta_2": 0.99,
    "epsilon": 1e-6,
    "weight_decay": 0.1,
}


# --- the learning rate ---------------------------------------------------------------------------


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("warmup", [0, 1, 10])
def test_schedule(warmup, power):
    schedule = WarmupPolynomialDecay(0.03, warmup, 50, power)
    steps = [0, 1, 5, 9, 10, 11, 30, 49, 50, 51, 10_000]
    expected = [reference.learning_rate(step, 0.03, warmup, 50, power) for step in steps]
    rates = [float(schedule(step)) for step in steps]
    # Near the end `1 - progress` is a small difference, which the root of power 0.5 spreads.
    np.testing.assert_allclose(rates, expected, rtol=2e-6, atol=1e-9)
    assert float(schedule(tf.constant(warmup, tf.int64))) == pytest.approx(0.03)
    assert rates[-3:] == [0, 0, 0]


@pytest.mark.parametrize("warmup, steps", [(10, 10), (11, 10), (-1, 10), (0, 0)])
def test_schedule_that_never_decays_is_refused(warmup, steps):
    with pytest.raises(ValueError, match=f"warmup_steps {warmup} .* steps is {steps}"):
        WarmupPolynomialDecay(0.1, warmup, steps)


def test_schedule_round_trip():
    schedule = WarmupPolynomialDecay(0.03, 4, 50, 2.0)
    config = json.loads(json.dumps(keras.optimizers.schedules.serialize(schedule)))
    other = keras.optimizers.schedules.deserialize(config)
    assert isinstance(other, WarmupPolynomialDecay)
    assert [float(other(step)) for step in (2, 20)] == [float(schedule(step)) for step in (2, 20)]
    assert other.get_config() == {"peak": 0.03, "warmup_steps": 4, "steps": 50, "power": 2.0}


def test_the_cosine_schedule():
    schedule = WarmupCosineDecay(0.5, 4, 24)
    for step in range(30):
        progress = min(max(step - 4, 0) / 20, 1)
        wanted = 0.5 * (step / 4 if step < 4 else (1 + math.cos(math.pi * progress)) / 2)
        assert float(schedule(step)) == pytest.approx(wanted, abs=1e-7)
    assert WarmupCosineDecay(**schedule.get_config()).get_config() == schedule.get_config()


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


def test_a_step_without_gradient_moves_what_decays_and_nothing_else(make_network):
    network = make_network()
    variables = network.trainable_variables
    before = [np.asarray(v.value) for v in variables]
    optimizer = build_optimizer(CONFIG, 10, variables)
    optimizer.apply([tf.zeros(v.shape) for v in variables], variables)
    for variable, old in zip(variables, before, strict=True):
        factor = 1 - 0.01 * 0.1 if variable.path in DECAYED else 1
        np.testing.assert_allclose(variable.value, old * factor, rtol=3e-7, err_msg=variable.path)
        assert np.any(variable.value != old) == (variable.path in DECAYED)


# --- the optimisers ------------------------------------------------------------------------------


def test_build_optimizer_is_adamw_with_the_schedule():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=s).astype(np.float32) for s in ((3, 2), (4,))]
    variables = [keras.Variable(w, name=n) for w, n in zip(start, ("kernel", "bias"), strict=True)]
    optimizer = build_optimizer({**CONFIG, "warmup_steps": 2, "power": 2.0}, 6, variables)
    expected = reference.AdamW(start, [True, False], 0.9, 0.99, 1e-6, 0.1)
    for step in range(7):
        gradients = [rng.normal(size=w.shape).astype(np.float32) for w in start]
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        expected.apply(gradients, reference.learning_rate(step, 0.01, 2, 6, 2.0))
        for variable, weight in zip(variables, expected.weights, strict=True):
            np.testing.assert_allclose(variable.value, weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("softness", [0.0, 0.1])
def test_split_moments_are_those_of_two_optimizers(softness):
    """The mask changes in each step, and picks from what both would do."""
    rng = np.random.default_rng(0)
    shapes = (3, 2), (4,)
    start = [rng.normal(size=s).astype(np.float32) for s in shapes]
    variables = [keras.Variable(w, name=n) for w, n in zip(start, ("kernel", "bias"), strict=True)]
    optimizer = build_optimizer(CONFIG, 10, variables)
    optimizer.split_moments(variables[:1], softness)  # the bias has one gradient, as ever
    names = [variable.path.split("/")[-1] for variable in optimizer.variables]
    assert len(set(names)) == len(names) and sum("image" in name for name in names) == 2
    zeros = [np.zeros(s) for s in shapes]
    text, image = (reference.AdamW(zeros, [False, False], 0.9, 0.99, 1e-6, 0) for _ in range(2))
    expected = [np.float64(w) for w in start]
    for step in range(6):
        gradients = [[np.float32(rng.normal(size=s)) for s in shapes] for _ in range(2)]
        mask = rng.random(shapes[0]) < 0.5
        parts = Parts(*(tf.constant(x) for x in (gradients[0][0], gradients[1][0], mask)))
        optimizer.apply([parts, tf.constant(gradients[0][1])], variables)
        rate = reference.learning_rate(step, 0.01, 0, 10, 1.0)
        updates = []
        for part, found in zip((text, image), gradients, strict=True):
            before = part.weights
            part.weights = list(before)
            part.apply(found, rate)
            updates.append([new - old for new, old in zip(part.weights, before, strict=True)])
        share = np.where(mask, 1 - softness, softness)
        expected[0] = expected[0] * (1 - rate * 0.1)
        expected[0] = expected[0] + share * updates[0][0] + (1 - share) * updates[1][0]
        expected[1] = expected[1] + updates[0][1]
        for variable, weight in zip(variables, expected, strict=True):
            np.testing.assert_allclose(variable.value, weight, rtol=1e-6, atol=1e-7)


def test_gradient_descent_has_no_moments_to_split():
    with pytest.raises(ValueError, match="SGD has no moments of two gradients; use AdamW"):
        SGD(0.1).split_moments([])


def test_what_depends_on_the_step_alone_is_computed_once():
    """Not for each variable: neither the learning rate nor the correction of the moments."""

    def powers(count):
        variables = [keras.Variable(tf.ones(2), name="kernel") for _ in range(count)]
        optimizer = build_optimizer(CONFIG, 10, variables)
        step = tf.function(lambda gradients: optimizer.apply(gradients, variables))
        graph = step.get_concrete_function([tf.ones(2)] * count).graph
        return sum(operation.type == "Pow" for operation in graph.get_operations())

    assert powers(5) == powers(1) > 0


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad is not supported"):
        AdamW(0.1, amsgrad=True)


@pytest.mark.parametrize(
    "optimizer",
    [
        AdamW(WarmupPolynomialDecay(0.03, 4, 50), weight_decay=0.2, beta_2=0.98, epsilon=1e-5),
        SGD(0.2, momentum=0.9),
    ],
)
def test_optimizer_round_trip(optimizer):
    other = type(optimizer).from_config(optimizer.get_config())
    assert other.get_config() == optimizer.get_config()
    config = json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    assert type(keras.optimizers.deserialize(config)) is type(optimizer)


@pytest.mark.parametrize("make", [lambda: AdamW(0.1), lambda: SGD(0.1)])
def test_gradients_are_not_summed_again(make):
    """Inside a replica Keras' own optimisers would ask for the other replicas' gradients."""
    optimizer = make()
    gradients = [(tf.constant(1.0), "variable")]
    assert optimizer._all_reduce_sum_gradients(gradients) is gradients
