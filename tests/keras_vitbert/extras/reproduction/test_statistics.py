"""Beside scipy's own tests, sums by hand, and Holm's method by its definition."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_vitbert.extras.reproduction.statistics import (
    Deviation,
    claims,
    compare,
    corrected,
    deviation,
)


def of_two(ours, theirs):
    """A comparison of two rows by their own deviation."""
    return compare("a", [ours], "b", [theirs], deviation([ours, theirs]))


@pytest.mark.parametrize("others", [({}, {}), ({7: 0.1}, {9: 0.9})])
def test_two_rows_alone_are_the_paired_test_of_their_common_seeds(others):
    ours, theirs = {0: 0.5, 1: 0.7, 2: 0.62} | others[0], {2: 0.6, 1: 0.61, 0: 0.48} | others[1]
    found = of_two(ours, theirs)
    pairs = [[side[seed] for seed in (0, 1, 2)] for side in (ours, theirs)]
    assert found.difference.seeds == 3 and found.freedom == 2
    assert found.difference.mean == pytest.approx(np.mean(np.subtract(*pairs)))
    assert found.difference.error == pytest.approx(np.subtract(*pairs).std(ddof=1) / 3**0.5)
    assert found.p == pytest.approx(stats.ttest_rel(*pairs).pvalue)


def test_the_deviation_of_rows_with_gaps():
    """By fitting rows and seeds in turns until nothing changes."""
    random = np.random.default_rng(1)
    known = np.array([[1, 1, 1], [1, 1, 0], [1, 1, 1], [1, 0, 0], [0, 1, 1]], bool)
    values = random.random(known.shape)
    rows = [
        {seed: values[place, seed] for seed in range(3) if known[place, seed]} for place in range(5)
    ]
    rest = np.where(known, values, 0.0)
    for _ in range(2_000):
        for axis in (0, 1):
            mean = rest.sum(axis, keepdims=True) / known.sum(axis, keepdims=True)
            rest = np.where(known, rest - mean, 0.0)
    # 11 cells; 5 rows and 3 seeds, one of which follows from the others.
    found = deviation(rows)
    assert found.freedom == 11 - (5 + 3 - 1)
    assert found.value == pytest.approx(math.sqrt((rest**2).sum() / found.freedom))


def test_means_of_several_rows():
    random, spread = np.random.default_rng(2), Deviation(0.03, 12)
    rows = [dict(enumerate(values)) for values in random.random((5, 2))]
    found = compare("a", rows[:2], "b", rows[2:], spread)
    of_seeds = [
        np.mean([r[s] for r in rows[:2]]) - np.mean([r[s] for r in rows[2:]]) for s in (0, 1)
    ]
    assert found.difference.mean == pytest.approx(np.mean(of_seeds))
    # Independent cells of that deviation: the variance of a sum with these weights.
    weights = [1 / 4] * 4 + [-1 / 6] * 6
    assert found.difference.error == pytest.approx(0.03 * math.sqrt(np.square(weights).sum()))
    t = found.difference.mean / found.difference.error
    assert found.p == pytest.approx(2 * stats.t.sf(abs(t), 12))


@pytest.mark.parametrize(
    "values",
    [[0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.9], [0.04, math.nan, 0.001], [math.nan], []],
)
def test_p_values_by_holm(values):
    found = corrected(values)
    known = sorted(value for value in values if not math.isnan(value))
    for value, p in zip(values, found, strict=True):
        if math.isnan(value):
            assert math.isnan(p)
            continue
        # The largest of the corrected values of those that are not larger.
        smaller = [v for v in known if v <= value]
        by_definition = max((len(known) - rank) * v for rank, v in enumerate(smaller))
        assert p == pytest.approx(min(1.0, by_definition))


def test_claims_name_the_larger_side_where_a_difference_is_seen():
    """A difference that would be seen alone may not be seen among many."""
    spread, zero = Deviation(0.01, 12), [{0: 0.5}]
    more = compare("a", [{0: 0.6}], "b", zero, spread)
    less = compare("a", [{0: 0.4}], "b", zero, spread)
    weak = compare("a", [{0: 0.54}], "b", zero, spread)
    none = compare("a", zero, "c", zero, spread)
    assert weak.p < 0.05 < 24 * weak.p
    sentences = claims([more, less, weak, *[none] * 23])
    assert sentences[0].startswith("a above b by 0.1000 ± 0.0141 over 1 seed (p = ")
    assert sentences[1].startswith("b above a by 0.1000")
    assert sentences[2].startswith("a minus b: no difference seen, 0.0400 ± 0.0141 over 1 seed")
    [unknown] = claims([of_two({0: 0.5}, {0: 0.4})])
    assert "says nothing" in unknown
    assert of_two({0: 0.5, 1: 0.5}, {0: 0.25, 1: 0.25}).p == 0
    assert of_two({0: 0.5, 1: 0.25}, {0: 0.5, 1: 0.25}).p == 1


def test_how_many_seeds_would_be_needed():
    """As often as not, that many draws of the same mean and deviation show the difference."""
    spread, zero = Deviation(0.05, 12), dict.fromkeys(range(3), 0.0)
    [claim] = claims([compare("a", [{0: 0.1, 1: -0.04, 2: 0.06}], "b", [zero], spread)])
    count = int(claim.split("perhaps with ")[1].split()[0])
    random = np.random.default_rng(0)
    means = random.normal(0.04, 0.05 * math.sqrt(2 / count), 4000)
    deviations = 0.05 * np.sqrt(random.chisquare(12, 4000) / 12)
    shown = np.abs(means) / (deviations * math.sqrt(2 / count)) > stats.t.ppf(0.975, 12)
    assert 0.4 < shown.mean() < 0.7
