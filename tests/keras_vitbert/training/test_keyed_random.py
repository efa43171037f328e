"""Random numbers that are keyed by the example."""

import numpy as np
import scipy.stats
import tensorflow as tf

from keras_vitbert.training.image_layers import KeyedDraws, example_keys


def keys_of(count, seed=5):
    numbers = np.stack([np.arange(count), np.zeros(count)], -1).astype(np.int32)
    return example_keys(seed, tf.constant(numbers))


def test_the_distributions():
    draws = KeyedDraws()
    with draws.scope(keys_of(400)):
        units = np.ravel(draws.uniform((400, 5, 2)))
        shifted = np.ravel(draws.uniform((400, 5), -1, 3.0))
        whole = np.ravel(draws.uniform((400, 9), 2, 5, dtype=tf.int32))
    assert units.min() >= 0 and units.max() < 1
    for found, wanted in (
        (units, scipy.stats.uniform()),
        (shifted, scipy.stats.uniform(-1, 4)),
    ):
        assert scipy.stats.kstest(found, wanted.cdf).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(whole, minlength=5)[2:]).pvalue > 1e-3


def test_draws_do_not_depend_on_one_another():
    """Those of examples, of places, of layers and of seeds."""
    draws, found = KeyedDraws(), []
    for seed in (0, 1):
        for layer in (0, 1):
            with draws.scope(keys_of(30, seed), layer):
                found += [draws.uniform((30, 40)), draws.uniform((30, 40))]
    rows = np.concatenate([np.asarray(each) for each in found])
    assert len(np.unique(rows[:, 0])) == len(rows)
    correlations = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(correlations).max() < 6 / np.sqrt(40)


def test_one_example_draws_what_it_draws_in_a_batch():
    draws, keys = KeyedDraws(), keys_of(3)
    with draws.scope(keys):
        together = draws.uniform((3, 7))
    for key, row in zip(keys, together, strict=True):
        with draws.scope(key):
            np.testing.assert_array_equal(draws.uniform((7,)), row)
