"""N replicas with one global batch are one replica, with masks, clipping, teachers and dropout."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.training.backends import backend
from tests.forked import Forked
from tests.keras_vitbert.training import replicas_script
from tests.keras_vitbert.training.joint_steps import step, values, weights
from tests.keras_vitbert.training.replicas_script import CLEAR, CLIP_NORM, REPLICAS


def test_two_threads_that_sum_are_one_replica(make_trainer, make_batch, monkeypatch):
    """A step that probes and masks, each thread with half of the batch."""
    batch, given = make_batch(3), {}
    one, *two = (make_trainer(get_merge(merges.Merge(name="mask"))) for _ in range(3))
    for trainer in (one, *two):
        trainer.request_gradient_stats(100)
    logs = step(one, batch, probing=True)
    both = threading.Barrier(2, timeout=60)

    def summed(values):
        given[threading.get_ident()] = values
        both.wait()
        total = tf.nest.map_structure(tf.add, *(given[thread] for thread in sorted(given)))
        both.wait()
        return total

    def half(number):
        share = {name: value[number::2] for name, value in batch.items()}
        return step(two[number], share, probing=True)

    monkeypatch.setattr(backend, "all_reduce", summed)
    with ThreadPoolExecutor(2) as threads:
        for found in threads.map(half, range(2)):
            assert found["gradient_norm"] == pytest.approx(logs["gradient_norm"], rel=1e-5)
    for trainer in two:
        for mask, expected in zip(trainer.merge.mask.masks, one.merge.mask.masks, strict=True):
            np.testing.assert_array_equal(mask, expected)
        for ours, expected in zip(weights(trainer), weights(one), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            trainer.conflict.numbers[:, :3], one.conflict.numbers[:, :3], rtol=1e-5, atol=1e-6
        )
    assert sum(np.count_nonzero(~mask) for mask in values(one.merge.mask.masks)) == 100


@pytest.mark.slow
@pytest.mark.parametrize("merge", ["mask", "mask+pcgrad", "sum"])
def test_replicas_are_one(merge, tmp_path):
    assert_one(merge, tmp_path / "found.npz")


@pytest.mark.thorough
@pytest.mark.parametrize("merge", ["mask+famo", "graddrop"])
def test_replicas_are_one_by_other_merges(merge, tmp_path):
    """Losses before and after the update; all entries of both gradients."""
    assert_one(merge, tmp_path / "found.npz")


def assert_one(merge, path):
    """Weights, masks and state are those of one replica, and the same on both."""
    status, errors = Forked(replicas_script.main, str(path), merge).end(600)
    assert status == 0, errors[-3000:]
    found = dict(np.load(path))
    one, many = (
        {key[2:]: value for key, value in found.items() if key[0] == str(replicas)}
        for replicas in (1, REPLICAS)
    )
    assert one.keys() == many.keys() and ("masks" in one) == merge.startswith("mask")
    for name in many.keys() - {"gradient_norms"}:
        assert len(many[name]) == REPLICAS
        np.testing.assert_array_equal(*many[name])
    np.testing.assert_array_equal(many["before"][0], one["before"][0])
    assert np.abs(many["weights"][0] - many["before"][0]).max() > 0.01
    np.testing.assert_allclose(many["weights"][0], one["weights"][0], rtol=0, atol=1e-5)
    assert np.all(many["gradient_norms"] > CLIP_NORM)
    norms = one["gradient_norms"][REPLICAS - 1 :: REPLICAS]  # the last of each execution
    np.testing.assert_allclose(many["gradient_norms"], norms, rtol=1e-4)
    if merge == "mask":
        assert np.count_nonzero(~many["masks"][0]) == sum(CLEAR.values())
        assert np.mean(many["masks"][0] != one["masks"][0]) <= 0.001
    else:
        np.testing.assert_allclose(many["state"][0], one["state"][0], rtol=1e-4, atol=1e-5)
