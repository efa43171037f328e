"""Gradient masks against NumPy: eq. 8, Algorithm 1 and its options."""

import functools
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import GradientMask, Unit, get_merge
from keras_vitbert.merging.masks import cleared_after
from tests.keras_vitbert.merging.pairs import BLOCKS, SHARED, SIZE, SIZES, built, draw, flat, split


def masked(*arguments, **options):
    """A merge by masks alone; takes what `GradientMask` does."""
    return built(Unit(), GradientMask(*arguments, **options))


def refresh(merge, text, image, counts):
    merge.keep(merge.mask.next_state(merge.mask.refreshed(text, image, counts), counts))


def mask_of(merge):
    return np.concatenate([np.ravel(mask) for mask in merge.mask.masks])


# --- equations 8 and 9 ---------------------------------------------------------------------------


@pytest.mark.parametrize("softness", [0.0, 0.1])
def test_equation_8(softness):
    """And soft masks, which leave some of the other gradient."""
    merge, mask = masked(softness=softness), draw(4)[0]
    for variable, part in zip(merge.mask.masks, split(mask), strict=True):
        variable.assign(part > 0)
    gradients, own = draw(0), tf.ones(3)
    text, image = map(split, gradients)
    # Variables of one modality lie between the shared ones.
    merged = merge.merge([own, *text[:2], None, *text[2:]], [None, *image[:2], own, *image[2:]])
    first, *merged = merged.gradients
    np.testing.assert_array_equal([first, merged.pop(2)], [own, own])
    share = np.where(mask > 0, 1 - softness, softness)  # of the text
    expected = share * gradients[0] + (1 - share) * gradients[1]
    rtol = 1e-6 if softness else 0
    np.testing.assert_allclose(flat(merged), expected, rtol=rtol, atol=rtol)


def test_masks_of_some_blocks_and_equation_9_on_the_others():
    merge = get_merge(merges.Merge(name="mask", blocks="1:3", image_loss_ratio=0.3))
    merge.make_state(SHARED)
    inside, gradients = np.isin(BLOCKS, ["block_1", "block_2"]), draw(0)
    chosen = [merge.of_chosen(split(side)) for side in gradients]
    refresh(merge, *chosen, tf.constant([6]))
    mask = cleared_by("text", np.ones(inside.sum(), bool), *gradients[:, inside], 6)
    np.testing.assert_array_equal(mask_of(merge), mask)
    expected = [0.7, 0.3] @ gradients.astype(np.float64)
    expected[inside] = np.where(mask, *gradients[:, inside])
    merged = merge.merge(*map(split, gradients)).gradients
    np.testing.assert_allclose(flat(merged), expected, rtol=1e-6, atol=1e-7)
    with pytest.raises(ValueError, match="blocks"):
        built(Unit(), GradientMask(), blocks=(7, 9))


# --- Algorithm 1 ---------------------------------------------------------------------------------


def with_ties(seed):
    """Half exact zeros, the rest from few values of both signs."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-2, 3, (2, SIZE)) * rng.integers(0, 2, (2, SIZE))).astype(np.float32)


def cleared_by(rank, mask, text, image, count):
    """A mask after an update, by sorting: the lowest are cleared, the first of equal ones."""
    t, i = np.float64(text), np.float64(image)
    size = abs(t) + abs(i)
    ratio = np.divide(abs(t), size, out=np.zeros_like(t), where=size > 0)
    differ = np.sign(t) * np.sign(i) < 0
    columns = {"text": [abs(t)], "image": [-abs(i)], "ratio": [ratio], "sign": [ratio, ~differ]}
    order = np.lexsort([np.arange(t.size), *columns[rank]])  # by the last column
    kept = mask.copy()
    kept[order[mask[order]][:count]] = False
    return kept


@pytest.mark.parametrize(
    ("rank", "scope", "cumulative"),
    [
        *((rank, "global", True) for rank in merges.RANKS),
        ("sign", "layerwise", True),
        ("text", "global", False),
        ("ratio", "layerwise", False),
    ],
)
def test_algorithm_1(rank, scope, cumulative):
    """Of gradients without a static shape, as of batches whose size is not known beforehand."""
    merge = masked(rank, scope, cumulative)
    unknown = [tf.TensorSpec(None)] * len(SHARED)
    signature = [unknown, unknown, tf.TensorSpec([None], tf.int32)]
    refreshed = tf.function(functools.partial(refresh, merge), input_signature=signature)
    every = np.arange(SIZE)
    groups = [every] if scope == "global" else np.split(every, np.cumsum(SIZES)[:-1])
    expected = np.ones(SIZE, bool)
    for update, wanted in enumerate((3, 3, 8, 20, SIZE - 1), 1):
        gradients = (draw if update % 2 else with_ties)(update)
        counts = merge.mask.counts(wanted, update)
        refreshed(*map(split, gradients), counts)
        before = expected if cumulative else np.ones(SIZE, bool)
        for group, count in zip(groups, counts, strict=True):
            expected[group] = cleared_by(rank, before[group], *gradients[:, group], count)
        np.testing.assert_array_equal(mask_of(merge), expected)
        assert sum(merge.mask.cleared) == wanted
        assert not np.any(merge.mask.counts(wanted, update))  # done


def test_random_masks_depend_on_the_seed_and_not_on_the_gradient():
    found = []
    for seed, gradients in ((3, draw(0)), (3, draw(1)), (4, draw(0))):
        merge = masked("random", seed=seed)
        refresh(merge, *map(split, gradients), tf.constant([20]))
        found.append(mask_of(merge))
    np.testing.assert_array_equal(found[0], found[1])
    assert np.any(found[0] != found[2])
    assert np.count_nonzero(found[0]) == SIZE - 20


@pytest.mark.parametrize("sizes", [(17, 9, 11, 2, 3, 1, 6, 27), (1,) * 9])
@pytest.mark.parametrize("ratio, growth", [(0.5, 0.05), (1.0, 0.3)])
def test_the_sum_over_tensors_is_exact_at_every_update(sizes, ratio, growth):
    """Also where a tensor's share, rounded, would become less than what is cleared."""
    mask = GradientMask(scope="layerwise")
    mask.make_masks([types.SimpleNamespace(path=f"{size}", shape=(size,)) for size in sizes])
    total = np.zeros(len(sizes), int)
    for update in range(1, 12):
        wanted = cleared_after(update, sum(sizes), ratio, growth)
        counts = mask.counts(wanted, update)
        total += counts
        for variable, size, count in zip(mask.masks, sizes, total, strict=True):
            variable.assign(np.arange(size) >= count)
        assert np.all(counts >= 0) and np.all(total <= sizes)
        assert sum(mask.cleared) == total.sum() == wanted
        # Entries stay cleared, so a rounding of before may add to that of now.
        assert np.all(abs(total - wanted * np.array(sizes) / sum(sizes)) < 2)
    assert not np.any(mask.counts(wanted - 1, update))  # nothing is given back


def test_a_merge_owns_its_masks_alone_by_names_that_every_process_gives(network):
    """By which checkpoints know them; Keras numbers layers of the same kind."""
    shared = network.backbone.shared_variables
    names = [f"merge/mask_{variable.path.replace('/', '_')}" for variable in shared]
    for _ in range(2):
        merge = get_merge(merges.Merge(name="mask"))
        merge.make_state(shared)
        assert [variable.path for variable in merge.variables] == names
