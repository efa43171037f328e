import functools

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.training.merging import (
    GradientMask,
    GradientSum,
    RandomGradientMask,
    cleared_after,
    get_merge,
)
from tests.keras_vitbert.training import reference

SHAPES = [(3, 5), (7,), (2, 2, 2), (1,)]
SIZE = 31  # odd


class Shared:
    """As much of a Keras variable as `make_masks` looks at."""

    def __init__(self, shape, path):
        self.shape, self.path = tf.TensorShape(shape), path


def built(merge):
    if not merge.masked:
        return merge
    merge.make_masks([Shared(shape, f"block/{i}") for i, shape in enumerate(SHAPES)])
    return merge


def draw(seed):
    """Random gradients of the shared variables."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in SHAPES]


def draw_with_ties(seed):
    """Half exact zeros, the rest from few values of both signs."""
    rng = np.random.default_rng(seed)
    return [(rng.integers(-2, 3, s) * rng.integers(0, 2, s)).astype(np.float32) for s in SHAPES]


def tensors(arrays):
    return [tf.constant(x) for x in arrays]


def refresh(merge, gradients, count):
    merge.keep(merge.refreshed(gradients, count), count > 0)


def values(merge):
    return [mask.numpy() for mask in merge.masks]


def cleared(merge):
    return sum(np.count_nonzero(~mask) for mask in values(merge))


# --- equations 8 and 9 ---------------------------------------------------------------------------


def test_equation_8():
    merge = built(GradientMask())
    text, image, own_text, own_image = draw(0), draw(1), draw(2)[0], draw(3)[1]
    masks = [x > 0 for x in draw(4)]
    for variable, mask in zip(merge.masks, masks, strict=True):
        variable.assign(mask)
    # Variables of one modality lie between the shared ones.
    merged = merge.merge(
        [own_text, *text[:2], None, *text[2:]], [None, *image[:2], own_image, *image[2:]]
    )
    expected = [m * t + (1.0 - m) * i for m, t, i in zip(masks, text, image, strict=True)]
    np.testing.assert_array_equal(merged.pop(0), own_text)
    np.testing.assert_array_equal(merged.pop(2), own_image)
    for value, expect in zip(merged, expected, strict=True):
        np.testing.assert_array_equal(value, expect)


def test_equation_8_keeps_what_is_not_finite_on_its_own_side():
    merge = built(GradientMask())
    merge.masks[1].assign([True, False] * 3 + [True])
    text, image = draw(0), draw(1)
    text[1][1] = np.nan  # where the image's gradient is taken
    image[1][0] = np.inf  # where the text's is
    assert all(np.isfinite(x).all() for x in merge.merge(text, image))


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_equation_9(ratio):
    merge = GradientSum(ratio)
    text, image = [*draw(0), None, draw(0)[0]], [*draw(1), draw(1)[1], None]
    merged = merge.merge(text, image)
    for value, t, i in zip(merged, text, image, strict=True):
        expected = ratio * (0 if i is None else i) + (1 - ratio) * (0 if t is None else t)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    assert merge.loss(3.0, 5.0) == pytest.approx(ratio * 5 + (1 - ratio) * 3)


def test_masked_merges_show_the_sum_of_the_losses():
    assert GradientMask().loss(3.0, 5.0) == 8.0


# --- Algorithm 1 ---------------------------------------------------------------------------------


def test_masks_begin_as_ones_of_the_shared_shapes():
    merge = built(GradientMask())
    assert [m.shape for m in merge.masks] == SHAPES
    assert {m.dtype for m in merge.masks} == {"bool"}
    assert merge.size == SIZE and cleared(merge) == 0
    assert not any(m.trainable for m in merge.masks)


@pytest.mark.parametrize("draw", [draw, draw_with_ties])
@pytest.mark.parametrize("counts", [(3, 0, 5, 7), (SIZE,), (1, SIZE - 1), (0, 0)])
def test_algorithm_1(draw, counts):
    merge = built(GradientMask())
    refreshed = tf.function(functools.partial(refresh, merge))
    expected = values(merge)
    for update, count in enumerate(counts):
        gradients = draw(update)
        before = values(merge)
        refreshed(tensors(gradients), tf.constant(count))
        expected = reference.algorithm_1(expected, gradients, count)
        for value, old, expect in zip(values(merge), before, expected, strict=True):
            np.testing.assert_array_equal(value, expect)
            assert not np.any(value & ~old)  # a cleared entry stays cleared
    assert cleared(merge) == sum(counts)


def test_algorithm_1_with_gradients_that_are_not_finite():
    merge = built(GradientMask())
    gradients = draw(0)
    gradients[0][0, :3] = np.nan, np.inf, -np.inf
    gradients[2][0, 0, 0] = np.nan
    expected = reference.algorithm_1(values(merge), gradients, SIZE - 3)
    refresh(merge, tensors(gradients), tf.constant(SIZE - 3))
    for value, expect in zip(values(merge), expected, strict=True):
        np.testing.assert_array_equal(value, expect)
    assert values(merge)[0][0].tolist() == [True, False, True, False, False]  # NaN, one infinity
    assert values(merge)[2][0, 0, 0]


@pytest.mark.parametrize("merge", [GradientMask, RandomGradientMask])
def test_gradients_may_lack_a_static_shape(merge):
    """As those of batches whose size is not known beforehand do."""
    merge = built(merge())
    refreshed = tf.function(
        functools.partial(refresh, merge),
        input_signature=[[tf.TensorSpec(None)] * len(SHAPES), tf.TensorSpec((), tf.int32)],
    )
    refreshed(tensors(draw(0)), tf.constant(9))
    assert cleared(merge) == 9


def test_one_threshold_over_all_tensors():
    merge = built(GradientMask())
    sizes = (4, -1, 3, 2)
    gradients = [np.full(s, x, np.float32) for s, x in zip(SHAPES, sizes, strict=True)]
    refresh(merge, tensors(gradients), tf.constant(8))
    assert [np.count_nonzero(~m) for m in values(merge)] == [0, 7, 0, 1]


@pytest.mark.parametrize("size", [1, 2, 7, 1001, 85_056_001])
@pytest.mark.parametrize("ratio, growth, updates", [(0.5, 0.1, 5), (0.5, 0.2, 3), (1.0, 0.3, 4)])
def test_the_schedule_ends_at_the_ratio_exactly(size, ratio, growth, updates):
    totals = [cleared_after(n, size, ratio, growth) for n in range(updates + 4)]
    assert totals[0] == 0
    assert set(totals[updates:]) == {round(ratio * size)}
    for n, total in enumerate(totals):
        assert abs(total - min(n * growth, ratio) * size) <= 0.5
        assert isinstance(total, int)
    assert totals == sorted(totals)


# --- the random baseline -------------------------------------------------------------------------


def after(merge, *counts):
    """The masks after each refresh."""
    history = []
    for count in counts:
        refresh(merge, tensors(draw(0)), tf.constant(count))
        history.append(np.concatenate([np.ravel(v) for v in values(merge)]))
    return history


def test_random_masks_clear_the_same_number_and_keep_it_cleared():
    first, second, third = after(built(RandomGradientMask(3)), 10, 0, 11)
    assert [np.count_nonzero(~x) for x in (first, second, third)] == [10, 10, 21]
    np.testing.assert_array_equal(first, second)
    assert not np.any(third & ~first)


def test_random_masks_depend_on_the_seed_and_not_on_the_gradient():
    merges = [built(RandomGradientMask(seed)) for seed in (3, 3, 4)]
    one, same, other = (after(merge, 10, 10) for merge in merges)
    np.testing.assert_array_equal(one, same)
    assert np.any(one[0] != other[0])
    by_gradient = reference.algorithm_1([np.ones(s, bool) for s in SHAPES], draw(0), 10)
    assert np.any(one[0] != np.concatenate([np.ravel(m) for m in by_gradient]))


def test_random_masks_are_drawn_anew_each_refresh_and_tensor():
    merge = built(RandomGradientMask(0))
    numbers = merge.importance(draw(0))
    assert np.all(numbers[0].numpy().ravel()[:7] != numbers[1].numpy())
    refresh(merge, tensors(draw(0)), tf.constant(0))
    np.testing.assert_array_equal(merge.importance(draw(0))[0], numbers[0])
    refresh(merge, tensors(draw(0)), tf.constant(1))
    assert np.all(merge.importance(draw(0))[0] != numbers[0].numpy())


@pytest.mark.parametrize("seed", [32_768, 20_250_101, 2**32 - 1])
def test_random_masks_take_any_seed_that_keras_takes(seed):
    (masks,) = after(built(RandomGradientMask(seed)), 10)
    assert np.count_nonzero(~masks) == 10


# --- by config -----------------------------------------------------------------------------------


def test_get_merge():
    config = {"name": "sum", "image_loss_ratio": 0.3}
    merge = get_merge(config)
    assert type(merge) is GradientSum and merge.image_loss_ratio == 0.3 and not merge.masked
    merge = get_merge({**config, "name": "mask"})
    assert type(merge) is GradientMask and merge.masked
    merge = get_merge({**config, "name": "random_mask"}, seed=5)
    assert type(merge) is RandomGradientMask and merge.seed == 5 and merge.masked


def test_wrong_merges_are_refused():
    with pytest.raises(ValueError, match="'product'.*sum, mask, random_mask"):
        get_merge({"name": "product"})
    with pytest.raises(ValueError, match="image_loss_ratio 1.5"):
        GradientSum(1.5)


def test_a_merge_owns_its_masks_and_nothing_of_the_encoder(make_network):
    merge = GradientMask()
    merge.make_masks(make_network(0).backbone.shared_variables)
    assert {id(v) for v in merge.variables} == {id(v) for v in merge.masks}
