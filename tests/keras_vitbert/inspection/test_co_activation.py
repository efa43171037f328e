import numpy as np

from keras_vitbert.inspection.activations import (
    by_preference,
    overlap,
    scale_top,
    top_units,
)


def test_the_top_units_are_a_tenth_and_at_least_one():
    random = np.random.default_rng(0)
    for units, expected in ((3, 1), (20, 2), (128, 13)):
        values = random.random(units)
        top = top_units(values)
        assert top.sum() == expected
        assert values[top].min() > values[~top].max()
    assert not top_units(np.zeros(30)).any()  # a unit that does not respond is none of them
    values = np.ones(30)  # of equal units, those with the smaller index are taken
    values[20] = 2
    assert np.flatnonzero(top_units(values)).tolist() == [0, 1, 20]


def test_overlap_is_the_part_in_common():
    image, text = np.arange(40.0), np.arange(40.0)
    assert overlap(image, text) == 1
    text[36:] = [0, 0, 50, 60]  # 38 and 39 stay, 34 and 35 come in
    assert overlap(image, text) == 0.5
    assert overlap(image, image[::-1]) == 0
    none, one, two = np.zeros(30), np.zeros(30), np.zeros(30)  # where few units respond
    one[4], two[4:6] = 1, 1
    assert overlap(none, none) == overlap(none, one) == overlap(one, none) == 0
    assert overlap(one, two) == overlap(two, one) == 0.5


def test_preference_is_the_ratio():
    image, text = np.array([0.0, 4, 1, 0, 2, 5]), np.array([3.0, 1, 1, 0, 0, 10])
    assert by_preference(image, text).tolist() == [4, 1, 2, 3, 5, 0]
    image, text = np.random.default_rng(0).random((2, 300)) + 0.1
    assert np.array_equal(by_preference(image, text), np.argsort(text / image))


def test_few_units_far_above_the_others_do_not_set_the_scale():
    values = np.ones(1000)
    values[3] = 500
    assert scale_top(values) == 1
    assert scale_top(np.eye(1, 1000)) == 1  # but where nothing else responds they do
    values[:3] = np.nan, np.inf, -np.inf
    assert scale_top(values) == 1
