"""Gradient masks and the plain sum, against NumPy: eq. 8, eq. 9, Algorithm 1 and its options."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import GradientMask, Merge, Sum, Unit, get_merge
from keras_vitbert.merging.masks import cleared_after
from tests.keras_vitbert.training import reference

SHAPES = [(3, 5), (7,), (2, 2, 2), (1,)]
SIZE = 31  # odd


class Shared:
    """As much of a Keras variable as a merge looks at."""

    def __init__(self, shape, path):
        self.shape, self.path = tf.TensorShape(shape), path


def built(merge):
    """The merge with its masks, one block for each variable."""
    merge.make_state([Shared(shape, f"block_{i}/kernel") for i, shape in enumerate(SHAPES)])
    return merge


def masked(*arguments, **options):
    """A merge by masks alone; takes what `GradientMask` does."""
    return built(Merge(Unit(), GradientMask(*arguments, **options)))


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


def refresh(merge, text, image, counts):
    merge.keep(merge.mask.next_state(merge.mask.refreshed(text, image, counts), counts))


def by_text(merge, text, count):
    """A refresh of one ranking; the image's gradients are not to matter."""
    refresh(merge, text, tensors(draw(99)), tf.reshape(count, (1,)))


def values(merge):
    return [mask.numpy() for mask in merge.mask.masks]


def cleared(merge):
    return sum(np.count_nonzero(~mask) for mask in values(merge))


# --- equations 8 and 9 ---------------------------------------------------------------------------


def test_equation_8():
    merge = masked()
    text, image, own_text, own_image = draw(0), draw(1), draw(2)[0], draw(3)[1]
    masks = [x > 0 for x in draw(4)]
    for variable, mask in zip(merge.mask.masks, masks, strict=True):
        variable.assign(mask)
    # Variables of one modality lie between the shared ones.
    merged = merge.merge(
        [own_text, *text[:2], None, *text[2:]], [None, *image[:2], own_image, *image[2:]]
    ).gradients
    expected = [m * t + (1.0 - m) * i for m, t, i in zip(masks, text, image, strict=True)]
    np.testing.assert_array_equal(merged.pop(0), own_text)
    np.testing.assert_array_equal(merged.pop(2), own_image)
    for value, expect in zip(merged, expected, strict=True):
        np.testing.assert_array_equal(value, expect)


def test_equation_9():
    ratio = 0.2
    merge = built(Merge(Sum(ratio)))
    text, image = [*draw(0), None, draw(0)[0]], [*draw(1), draw(1)[1], None]
    merged = merge.merge(text, image).gradients
    for value, t, i in zip(merged, text, image, strict=True):
        expected = ratio * (0 if i is None else i) + (1 - ratio) * (0 if t is None else t)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    assert merge.loss(3.0, 5.0) == pytest.approx(ratio * 5 + (1 - ratio) * 3)


# --- Algorithm 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [draw, draw_with_ties])
@pytest.mark.parametrize("counts", [(3, 0, 5, 7), (1, SIZE - 1)])
def test_algorithm_1(draw, counts):
    merge = masked()
    refreshed = tf.function(functools.partial(by_text, merge))
    expected = values(merge)
    for update, count in enumerate(counts):
        gradients = draw(update)
        before = values(merge)
        refreshed(tensors(gradients), tf.constant(count))
        expected = reference.algorithm_1(expected, gradients, count)
        for value, old, expect in zip(values(merge), before, expected, strict=True):
            np.testing.assert_array_equal(value, expect)
            assert not np.any(value & ~old)  # a cleared entry stays cleared
    assert cleared(merge) == sum(merge.mask.cleared) == sum(counts)


def test_gradients_may_lack_a_static_shape():
    """As those of batches whose size is not known beforehand do."""
    merge = masked("sign")
    gradients = [tf.TensorSpec(None)] * len(SHAPES)
    refreshed = tf.function(
        functools.partial(refresh, merge),
        input_signature=[gradients, gradients, tf.TensorSpec((1,), tf.int32)],
    )
    refreshed(tensors(draw(0)), tensors(draw(1)), tf.constant([9]))
    assert cleared(merge) == 9


# --- the random baseline -------------------------------------------------------------------------


def after(merge, *counts):
    """The masks after each refresh."""
    history = []
    for count in counts:
        by_text(merge, tensors(draw(0)), tf.constant(count))
        history.append(np.concatenate([np.ravel(v) for v in values(merge)]))
    return history


