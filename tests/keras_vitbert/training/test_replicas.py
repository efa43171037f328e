"""N replicas with one global batch are one replica, with masks, clipping, teachers and dropout."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.configs.optimizers import OPTIONS
from keras_vitbert.merging import get_merge
from keras_vitbert.training.backends import backend
from tests.forked import Forked
from tests.keras_vitbert.training import replicas_script
from tests.keras_vitbert.training.joint_steps import step, values, weights
from tests.keras_vitbert.training.replicas_script import (
    BY_BLOCK,
    CLEAR,
    CLIP_NORM,
    IN_PARTS,
    MODEL,
    PACKED,
)
from tests.marks import slow, thorough

# Optimizer, replicas, steps an execution.
CASES = [thorough("adamw", 4, 1), slow("sgd", 2, 2)]
# One of each kind: inner products, losses before and after the update, all entries. `IN_PARTS` and
# packed texts go with parts and recomputation.
MERGES = [
    thorough(BY_BLOCK),
    slow(IN_PARTS),
    thorough("mask+famo"),
    thorough("graddrop"),
    slow(PACKED),
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """`runs(what, replicas, executed=1)`: the arrays of a run."""
    folder = tmp_path_factory.mktemp("replicas")

    def runs(what, replicas, executed=1):
        path = folder / f"{what},{replicas},{executed}.npz"
        if not path.exists():
            arguments = str(path), what, replicas, executed
            status, errors = Forked(replicas_script.main, *arguments).end(600)
            assert status == 0, errors[-3000:]
        return dict(np.load(path))

    return runs


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


@pytest.mark.parametrize("optimizer, replicas, executed", CASES)
def test_replicas_are_one(runs, optimizer, replicas, executed):
    one, many = runs(optimizer, 1), runs(optimizer, replicas, executed)
    weights, masks = many["weights"], many["masks"]
    assert len(weights) == len(masks) == replicas
    for replica in range(1, replicas):
        np.testing.assert_array_equal(masks[replica], masks[0])
        np.testing.assert_array_equal(weights[replica], weights[0])

    np.testing.assert_array_equal(many["before"][0], one["before"][0])
    assert np.abs(weights[0] - many["before"][0]).max() > 0.01
    np.testing.assert_allclose(weights[0], one["weights"][0], rtol=0, atol=1e-5)
    assert np.count_nonzero(~masks[0]) == sum(CLEAR.values())
    assert np.mean(masks[0] != one["masks"][0]) <= 0.001
    assert np.all(many["gradient_norms"] > CLIP_NORM)
    # Norms, cosine, opposite signs of the last look, which all replicas have alike.
    conflicts = [run["conflict"].reshape(len(run["weights"]), -1, 4) for run in (one, many)]
    for replica in conflicts[1]:
        np.testing.assert_array_equal(replica, conflicts[1][0])
        np.testing.assert_allclose(replica[:, :3], conflicts[0][0, :, :3], rtol=1e-3, atol=1e-4)
    # The key's biases have no gradient but rounding; so much of it may be of either sign.
    noise = MODEL["hidden_dim"] / masks[0].size
    opposite, expected = (run[0, -1, 3] for run in conflicts[::-1])
    assert abs(opposite - expected) <= noise + 0.001 and 0.1 < opposite < 0.9
    norms = one["gradient_norms"][executed - 1 :: executed]  # the last of each execution
    np.testing.assert_allclose(many["gradient_norms"], norms, rtol=1e-4)


@pytest.mark.parametrize("merge", MERGES)
def test_every_kind_of_merge(runs, merge):
    """Weights and state are those of one replica, and the same on both."""
    one, many = runs(merge, 1), runs(merge, 2)
    for name in ("weights", "state"):
        assert len(many[name]) == 2
        np.testing.assert_array_equal(*many[name])
    assert np.abs(many["weights"][0] - many["before"][0]).max() > 0.01
    np.testing.assert_allclose(many["weights"][0], one["weights"][0], rtol=0, atol=1e-5)
    np.testing.assert_allclose(many["state"][0], one["state"][0], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_every_optimizer_is_the_same_on_all(runs):
    replicas = 2
    one, many = runs("sums", 1), runs("sums", replicas)
    assert len(one) == 2 * len(OPTIONS)
    for name, [expected] in one.items():
        assert len(many[name]) == replicas and np.ptp(expected) > 0
        for found in many[name]:
            np.testing.assert_array_equal(found, expected)
