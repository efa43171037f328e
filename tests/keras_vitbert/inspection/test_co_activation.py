import numpy as np
import pytest

from keras_vitbert.inspection.activations import (
    by_preference,
    overlap,
    rank_correlation,
    scale_top,
    top_units,
)


def test_the_top_units_are_a_tenth_and_at_least_one():
    random = np.random.default_rng(0)
    for units, expected in ((3, 1), (20, 2), (128, 13), (768, 77)):
        values = random.random(units)
        top = top_units(values)
        assert top.sum() == expected
        assert values[top].min() > values[~top].max()


def test_a_unit_that_does_not_respond_is_not_among_the_top():
    values = np.zeros(30)
    assert not top_units(values).any()
    values[7] = 1e-30
    assert np.flatnonzero(top_units(values)).tolist() == [7]
    values = np.ones(30)  # of equal units, those with the smaller index are taken
    values[20] = 2
    assert np.flatnonzero(top_units(values)).tolist() == [0, 1, 20]


def test_overlap_is_the_part_in_common():
    image, text = np.arange(40.0), np.arange(40.0)
    assert overlap(image, text) == 1
    text[36:] = [0, 0, 50, 60]  # 38 and 39 stay, 34 and 35 come in
    assert overlap(image, text) == 0.5
    assert overlap(image, image[::-1]) == 0


def test_overlap_where_few_units_respond():
    none, one, two = np.zeros(30), np.zeros(30), np.zeros(30)
    one[4], two[4:6] = 1, 1
    assert overlap(none, none) == overlap(none, one) == overlap(one, none) == 0
    assert overlap(one, one) == 1
    assert overlap(one, two) == overlap(two, one) == 0.5


def test_independent_units_overlap_by_chance():
    random = np.random.default_rng(0)
    overlaps = [overlap(random.random(200), random.random(200)) for _ in range(400)]
    assert np.mean(overlaps) == pytest.approx(0.1, abs=0.01)  # some 3 standard errors


def test_rank_correlation_is_0_where_it_is_undefined():
    assert rank_correlation(np.zeros(5), np.arange(5.0)) == 0
    assert rank_correlation(np.arange(5.0), np.ones(5)) == 0


def test_preference_is_the_ratio():
    image, text = np.array([0.0, 4, 1, 0, 2, 5]), np.array([3.0, 1, 1, 0, 0, 10])
    assert by_preference(image, text).tolist() == [4, 1, 2, 3, 5, 0]
    random = np.random.default_rng(0)
    image, text = random.random((2, 300)) + 0.1
    assert np.array_equal(by_preference(image, text), np.argsort(text / image))
    assert np.array_equal(by_preference(16 * image, text), by_preference(image, text))


def test_few_units_far_above_the_others_do_not_set_the_scale():
    values = np.ones(1000)
    values[3] = 500
    assert scale_top(values) == 1
    assert scale_top(np.eye(1, 1000)) == 1  # but where nothing else responds they do
    assert scale_top(np.zeros(10)) == 0
    values[:3] = np.nan, np.inf, -np.inf
    assert scale_top(values) == 1
