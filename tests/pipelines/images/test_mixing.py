import collections

import numpy as np
import pytest
import tensorflow as tf

from pipelines.images.image_views import mix


def batch(count, size=16, first=0):
    random = np.random.default_rng(7)
    images = random.random((first + count, size, size, 3), np.float32)[first:]
    labels = np.arange(first, first + count, dtype=np.int32) % 10
    return images, labels, np.arange(first, first + count, dtype=np.int64)


COMPILED = tf.function(mix)


def mixed(*arguments):
    arguments = (*map(tf.constant, arguments[:3]), *arguments[3:])
    return {name: value.numpy() for name, value in COMPILED(*arguments).items()}


def other_of(array):
    return array.reshape(-1, 2, *array.shape[1:])[:, ::-1].reshape(array.shape)


def check_labels(found, labels):
    np.testing.assert_array_equal(found["image_labels"], labels)
    np.testing.assert_array_equal(found["image_mix_labels"], other_of(labels))
    weights = found["image_mix_weights"]
    assert weights.dtype == np.float32 and weights.min() >= 0.5 and weights.max() <= 1
    np.testing.assert_array_equal(weights[::2], weights[1::2])


def test_mixup_weighs_the_two():
    images, labels, numbers = batch(32)
    found = mixed(images, labels, numbers, 3, 0.8, 0.0)
    check_labels(found, labels)
    weights = found["image_mix_weights"].astype(np.float64)[:, None, None, None]
    expected = weights * images + (1 - weights) * other_of(images)
    np.testing.assert_allclose(found["images"], expected, atol=1e-6)
    assert len(np.unique(weights)) == 16


def is_one_box(part):
    sides = part.any(1), part.any(0)
    together = all((np.diff(np.flatnonzero(side)) == 1).all() for side in sides)
    return part.all() or together and np.array_equal(part, np.outer(*sides))


def test_cutmix_swaps_boxes():
    images, labels, numbers = batch(400)
    found = mixed(images, labels, numbers, 3, 0.0, 1.0)
    check_labels(found, labels)
    own = np.isclose(found["images"], images, atol=1e-6).all(-1)
    partners = np.isclose(found["images"], other_of(images), atol=1e-6).all(-1)
    assert (own ^ partners).all()
    np.testing.assert_allclose(found["image_mix_weights"], own.mean((1, 2)), atol=1e-6)
    np.testing.assert_array_equal(own[::2], own[1::2])
    kinds = collections.Counter()
    for kept in own[::2]:
        is_box, others = is_one_box(kept), is_one_box(~kept)
        assert is_box or others  # what is kept, or else what is swapped
        kinds["partner's box" if others else "own box"] += 1
    assert kinds["own box"] > 10 and kinds["partner's box"] > 100
    # Yun et al.: a box of sides sqrt(1 - share) around a uniform centre, cut at the edges.
    random = np.random.default_rng(0)
    share, center = random.beta(1, 1, 20_000), random.random((2, 20_000))
    half = np.sqrt(1 - share) / 2
    area = np.prod(np.clip(center + half, 0, 1) - np.clip(center - half, 0, 1), 0)
    expected = np.maximum(area, 1 - area)
    assert found["image_mix_weights"].mean() == pytest.approx(expected.mean(), abs=0.04)
    assert found["image_mix_weights"].std() == pytest.approx(expected.std(), abs=0.03)


@pytest.mark.parametrize("alpha", [0.2, 4.0])
def test_shares_are_a_beta_distributions(alpha):
    images, labels, numbers = batch(1600, size=1)
    shares = mixed(images, labels, numbers, 0, alpha, 0.0)["image_mix_weights"][::2]
    random = np.random.default_rng(0).beta(alpha, alpha, 100_000)
    expected = np.maximum(random, 1 - random)
    assert shares.mean() == pytest.approx(expected.mean(), abs=4 * expected.std() / 28)
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        below = (shares <= np.quantile(expected, quantile)).mean()
        assert below == pytest.approx(quantile, abs=0.07)  # 4 standard deviations at 0.5


def test_with_two_alphas_each_pair_gets_one():
    images, labels, numbers = batch(400, size=8)
    arguments = images, labels, numbers, 6
    alphas = (0.4, 1.0), (0.4, 0.0), (0.0, 1.0)
    both, first, second = (mixed(*arguments, *each) for each in alphas)
    of_first, of_second = (
        (both["images"] == one["images"]).reshape(200, -1).all(1)
        & (both["image_mix_weights"] == one["image_mix_weights"])[::2]
        for one in (first, second)
    )
    assert (of_first | of_second).all()
    assert abs(of_first.mean() - 0.5) < 0.14 and abs(of_second.mean() - 0.5) < 0.14


def test_a_split_batch_is_mixed_alike():
    alphas = 0.3, 1.0
    whole = mixed(*batch(12), 2, *alphas)
    parts = [mixed(*batch(4, first=first), 2, *alphas) for first in (0, 4, 8)]
    for name, value in whole.items():
        np.testing.assert_array_equal(value, np.concatenate([part[name] for part in parts]))
    other = mixed(*batch(12), 3, *alphas)
    assert not np.array_equal(other["image_mix_weights"], whole["image_mix_weights"])
