import itertools

import numpy as np
import pytest

from keras_vitbert import merging
from tests.keras_vitbert.merging import reference_merges
from tests.keras_vitbert.merging.pairs import (
    BLOCKS,
    EPS,
    SHARED,
    SIZE,
    built,
    compiled,
    draw,
    flat,
    pair,
    split,
)


def first_of_gradvac(gradients):
    return reference_merges.gradvac(gradients, np.zeros((2, 2)), 0.01)[0]


METHODS = {
    "pcgrad": (merging.PCGrad, {}, reference_merges.pcgrad),
    "upgrad": (merging.UPGrad, {}, reference_merges.upgrad),
    "dualproj": (merging.DualProj, {}, reference_merges.dualproj),
    "gradvac": (merging.GradVac, {}, first_of_gradvac),
    "mgda": (merging.MGDA, {}, reference_merges.mgda),
    "sdmgrad": (merging.SDMGrad, {"strength": 0.3}, reference_merges.sdmgrad),
    "sdmgrad-5": (merging.SDMGrad, {"strength": 5.0}, reference_merges.sdmgrad),
    "cagrad": (merging.CAGrad, {"radius": 0.5}, reference_merges.cagrad),
    "cagrad-0.9": (merging.CAGrad, {"radius": 0.9}, reference_merges.cagrad),
    "nash": (merging.Nash, {}, reference_merges.nash),
    "fairgrad": (merging.FairGrad, {"alpha": 2.0}, reference_merges.fairgrad),
    "fairgrad-0.3": (merging.FairGrad, {"alpha": 0.3}, reference_merges.fairgrad),
    "fairgrad-10": (merging.FairGrad, {"alpha": 10.0}, reference_merges.fairgrad),
    "imtl_g": (merging.IMTLG, {}, reference_merges.imtl_g),
    "conflict_free": (merging.ConFIG, {}, reference_merges.config),
    "ntkmtl": (merging.NTKMTL, {"exponent": 0.5}, reference_merges.ntkmtl),
    "ntkmtl-0.75": (merging.NTKMTL, {"exponent": 0.75}, reference_merges.ntkmtl),
    "aligned": (merging.Aligned, {}, reference_merges.aligned),
}
each_method = pytest.mark.parametrize("name", METHODS)


def merged_by(name, gradients):
    make, options, _ = METHODS[name]
    return compiled(make, **options)(gradients)


def weights_by(name, gradients):
    """The reference's weights of both gradients in the merged one."""
    _, options, reference = METHODS[name]
    weights = reference(np.asarray(gradients, np.float64), **options)
    return weights.sum(0) if weights.ndim == 2 else weights


def norms(gradients):
    return np.linalg.norm(np.asarray(gradients, np.float64), axis=1)


def gap(gradients):
    """One and the cosine."""
    t, i = np.asarray(gradients, np.float64) / norms(gradients)[:, None]
    return np.sum((t + i) ** 2) / 2


def allowed(name, gradients, weights):
    """How far rounding to float32 may bring the merged gradient from `weights @ gradients`.

    Norms and weights are off by some EPS of themselves, each of which moves the sum by as much of
    its part: 1e-5 of both parts together, which near opposite gradients are long beside their sum.

    The cosine `c` is off by `e`, some EPS. That matters where a method has a root of `1 + c` or
    `1 - c`, which is off by the share `e / (1 + c)`:
    - Nash and FairGrad: their length grows as a power of `1 / (1 + c)`, at most the first;
    - Aligned: the smallest singular value. Near `c = -1` it is `sqrt(1 + c)` long and a part of
      each weight, so it moves each part by `e / sqrt(1 + c)`; near `c = 1` it is the whole length;
    - MGDA, SDMGrad, CAGrad: the foot on `t - i`, which is only `sqrt(2 - 2 c)` long then.
    """
    parts = np.abs(weights) @ norms(gradients)
    length = np.linalg.norm(weights @ np.asarray(gradients, np.float64))
    e, below, above = 4 * EPS, gap(gradients), 2 - gap(gradients)
    bound = 1e-5 * parts
    if name.startswith(("nash", "fairgrad")):
        bound += length * e / below
    elif name == "aligned":
        bound += parts * e / np.sqrt(below) + length * e / above
    elif name.startswith(("mgda", "sdmgrad", "cagrad")):
        bound += parts * e / np.sqrt(above)
    return bound


def assert_near(value, expected, bound):
    assert np.all(np.isfinite(value))
    assert np.linalg.norm(value - expected) <= bound


# --- against the references ----------------------------------------------------------------------


def orthogonal(text_norm=1.0, image_norm=1.0):
    """Exactly."""
    gradients = draw(3, text_norm, image_norm)
    gradients[0, 20:] = gradients[1, :20] = 0
    return gradients


PAIRS = {
    **{f"random {seed}": draw(seed) for seed in range(4)},
    "random, in conflict": pair(0, 0.4),
    "random, agreeing": pair(0, 1.8),
    "orthogonal": orthogonal(),
    "orthogonal, other lengths": orthogonal(1.0, 20.0),
    **{f"1 + c = {x:.0e}": pair(1, x) for x in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)},
    **{f"1 + c = {x:.0e}, 3 times": pair(2, x, 1, 3) for x in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)},
    **{f"1 - c = {x:.0e}": pair(1, 2 - x) for x in (1e-2, 1e-4, 1e-5)},
    **{f"1 - c = {x:.0e}, 3 times": pair(2, 2 - x, 3, 1) for x in (1e-2, 1e-4, 1e-5)},
    "tiny": draw(4, 1e-15, 1e-15),
    "tiny, in conflict": pair(4, 0.3, 1e-15, 3e-15),
    "huge": draw(5, 1e15, 1e15),
    "huge, in conflict": pair(5, 0.3, 3e15, 1e15),
    "1e4 times, in conflict": pair(6, 0.3, 1, 1e4),
    "1e-4 times, in conflict": pair(6, 0.3, 1e4, 1),
    "1e4 times, agreeing": pair(7, 1.6, 1, 1e4),
    "1e-4 times, agreeing": pair(7, 1.6, 1e4, 1),
}


