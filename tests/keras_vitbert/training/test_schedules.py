import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.optimizers import WarmupCosineDecay, WarmupPolynomialDecay
from tests.keras_vitbert.training import reference


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
