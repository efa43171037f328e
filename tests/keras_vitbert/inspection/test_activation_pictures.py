"""What pictures of activations show is read back from their pixels."""

import numpy as np
import pytest

from keras_vitbert.inspection.activation_pictures import (
    _block_sheet,
    _overview,
    activation_pictures,
)
from keras_vitbert.inspection.co_activation import overlap, rank_correlation
from keras_vitbert.inspection.heat_maps import by_preference, scale_top
from keras_vitbert.inspection.sheet import colours, style
from tests.keras_vitbert.inspection.picture_search import contains


def texts_of(draw, *arguments):
    with style():
        return [text.get_text() for text in draw(*arguments).figure.texts]


def strip(image, text, rows=18):
    """A heat map: images above text."""
    cells = colours(np.stack([image, text]), scale_top([image, text])).repeat(rows, axis=0)
    return cells.repeat(max(1, 800 // len(image)), axis=1)


@pytest.mark.parametrize("units", [1, 8, 128, 300, 768, 1024])
def test_a_blocks_picture_shows_the_values(units):
    image, text = np.random.default_rng(units).random((2, 1, units)).astype(np.float32)
    picture = activation_pictures(image, text, 1500)["block_0"]
    image, text = image[0], text[0]
    assert picture.dtype == np.uint8 and 950 <= picture.shape[1] <= 1450
    order = by_preference(image, text)
    assert contains(picture, strip(image, text))
    assert contains(picture, strip(image[order], text[order]))
    shown = texts_of(_block_sheet, image, text, 0, 1500)
    for expected in (
        "block 0, step 1,500",
        f"{scale_top([image, text]):.3g}",
        f"{overlap(image, text):.2f}",
        f"{rank_correlation(image, text):.2f}",
        f"◂ {sum(i > t for i, t in zip(image, text, strict=True))} prefer images",
        f"{sum(i < t for i, t in zip(image, text, strict=True))} prefer text ▸",
    ):
        assert expected in shown
    marks = [int(mark) for mark in shown if mark.isdigit()]
    assert marks[0] == 0 and max(marks) < max(units, 2)  # the scale has a 1
    assert len(marks) - 2 >= min(units, 6)


def test_the_overview_shows_each_block_on_its_own_scale():
    values = np.random.default_rng(0).random((2, 12, 768))
    values *= 2.0 ** np.arange(12)[:, None]
    picture = activation_pictures(*values, 500)["overview"]
    assert picture.shape[0] < 800 and 800 <= picture.shape[1] <= 1200
    shown = texts_of(_overview, *values, 500)
    assert "all blocks, step 500" in shown
    for block, pair in enumerate(values.transpose(1, 0, 2)):
        assert contains(picture, strip(*pair))
        assert f"block {block}" in shown and f"{scale_top(pair):.3g}" in shown
        assert {f"{overlap(*pair):.2f}", f"{rank_correlation(*pair):.2f}"} <= set(shown)


def test_of_many_blocks_three_have_pictures_of_their_own():
    found = activation_pictures(*np.random.default_rng(0).random((2, 12, 8)), 1)
    assert list(found) == ["block_0", "block_6", "block_11", "overview"]


@pytest.mark.parametrize("count", [1, 2, 6, 12, 24])
def test_nothing_is_cut_off(count):
    """The margins stay white, however many blocks there are."""
    values = np.random.default_rng(count).random((2, count, 96))
    for picture in activation_pictures(*values, 1_000_000).values():
        for edge in (picture[:4], picture[-4:], picture[:, :4], picture[:, -4:]):
            assert np.all(edge == 255)


def test_pictures_do_not_depend_on_those_before():
    first, second = np.random.default_rng(0).random((2, 2, 3, 96))
    expected = activation_pictures(*first, 500)
    activation_pictures(*second, 1000)
    found = activation_pictures(*first, 500)
    assert list(found) == ["block_0", "block_1", "block_2", "overview"]
    for name, picture in found.items():
        np.testing.assert_array_equal(picture, expected[name])


def test_pictures_of_a_model_that_does_not_respond():
    pictures = activation_pictures(np.zeros((2, 8)), np.zeros((2, 8)), 0)
    for picture in pictures.values():
        assert contains(picture, np.tile(colours([[0.0]]), (36, 800, 1)))


def test_what_is_not_finite_is_grey_and_the_rest_is_shown():
    values = np.ones((2, 1, 8))
    values[:, 0, 3] = np.nan
    for picture in activation_pictures(*values, 0).values():
        assert contains(picture, np.tile(colours([[np.nan]]), (36, 100, 1)))
        assert contains(picture, np.tile(colours([[1.0]]), (36, 300, 1)))