@each_method
def test_each_is_its_definition(name):
    failed = []
    for kind, gradients in PAIRS.items():
        weights = weights_by(name, gradients)
        expected = weights @ gradients.astype(np.float64)
        wrong = np.linalg.norm(merged_by(name, gradients) - expected)
        if not wrong <= allowed(name, gradients, weights):
            failed.append((kind, wrong, allowed(name, gradients, weights)))
    assert not failed


# No definition covers opposite gradients here; nothing is left of them.
UNDEFINED = ("nash", "fairgrad", "imtl_g", "conflict_free")


@each_method
def test_gradients_on_a_line(name):
    """Parallel, opposite, and beside one that is zero, in either order."""
    text, alone = draw(3)[0], np.eye(1, SIZE)[0]
    many = itertools.product((text,), (1, 3, -1, -2))
    zeros = [(text * scale, 0) for scale in (1e-15, 1e15, 0)]
    for (first, times), turn in itertools.product(
        [*many, (alone, 0.1), (alone, -0.3), *zeros], (1, -1)
    ):
        gradients = np.float32([first, times * first])[::turn]
        lengths = norms(gradients)
        if not any(lengths) or times < 0 and name.startswith(UNDEFINED):
            expected = np.zeros(SIZE)
        elif name == "imtl_g":  # leaves the weights open; the limit for c = 1 or a length of 0
            expected = 0 * text
            if all(lengths):
                expected = 2 / np.sum(1 / lengths) * gradients[0] / lengths[0]
        else:
            expected = weights_by(name, gradients) @ gradients.astype(np.float64)
        length = 3 * lengths.sum() if times < 0 else np.linalg.norm(expected)
        bound = 1e-5 * length
        if name == "aligned" and first is text and times > 0:
            # Whether a second singular value is seen, of which all is rounding, is open.
            bound = np.linalg.norm(gradients.astype(np.float64).mean(0))
        assert_near(merged_by(name, gradients), expected, bound)


def test_gradvac_over_several_steps():
    """The reference's target of either task is the one that both have here."""
    merge = built(merging.GradVac(beta=0.3))
    targets = np.zeros((2, 2))
    moved = 0
    for step in range(12):
        gradients = pair(step, [1.9, 1.6, 0.5, 1.2, 1.9, 0.02][step % 6], 1, 1 + step)
        if step == 7:
            gradients[1] = 0
        expected, after = reference_merges.gradvac(gradients.astype(np.float64), targets, 0.3)
        merged = merge.merge(*map(split, gradients), step=step)
        # The sine of an almost opposite gradient is off by e / sqrt(1 + c).
        parts = np.abs(expected.sum(0)) @ norms(gradients)
        bound = parts * (1e-5 + 4 * EPS / 0.1)
        assert_near(flat(merged.gradients), expected.sum(0) @ gradients, bound)
        merge.keep(merged.state, False)
        np.testing.assert_allclose(merge.weighting.target.numpy(), [targets[0, 1]], atol=1e-6)
        merge.keep(merged.state, True)
        moved += not np.allclose(expected, np.eye(2))
        targets = after
        assert targets[0, 1] == pytest.approx(targets[1, 0], rel=1e-9)
        np.testing.assert_allclose(merge.weighting.target.numpy(), [targets[0, 1]], atol=1e-6)
    assert 4 <= moved < 12


# --- blocks --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "per_block"),
    [("cagrad", False), *((name, True) for name in METHODS if "-" not in name)],
)
def test_some_blocks_are_merged_each_alone_or_together_and_of_others_the_sum_is_left(
    name, per_block
):
    """And the means over blocks are shown."""
    make, options, _ = METHODS[name]
    merge = built(make(**options), per_block=per_block, blocks=(1, 3), rest=merging.Sum(0.3))
    gradients = draw(12, 1, 3)
    merged = merge.merge(*map(split, gradients))
    merge.keep(merged.state)
    found, blocks = flat(merged.gradients), [BLOCKS == "block_1", BLOCKS == "block_2"]
    inside = blocks[0] | blocks[1]
    shown = []
    for places in blocks if per_block else [inside]:
        both = gradients[:, places]
        weights = weights_by(name, both)
        assert_near(found[places], weights @ both, allowed(name, both, weights))
        shown.append([*weights, gap(both) - 1])
    values = [merge.values()[f"merge/{x}"] for x in ("text_weight", "image_weight", "cosine")]
    np.testing.assert_allclose(values, np.mean(shown, 0), rtol=1e-4, atol=1e-5)
    expected = [0.7, 0.3] @ gradients[:, ~inside]
    np.testing.assert_allclose(found[~inside], expected, rtol=1e-6, atol=1e-6)
    if name == "gradvac":
        cosines = [cosine for _, _, cosine in shown]
        np.testing.assert_allclose(merge.weighting.target, 0.01 * np.array(cosines), rtol=1e-5)


def test_what_merge_cannot_take_is_named():
    merge, (text, image) = merging.Merge(merging.PCGrad()), map(split, draw(0))
    with pytest.raises(ValueError, match="make_state"):
        merge.merge(text, image)
    merge.make_state(SHARED)
    with pytest.raises(ValueError, match="losses"):
        merge.merge(text, image, losses=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="image_gradients: .* give None"):
        merge.merge([*text, text[0]], [*image, 0 * text[0]])
