"""What dropout draws follows from seed, step, replica and place, and from nothing else."""

import itertools

import keras
import numpy as np
import pytest

from keras_vitbert.training.stateless_dropout import StatelessDropout

RATE = 0.25
ONES = np.ones((40, 50), np.float32)


@pytest.fixture(scope="module")
def network():
    inputs = keras.Input((50,))
    first = keras.layers.Dropout(RATE)(inputs)
    second = keras.layers.Dropout(RATE)(inputs)
    return keras.Model(inputs, [first, second])


@pytest.fixture(scope="module")
def kept(network):
    """`kept(seed, step, replica, place)`: which units each of two layers keeps, booleans."""

    def kept(seed=0, step=0, replica=0, place=0):
        with StatelessDropout(network, seed).keyed(step, replica, place):
            return [np.asarray(x) > 0 for x in network(ONES, training=True)]

    return kept


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before(network, kept):
    first = kept(1, 2, 3, 1)
    states = [variable.numpy() for variable in network.variables]
    network(ONES, training=True)
    assert any(np.any(v.numpy() != s) for v, s in zip(network.variables, states, strict=True))
    np.testing.assert_array_equal(kept(1, 2, 3, 1), first)


def test_drawing_by_key_changes_no_variable(network, kept):
    states = [variable.numpy() for variable in network.variables]
    kept(5, 6, 7)
    np.testing.assert_array_equal([variable.numpy() for variable in network.variables], states)


def test_every_part_of_the_key_and_every_layer_has_numbers_of_its_own(kept):
    keys = [
        (0, 0, 0, 0),
        (1, 0, 0, 0),
        (0, 1, 0, 0),
        (0, 0, 1, 0),
        (0, 0, 0, 1),
        (2**32 - 1, 0, 0, 0),
    ]
    masks = [mask for key in keys for mask in kept(*key)]
    for a, b in itertools.combinations(masks, 2):
        # Independent masks agree in a fraction p^2 + (1 - p)^2 of 2,000 units, 0.625.
        assert np.mean(a == b) == pytest.approx(RATE**2 + (1 - RATE) ** 2, abs=0.05)
    assert np.mean(masks) == pytest.approx(1 - RATE, abs=0.02)


def test_a_network_without_random_layers():
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with StatelessDropout(network).keyed(0, 0, 0):
        assert network(np.ones((1, 3))).shape == (1, 2)
