"""Beside scipy's own tests, and Holm's method by its definition."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_vitbert.reproduction.statistics import claims, compare, corrected, estimate


def test_an_estimate():
    values = [0.5, 0.7, 0.9, 0.4]
    found = estimate(values)
    assert found.mean == pytest.approx(np.mean(values)) and found.count == 4
    assert found.error == pytest.approx(stats.sem(values))
    assert math.isnan(estimate([0.5]).error) and str(estimate([0.5])) == "0.5000"


def test_paired_differences_on_common_seeds():
    ours = {0: 0.5, 1: 0.7, 2: 0.62, 7: 0.1}
    theirs = {2: 0.6, 1: 0.61, 0: 0.48, 9: 0.9}
    found = compare("a", ours, "b", theirs)
    pairs = [[side[seed] for seed in (0, 1, 2)] for side in (ours, theirs)]
    assert found.difference.count == 3
    assert found.p == pytest.approx(stats.ttest_rel(*pairs).pvalue)


def test_nothing_to_compare():
    with pytest.raises(ValueError, match="a and b have no common seed"):
        compare("a", {0: 1.0}, "b", {1: 1.0})


def test_differences_that_are_all_alike():
    assert compare("a", {0: 0.5, 1: 0.5}, "b", {0: 0.25, 1: 0.25}).p == 0
    assert compare("a", {0: 0.5, 1: 0.25}, "b", {0: 0.5, 1: 0.25}).p == 1


def compared(p):
    """A comparison of three seeds with a p-value, and None one of one seed."""
    if p is None:
        return compare("a", {0: 0.5}, "b", {0: 0.4})
    # The t-value with 2 degrees of freedom: mean 1 over standard error 1 / t.
    t = stats.t.isf(p / 2, 2)
    half = math.sqrt(3) / t
    return compare("a", {0: 1 - half, 1: 1.0, 2: 1 + half}, "b", {0: 0.0, 1: 0.0, 2: 0.0})


@pytest.mark.parametrize(
    "values", [[0.01, 0.04, 0.03, 0.005], [0.2, 0.2, 0.9], [0.04, None, 0.001], [None]]
)
def test_p_values_by_holm(values):
    found = corrected([compared(value) for value in values])
    known = sorted(value for value in values if value is not None)
    for value, p in zip(values, found, strict=True):
        if value is None:
            assert math.isnan(p)
            continue
        # The largest of the corrected values of those that are not larger.
        smaller = [v for v in known if v <= value]
        by_definition = max((len(known) - rank) * v for rank, v in enumerate(smaller))
        assert p == pytest.approx(min(1.0, by_definition))


def test_claims():
    seen, reversed_, unseen, one = claims(
        [
            compare("a", {0: 0.50, 1: 0.61, 2: 0.70}, "b", {0: 0.40, 1: 0.51, 2: 0.601}),
            compare("a", {0: 0.10, 1: 0.21, 2: 0.30}, "b", {0: 0.30, 1: 0.41, 2: 0.501}),
            compare("a", {0: 0.50, 1: 0.40, 2: 0.45}, "b", {0: 0.44, 1: 0.42, 2: 0.45}),
            compare("a", {0: 0.5}, "b", {0: 0.4}),
        ]
    )
    assert seen.startswith("a above b by 0.0997 ± 0.0003 over 3 seeds (p = ")
    assert reversed_.startswith("b above a by 0.2003 ± 0.0003 over 3 seeds (p = ")
    assert unseen.startswith(
        "a and b: no difference seen, 0.0133 ± 0.0240 over 3 seeds (p = 0.63); "
    )
    assert one == "a and b: +0.1000 over 1 seed, which says nothing of other seeds"


def test_how_many_seeds_would_be_needed():
    """As often as not, that many draws of the same mean and deviation show the difference."""
    [claim] = claims([compare("a", {0: 0.1, 1: -0.04, 2: 0.06}, "b", dict.fromkeys(range(3), 0.0))])
    differences = np.array([0.1, -0.04, 0.06])
    count = int(claim.split("perhaps with ")[1].split()[0])
    draws = np.random.default_rng(0).normal(
        differences.mean(), differences.std(ddof=1), (4000, count)
    )
    shown = np.mean(stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05)
    assert 0.4 < shown < 0.7
