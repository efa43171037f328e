"""What dropout draws follows from seed, step, example, pass and layer, and from nothing else."""

import itertools
import types

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from keras_vitbert.training import step_context
from keras_vitbert.training.backends import tensorflow as backend
from keras_vitbert.training.example_dropout import GENERATORS, ExampleDropout, Keys

RATE = 0.25
SHAPE = (7, 5)  # an example's, of 35 entries: no multiple of what Philox makes at once


@pytest.fixture(params=GENERATORS)
def generator(request):
    return request.param


@pytest.fixture(scope="module")
def network():
    inputs = keras.Input(SHAPE)
    first = keras.layers.Dropout(RATE)(inputs)
    second = keras.layers.Dropout(RATE)(inputs)
    return keras.Model(inputs, [first, second])


@pytest.fixture
def kept(network, monkeypatch):
    """`kept(generator, batch=16, ...)`: which units each of two layers keeps, booleans."""

    def kept(generator, batch=16, seed=0, step=0, number=0, replica=0, replicas=1, hosts=1):
        context = types.SimpleNamespace(
            replica_id_in_sync_group=tf.constant(replica, tf.int32),
            num_replicas_in_sync=replicas,
            strategy=None,
        )
        monkeypatch.setattr(tf.distribute, "get_replica_context", lambda: context)
        monkeypatch.setattr(backend, "_hosts", lambda strategy: hosts)
        dropout = ExampleDropout(network, seed, generator)
        ones = np.ones((batch, *SHAPE), np.float32)
        with dropout.keyed(tf.constant(step, tf.int64), number):
            found = [np.asarray(x) for x in network(ones, training=True)]
        for values in found:
            assert set(np.unique(values)) == {0, np.float32(1 / (1 - RATE))}
        return np.stack([values > 0 for values in found], 1)

    return kept


def test_the_same_key_gives_the_same_numbers_whatever_was_drawn_before(network, kept, generator):
    first = kept(generator, seed=1, step=2, number=1)
    states = [variable.numpy() for variable in network.variables]
    network(np.ones((3, *SHAPE)), training=True)  # which counts in its variables
    assert any(np.any(v.numpy() != s) for v, s in zip(network.variables, states, strict=True))
    states = [variable.numpy() for variable in network.variables]
    np.testing.assert_array_equal(kept(generator, seed=1, step=2, number=1), first)
    np.testing.assert_array_equal([v.numpy() for v in network.variables], states)


def test_an_example_has_its_numbers_wherever_it_is(kept, generator):
    """Element n of the batch is with host n modulo H, whose replicas share in order."""
    whole, replicas, hosts = kept(generator), 4, 2
    size, local = 16 // replicas, replicas // hosts
    for replica in range(replicas):
        host, place = divmod(replica, local)
        own = whole[host::hosts][place * size : (place + 1) * size]
        part = kept(generator, size, replica=replica, replicas=replicas, hosts=hosts)
        np.testing.assert_array_equal(part, own)


def test_devices_have_the_same_places_on_jax():
    import jax

    from keras_vitbert.training.backends import jax as jax_backend

    devices, hosts = 8, 4
    strategy = {"processes": hosts, "num_replicas_in_sync": devices, "axis": "devices"}
    with step_context.scope(strategy=types.SimpleNamespace(**strategy)):
        on_each = jax.vmap(lambda _: jax_backend.replica_place()[:2], axis_name="devices")
        places, of_hosts = on_each(np.arange(devices))
    expected = np.divmod(np.arange(devices), devices // hosts)
    np.testing.assert_array_equal((of_hosts, places), expected)


def test_every_part_of_the_key_has_numbers_of_its_own(kept, generator):
    keys = [{}, {"seed": 1}, {"seed": 2**32 - 1}, {"step": 1}, {"step": 2**31}, {"number": 1}]
    masks = [rows for key in keys for rows in np.moveaxis(kept(generator, batch=200, **key), 1, 0)]
    for a, b in itertools.combinations(masks, 2):
        # Independent masks agree in a fraction p^2 + (1 - p)^2 of 7,000 units, 0.625.
        assert np.mean(a == b) == pytest.approx(RATE**2 + (1 - RATE) ** 2, abs=0.03)


def test_entries_examples_and_layers_are_independent(kept, generator):
    rows = kept(generator, batch=2000).reshape(2000, -1)
    counts = np.bincount(rows.sum(1), minlength=rows.shape[1] + 1)
    expected = 2000 * scipy.stats.binom(rows.shape[1], 1 - RATE).pmf(np.arange(len(counts)))
    often = expected > 5
    observed = [*counts[often], counts[~often].sum()]
    wanted = [*expected[often], expected[~often].sum()]
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3
    between_entries = np.corrcoef(rows.T) - np.eye(rows.shape[1])
    assert np.abs(between_entries).max() < 6 / np.sqrt(2000)
    between_examples = np.corrcoef(rows[:200]) - np.eye(200)
    assert np.abs(between_examples).max() < 6 / np.sqrt(rows.shape[1])


def test_a_known_answer_of_philox():
    """That of its authors (Random123, kat_vectors)."""
    keys = Keys((0, 0, 0), "philox16", 0, 1, None, 0, 0, 1)
    [found] = backend._philox(tf.zeros((1, 8)), keys, 0).numpy().astype("<u2").view("<u4").tolist()
    assert found == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.GaussianNoise(0.1, name="noise"),
        keras.layers.Dropout(0.1, noise_shape=(None, 2, 4), name="noise"),
        keras.layers.Dropout(0.1, noise_shape=(1, None, None), name="noise"),
    ],
)
def test_what_cannot_be_keyed_is_refused(layer):
    with pytest.raises(ValueError, match="noise: .* keyed by"):
        ExampleDropout(keras.Sequential([keras.Input((3, 4)), layer]))


def test_one_number_for_all_of_an_axis(generator):
    layer = keras.layers.Dropout(RATE, noise_shape=(None, None, 1))
    model = keras.Sequential([keras.Input((7, 5)), layer])
    dropout, ones = ExampleDropout(model, generator=generator), np.ones((200, 7, 5))
    with dropout.keyed(3):
        found = np.asarray(model(ones, training=True))
    with dropout.keyed(3):  # the first examples of a larger batch
        np.testing.assert_array_equal(model(ones[:9], training=True), found[:9])
    assert [bool(np.any(np.ptp(found, axis))) for axis in range(3)] == [True, True, False]
    assert np.mean(found == 0) == pytest.approx(RATE, abs=0.1)