def test_random_masks_depend_on_the_seed_and_not_on_the_gradient():
    merges = [masked("random", seed=seed) for seed in (3, 3, 4)]
    one, same, other = (after(merge, 10, 10) for merge in merges)
    np.testing.assert_array_equal(one, same)
    assert np.any(one[0] != other[0])
    by_gradient = reference.algorithm_1([np.ones(s, bool) for s in SHAPES], draw(0), 10)
    assert np.any(one[0] != np.concatenate([np.ravel(m) for m in by_gradient]))


# --- other rankings -----------------------------------------------------------------------------


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])


def ranks(rank, text, image):
    """What is cleared first, as columns of numbers in float64: the lowest, by the last column."""
    t, i = flat(text).astype(np.float64), flat(image).astype(np.float64)
    size = abs(t) + abs(i)
    ratio = np.divide(abs(t), size, out=np.zeros_like(t), where=size > 0)
    differ = np.sign(t) * np.sign(i) < 0
    columns = {"text": [abs(t)], "image": [-abs(i)], "ratio": [ratio], "sign": [ratio, ~differ]}
    return [np.arange(t.size), *columns[rank]]


def cleared_by(rank, masks, text, image, count):
    """The masks after an update, by sorting."""
    kept = flat(masks)
    order = np.lexsort(ranks(rank, text, image))
    kept[[place for place in order if kept[place]][:count]] = False
    return reference.split_like(kept, masks)


def assert_masks(merge, expected):
    for value, expect in zip(values(merge), expected, strict=True):
        np.testing.assert_array_equal(value, expect)


@pytest.mark.parametrize("rank", ["image", "ratio", "sign"])
@pytest.mark.parametrize("draw", [draw, draw_with_ties])
@pytest.mark.parametrize("counts", [(3, 0, 5, 7), (1, SIZE - 1)])
def test_ranks(rank, draw, counts):
    """Many zeros among the ties: of the text, of the image, of both."""
    merge = masked(rank)
    refreshed = tf.function(functools.partial(refresh, merge))
    expected = values(merge)
    for update, count in enumerate(counts):
        text, image = draw(update), draw(50 + update)
        refreshed(tensors(text), tensors(image), tf.constant([count]))
        expected = cleared_by(rank, expected, text, image, count)
        assert_masks(merge, expected)
    assert cleared(merge) == sum(counts)


# --- a share of each tensor ---------------------------------------------------------------------


def shares(merge, wanted):
    sizes = np.array(merge.mask.sizes)
    return wanted * sizes / sizes.sum()


@pytest.mark.parametrize("sizes", [(17, 9, 11, 2, 3, 1, 6, 27), (1,) * 9])
@pytest.mark.parametrize("ratio, growth", [(0.5, 0.05), (1.0, 0.3)])
def test_the_sum_over_tensors_is_exact_at_every_update(sizes, ratio, growth):
    """Also where a tensor's share, rounded, would become less than what is cleared."""
    merge = Merge(Unit(), GradientMask(scope="layerwise"))
    merge.make_state([Shared((size,), f"block_{i}/kernel") for i, size in enumerate(sizes)])
    total = np.zeros(len(sizes), int)
    for update in range(1, 12):
        wanted = cleared_after(update, sum(sizes), ratio, growth)
        counts = merge.mask.counts(wanted, update)
        total += counts
        for variable, size, count in zip(merge.mask.masks, sizes, total, strict=True):
            variable.assign(np.arange(size) >= count)
        assert np.all(counts >= 0) and np.all(total <= sizes)
        assert sum(merge.mask.cleared) == total.sum() == wanted
        # Entries stay cleared, so a rounding of before may add to that of now.
        assert np.all(abs(total - shares(merge, wanted)) < 2)
    assert not np.any(merge.mask.counts(wanted - 1, update))  # nothing is given back


@pytest.mark.parametrize("rank", ["text", "sign"])
def test_each_tensor_is_ranked_by_itself(rank):
    merge = masked(rank, "layerwise")
    refreshed = tf.function(functools.partial(refresh, merge))
    expected = values(merge)
    for update, wanted in enumerate((9, 15)):
        text, image = draw(update), draw_with_ties(50 + update)
        counts = merge.mask.counts(wanted, update + 1)
        refreshed(tensors(text), tensors(image), tf.constant(counts))
        expected = [
            cleared_by(rank, [mask], [t], [i], count)[0]
            for mask, t, i, count in zip(expected, text, image, counts, strict=True)
        ]
        assert_masks(merge, expected)
        assert cleared(merge) == wanted


# --- masks that are drawn again -----------------------------------------------------------------


