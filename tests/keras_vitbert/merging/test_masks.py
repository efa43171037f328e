"""Gradient masks and the plain sum, against NumPy: eq. 8, eq. 9, Algorithm 1 and its options."""

import functools
import itertools
import types

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import GradientMask, Merge, Sum, Unit, get_merge
from keras_vitbert.merging.masks import MaskSchedule, cleared_after
from tests.keras_vitbert.training import reference

RANKS = (*merges.RANKS, "random")
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


def test_equation_8_keeps_what_is_not_finite_on_its_own_side():
    merge = masked()
    merge.mask.masks[1].assign([True, False] * 3 + [True])
    text, image = draw(0), draw(1)
    text[1][1] = np.nan  # where the image's gradient is taken
    image[1][0] = np.inf  # where the text's is
    assert all(np.isfinite(x).all() for x in merge.merge(text, image).gradients)


@pytest.mark.parametrize("ratio", [0.0, 0.2, 1.0])
def test_equation_9(ratio):
    merge = built(Merge(Sum(ratio)))
    text, image = [*draw(0), None, draw(0)[0]], [*draw(1), draw(1)[1], None]
    merged = merge.merge(text, image).gradients
    for value, t, i in zip(merged, text, image, strict=True):
        expected = ratio * (0 if i is None else i) + (1 - ratio) * (0 if t is None else t)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-7)
    assert merge.loss(3.0, 5.0) == pytest.approx(ratio * 5 + (1 - ratio) * 3)


# --- Algorithm 1 ---------------------------------------------------------------------------------


@pytest.mark.parametrize("draw", [draw, draw_with_ties])
@pytest.mark.parametrize("counts", [(3, 0, 5, 7), (SIZE,), (1, SIZE - 1), (0, 0)])
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
    assert cleared(merge) == merge.mask.cleared == sum(counts)


def test_algorithm_1_with_gradients_that_are_not_finite():
    merge = masked()
    gradients = draw(0)
    gradients[0][0, :3] = np.nan, np.inf, -np.inf
    gradients[2][0, 0, 0] = np.nan
    expected = reference.algorithm_1(values(merge), gradients, SIZE - 3)
    by_text(merge, tensors(gradients), tf.constant(SIZE - 3))
    for value, expect in zip(values(merge), expected, strict=True):
        np.testing.assert_array_equal(value, expect)
    assert values(merge)[0][0].tolist() == [True, False, True, False, False]  # NaN, one infinity
    assert values(merge)[2][0, 0, 0]


@pytest.mark.parametrize("rank", RANKS)
def test_gradients_may_lack_a_static_shape(rank):
    """As those of batches whose size is not known beforehand do."""
    merge = masked(rank)
    gradients = [tf.TensorSpec(None)] * len(SHAPES)
    refreshed = tf.function(
        functools.partial(refresh, merge),
        input_signature=[gradients, gradients, tf.TensorSpec((1,), tf.int32)],
    )
    refreshed(tensors(draw(0)), tensors(draw(1)), tf.constant([9]))
    assert cleared(merge) == 9


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
        by_text(merge, tensors(draw(0)), tf.constant(count))
        history.append(np.concatenate([np.ravel(v) for v in values(merge)]))
    return history


def test_random_masks_clear_the_same_number_and_keep_it_cleared():
    first, second, third = after(masked("random", seed=3), 10, 0, 11)
    assert [np.count_nonzero(~x) for x in (first, second, third)] == [10, 10, 21]
    np.testing.assert_array_equal(first, second)
    assert not np.any(third & ~first)


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


def order_of(rank, text, image):
    """The places of entries, the first to be cleared first."""
    mask = GradientMask(rank)
    mask.make_masks([Shared((len(text),), "block_0/kernel")])
    text, image = ([tf.constant(side, tf.float32)] for side in (text, image))
    order = []
    for _ in range(mask.size):
        before = mask.masks[0].numpy()
        mask.masks[0].assign(mask.refreshed(text, image, tf.constant([1]))[0])
        order += np.flatnonzero(before & ~mask.masks[0].numpy()).tolist()
    return order


def test_the_largest_of_the_image_go_first_however_near():
    """Those of 0 last, by their place. Reciprocals would not tell all of them apart."""
    near = np.nextafter(np.float32(2), np.float32(0))
    nearer = np.nextafter(near, np.float32(0))
    assert np.float32(1) / near == np.float32(1) / nearer
    assert 1 / near == 1 / nearer
    image = [0.0, 1e-45, nearer, -near, 1e-40, -0.0]
    assert order_of("image", np.ones(6), image) == [3, 2, 4, 1, 0, 5]


def test_entries_of_other_signs_go_first_however_large_their_ratio():
    """A 0 is of neither sign; ratios are told apart that are far below 1, and what rounds to 1."""
    text = [0.0, 2e-20, 1e-20, 1.0, -2.0, 0.0]
    image = [1.0, 1.0, 1.0, -1e-20, 1.0, 0.0]
    assert order_of("sign", text, image) == [4, 3, 0, 5, 2, 1]


# --- a share of each tensor ---------------------------------------------------------------------


def shares(merge, wanted):
    sizes = np.array(merge.mask.sizes)
    return wanted * sizes / sizes.sum()


@pytest.mark.parametrize("wanted", range(SIZE + 1))
def test_counts_of_tensors_are_their_shares(wanted):
    counts = masked(scope="layerwise").mask.counts(wanted, 1)
    assert counts.dtype == np.int32 and counts.shape == (len(SHAPES),)
    assert counts.sum() == wanted
    assert np.all(abs(counts - shares(masked(), wanted)) <= 1)
    assert np.all((0 <= counts) & (counts <= [np.prod(s) for s in SHAPES]))
    assert masked().mask.counts(wanted, 1).tolist() == [wanted]


