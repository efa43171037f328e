"""What heat maps show is read back from their pixels and numbers."""

import numpy as np

from keras_vitbert.inspection.heat_maps import LEFT, by_preference, draw_heat_maps, scale_top
from keras_vitbert.inspection.sheet import PRINT, SCREEN, Sheet, colours, style


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


def test_each_block_is_shown_on_its_own_scale():
    random = np.random.default_rng(0)
    pairs = random.random((3, 2, 96)) * 2.0 ** np.arange(0, 30, 10)[:, None, None]
    with style():
        sheet = Sheet(3.3, 2, "", dots_per_inch=SCREEN)
        blocks = dict(zip("abc", pairs, strict=True))
        bottom = draw_heat_maps(sheet, 0.4, 96 / SCREEN, blocks, {"more": ["x", "y", "z"]})
        picture = sheet.picture()
    left = round(LEFT * SCREEN)
    rows = np.flatnonzero(np.all(np.any(picture[:, left : left + 96] < 250, axis=-1), axis=1))
    blocks = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    assert len(blocks) == 3 and blocks[-1][-1] < bottom * SCREEN
    for block, pair in zip(blocks, pairs, strict=True):
        for half, values in zip((block[:18], block[18:]), pair, strict=True):
            expected = colours(values, np.percentile(pair, 99))
            assert len(half) == 18
            for row in half:
                assert np.array_equal(picture[row, left : left + 96], expected)
    texts = [text.get_text() for text in sheet.figure.texts]
    assert texts[2:4] == ["scale to", "more"]
    tops = [f"{np.percentile(pair, 99):.3g}" for pair in pairs]
    assert texts[4:] == [
        text
        for name, top, more in zip("abc", tops, "xyz", strict=True)
        for text in (name, "images", "text", top, more)
    ]


def test_units_narrower_than_dots_are_not_mixed_with_the_other_row():
    with style():
        sheet = Sheet(3.3, 1, "", dots_per_inch=PRINT)
        draw_heat_maps(sheet, 0.4, 2, {"a": (np.ones(1000), np.zeros(1000))})
        picture = sheet.picture()
    column = picture[:, round((LEFT + 1) * PRINT)]
    bright, dark = (np.all(column == colours([value])[0], axis=-1) for value in (1.0, 0.0))
    assert abs(bright.sum() - 37) <= 2 and abs(dark.sum() - 37) <= 2
    assert np.flatnonzero(bright).max() < np.flatnonzero(dark).min()