@pytest.mark.parametrize("scope", ["global", "layerwise"])
def test_without_cumulation_each_update_begins_with_ones(scope):
    merge = masked("ratio", scope, cumulative=False)
    ones = values(merge)
    history = []
    for update in range(3):
        text, image = draw(update), draw(50 + update)
        counts = merge.mask.counts(10, update + 1)
        assert counts.sum() == 10
        refresh(merge, tensors(text), tensors(image), tf.constant(counts))
        places = range(len(SHAPES))
        groups = [places] if scope == "global" else [[place] for place in places]
        for group, count in zip(groups, counts, strict=True):
            parts = ([side[place] for place in group] for side in (ones, text, image))
            expected = cleared_by("ratio", *parts, count)
            for place, expect in zip(group, expected, strict=True):
                np.testing.assert_array_equal(values(merge)[place], expect)
        history.append(flat(values(merge)))
        assert merge.mask.updates.numpy() == update + 1
        assert not np.any(merge.mask.counts(10, update + 1))  # done
    assert all(np.any(b & ~a) for a, b in itertools.pairwise(history))  # some come back


# --- softness -----------------------------------------------------------------------------------


def test_soft_masks_leave_some_of_the_other_gradient():
    softness = 0.1
    merge = masked(softness=softness)
    text, image = draw(0), draw(1)
    masks = [x > 0 for x in draw(4)]
    for variable, mask in zip(merge.mask.masks, masks, strict=True):
        variable.assign(mask)
    merged = merge.merge(text, image).gradients
    for value, mask, t, i in zip(merged, masks, text, image, strict=True):
        share = np.where(mask, 1 - softness, softness)  # of the text
        expected = share * t.astype(np.float64) + (1 - share) * i.astype(np.float64)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)


# --- some blocks --------------------------------------------------------------------------------


def test_masks_of_some_blocks_and_equation_9_on_the_others():
    """Heads and embeddings, which one loss alone reaches, have their gradient as it is."""
    merge = built(get_merge(merges.Merge(name="mask", blocks="1:3", image_loss_ratio=0.3)))
    assert merge.chosen_paths == ["block_1/kernel", "block_2/kernel"]
    assert [m.shape for m in merge.mask.masks] == SHAPES[1:3] and sum(merge.mask.sizes) == 15

    text, image, own_text, own_image = draw(0), draw(1), draw(2)[0], draw(3)[1]
    chosen = [merge.of_chosen(tensors(side)) for side in (text, image)]
    refresh(merge, *chosen, tf.constant([6]))
    masks = cleared_by("text", [np.ones(s, bool) for s in SHAPES[1:3]], text[1:3], image[1:3], 6)
    assert_masks(merge, masks)

    merged = merge.merge(
        [own_text, *text[:2], None, *text[2:]], [None, *image[:2], own_image, *image[2:]]
    ).gradients
    np.testing.assert_array_equal(merged.pop(0), own_text)
    np.testing.assert_array_equal(merged.pop(2), own_image)
    for place, mask in zip((1, 2), masks, strict=True):
        np.testing.assert_array_equal(merged[place], np.where(mask, text[place], image[place]))
    for place in (0, 3):
        expected = 0.3 * image[place].astype(np.float64) + 0.7 * text[place]
        np.testing.assert_allclose(merged[place], expected, rtol=1e-6, atol=1e-7)


# --- by config -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: Sum(1.5), "image_loss_ratio"),
        (lambda: GradientMask("size"), "mask_criterion"),
        (lambda: GradientMask(scope="block"), "scope"),
        (lambda: GradientMask(softness=0.6), "softness"),
        (lambda: built(Merge(Unit(), GradientMask(), blocks=(7, 9))), "blocks"),
    ],
)
def test_wrong_merges_are_refused(make, culprit):
    with pytest.raises(ValueError, match=culprit):
        make()


@pytest.mark.parametrize("name", ["mask", "random_mask"])
def test_masks_have_the_same_names_in_every_process(name):
    """By which checkpoints know them; Keras numbers layers of the same kind."""
    first, second = (built(get_merge(merges.Merge(name=name))) for _ in range(2))
    paths = [f"merge/mask_block_{number}_kernel" for number in range(len(SHAPES))]
    assert [m.path for m in first.mask.masks] == [m.path for m in second.mask.masks] == paths


def test_a_merge_owns_its_masks_and_nothing_of_the_encoder(network):
    merge = Merge(Unit(), GradientMask())
    merge.make_state(network.backbone.shared_variables)
    assert {id(v) for v in merge.variables} == {id(v) for v in merge.mask.masks}