@pytest.mark.parametrize("sizes", [(15, 7, 8, 1), (17, 9, 11, 2, 3, 1, 6, 27), (1,) * 9])
@pytest.mark.parametrize("ratio, growth", [(0.5, 0.05), (0.5, 0.1), (1.0, 0.3)])
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
        assert merge.mask.cleared == total.sum() == wanted
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


@pytest.mark.parametrize("scope", ["all", "tensor"])
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
        groups = [places] if scope == "all" else [[place] for place in places]
        for group, count in zip(groups, counts, strict=True):
            parts = ([side[place] for place in group] for side in (ones, text, image))
            expected = cleared_by("ratio", *parts, count)
            for place, expect in zip(group, expected, strict=True):
                np.testing.assert_array_equal(values(merge)[place], expect)
        history.append(flat(values(merge)))
        assert merge.mask.updates.numpy() == update + 1
        assert not np.any(merge.mask.counts(10, update + 1))  # done
    assert all(np.any(b & ~a) for a, b in itertools.pairwise(history))  # some come back


def test_random_masks_without_cumulation_are_other_ones_each_time():
    first, second = after(masked("random", cumulative=False), 10, 10)
    assert np.count_nonzero(~first) == np.count_nonzero(~second) == 10
    assert np.any(first != second)


def test_a_bad_step_draws_nothing():
    merge = masked(cumulative=False)
    by_text(merge, tensors(draw(0)), tf.constant(10))
    before = values(merge)
    merged = merge.merge(tensors(draw(1)), tensors(draw(2)), clear=tf.constant([10]))
    merge.keep(merged.state, tf.constant(False))
    assert_masks(merge, before)
    assert merge.mask.updates.numpy() == 1


def asked(merge, interval, ratio, growth, steps, bad=()):
    """What the schedule asks for, and is done unless a step is bad: dict of step to counts."""
    model = types.SimpleNamespace(step=0, merge=merge, bad_steps=())
    found = {}
    model.request_gradient_stats = lambda clear: found.update({model.step: clear.tolist()})
    schedule = MaskSchedule(interval, ratio, growth)
    schedule.set_model(model)
    for model.step in range(steps):
        schedule.on_train_batch_begin(0)
        model.bad_steps = (model.step,) if model.step in bad else ()
        if model.step in found and not model.bad_steps:
            counts = tf.constant(found[model.step])
            refresh(merge, tensors(draw(model.step)), tensors(draw(50)), counts)
    return found


def test_masks_that_are_drawn_again_are_asked_for_after_a_bad_step():
    """In the next step that is not bad, and only then; other bad steps change nothing."""
    found = asked(masked(cumulative=False), 4, 0.5, 0.2, 18, bad=(4, 5, 9, 16))
    assert found == {4: [6], 5: [6], 6: [6], 8: [12], 12: [16], 16: [16], 17: [16]}
    merge = masked(scope="layerwise", cumulative=False)
    found = asked(merge, 4, 0.5, 0.2, 14, bad=(8,))
    assert list(found) == [4, 8, 9, 12] and found[8] == found[9]
    assert [sum(counts) for counts in found.values()] == [6, 12, 12, 16]
    assert merge.mask.updates.numpy() == 3


# --- softness -----------------------------------------------------------------------------------


@pytest.mark.parametrize("softness", [0.0, 0.1, 0.5])
def test_soft_masks_leave_some_of_the_other_gradient(softness):
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


@pytest.mark.parametrize("made", ["by hand", "by name"])
def test_masks_of_some_blocks_and_equation_9_on_the_others(made):
    """Heads and embeddings, which one loss alone reaches, have their gradient as it is."""
    if made == "by hand":
        merge = Merge(Unit(), GradientMask(), blocks=(1, 3), rest=Sum(0.3))
    else:
        merge = get_merge(merges.Merge(name="mask", blocks="1:3", image_loss_ratio=0.3))
    built(merge)
    assert merge.chosen_paths == ["block_1/kernel", "block_2/kernel"]
    assert [m.shape for m in merge.mask.masks] == SHAPES[1:3] and merge.mask.size == 15

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


def test_get_merge():
    merge = get_merge(merges.Merge(name="sum", image_loss_ratio=0.3))
    assert type(merge.weighting) is Sum and merge.weighting.image_loss_ratio == 0.3
    assert merge.mask is None
    merge = get_merge(merges.Merge(name="random_mask"), seed=5)
    assert type(merge.weighting) is Unit
    assert merge.mask is not None and (merge.mask.rank, merge.mask.seed) == ("random", 5)
    options = {"rank": "sign", "scope": "tensor", "softness": 0.1, "cumulative": False}
    merge = get_merge(merges.Merge(**{f"mask_{key}": x for key, x in options.items()}))
    assert {key: getattr(merge.mask, key) for key in options} == options


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (lambda: Sum(1.5), "image_loss_ratio"),
        (lambda: GradientMask("size"), "rank"),
        (lambda: GradientMask(scope="block"), "scope"),
        (lambda: GradientMask(softness=0.6), "softness"),
        (lambda: MaskSchedule(0), "interval"),
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


@pytest.mark.parametrize("make", [GradientMask, lambda: Merge(Unit(), GradientMask())])
def test_a_merge_owns_its_masks_and_nothing_of_the_encoder(make_network, make):
    merge = make()
    variables = make_network(0).backbone.shared_variables
    if isinstance(merge, Merge):
        merge.make_state(variables)
        masks = merge.mask.masks
    else:
        merge.make_masks(variables)
        masks = merge.masks
    assert {id(v) for v in merge.variables} == {id(v) for v in masks}
