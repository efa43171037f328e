"""What pictures say is read back from their pixels."""

import numpy as np
import pytest

from keras_vitbert.inspection import pictures
from tests.keras_vitbert.inspection.picture_search import contains

# How a protanope and a deuteranope see linear RGB (Machado, Oliveira and Fernandes, 2009).
SIGHT = {
    "all": np.eye(3),
    "without red": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "without green": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}


def lightness(rgb, sight):
    """CIE L* of sRGB bytes as somebody sees them."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.transpose(SIGHT[sight]), 0, 1)
    y = seen @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 216 / 24389, 116 * np.cbrt(y) - 16, y * 24389 / 27)


@pytest.mark.parametrize("sight", list(SIGHT))
def test_lightness_rises_with_the_value_for_whoever_looks(sight):
    """And evenly: no part of the scale looks as if something happened in it."""
    light = lightness(pictures.colours(np.linspace(0, 1, 33), 0, 1), sight)
    steps = np.diff(light)
    assert light[-1] - light[0] > 80
    assert steps.min() > 0.5 * steps.mean() and steps.max() < 2 * steps.mean()


def test_colours_stay_within_the_scale():
    values = np.array([[-1.0, 2.0, 3.0, 4.0, 9.0]])
    found = pictures.colours(values, 2, 4)
    assert found.shape == (1, 5, 3) and found.dtype == np.uint8
    assert found[0, 0].tolist() == found[0, 1].tolist()
    assert found[0, 3].tolist() == found[0, 4].tolist()
    assert len({tuple(colour) for colour in found[0].tolist()}) == 3
    scale = pictures.colours(np.linspace(0, 1, 1001), 0, 1).tolist()
    for unknown in (np.nan, np.inf, -np.inf):
        assert pictures.colours([unknown], 0, 1)[0].tolist() == list(pictures.UNKNOWN)
    assert list(pictures.UNKNOWN) not in scale


def test_a_scale_without_length_is_all_low():
    assert np.array_equal(pictures.colours([3.0, 3.0], 3, 3), pictures.colours([0, 0], 0, 1))


def test_cells():
    picture = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = pictures.cells(picture, 3, 2)
    assert found.shape == (4, 6, 3)
    assert np.array_equal(found[::2, ::3], picture) and np.array_equal(found[1::2, 2::3], picture)
    assert pictures.cells(picture, 2).shape == (4, 4, 3)


def is_background(part):
    return np.all(part == pictures.BACKGROUND)


@pytest.mark.parametrize("size", [pictures.TEXT_SIZE, pictures.TITLE_SIZE])
def test_words_are_whole(size):
    """No letter touches the upper or lower edge, nor is one at the right edge cut off."""
    assert size >= 12
    line = pictures.words("(Åjgpy|Q_) 3.14,", size)
    assert is_background(line[0]) and is_background(line[-1])
    assert np.any(line[:, :-1] != pictures.BACKGROUND)
    longer = pictures.words("(Åjgpy|Q_) 3.14,      .", size)
    width = line.shape[1] - 1
    assert np.array_equal(longer[:, :width], line[:, :width])
    assert is_background(longer[:, width : width + 4])


def test_stacks_keep_every_picture_and_the_gaps_between():
    first, second = np.zeros((4, 6, 3), np.uint8), np.full((2, 3, 3), 7, np.uint8)
    rows = pictures.stack_rows([first, second], gap=5)
    assert rows.shape == (11, 6, 3)
    assert np.array_equal(rows[:4], first) and np.array_equal(rows[9:, :3], second)
    assert is_background(rows[4:9]) and is_background(rows[9:, 3:])
    columns = pictures.stack_columns([first, second], gap=5)
    assert columns.shape == (4, 14, 3)
    assert np.array_equal(columns[:, :6], first) and np.array_equal(columns[1:3, 11:], second)
    assert is_background(columns[:, 6:11]) and is_background(columns[[0, 3], 11:])


def test_rows_begin_beside_the_longest_label():
    row = np.zeros((20, 50, 3), np.uint8)
    found = pictures.labelled_rows([row, row], ["a", "a longer one"], gap=4)
    begin = pictures.words("a longer one").shape[1] + 8
    assert np.array_equal(found[:20, begin:], row) and np.array_equal(found[24:44, begin:], row)
    assert np.any(found[:20, :begin] != pictures.BACKGROUND)


@pytest.mark.parametrize("count, width", [(768, 1), (128, 6), (20, 42), (3, 280), (1, 800)])
def test_the_ruler_names_the_cell_above(count, width):
    found = pictures.ruler(count, width)
    assert found.shape[1] == count * width
    ticks = np.flatnonzero(np.all(found[0] == pictures.INK, axis=-1))[::2]
    assert len(ticks) >= min(count, 8) and np.all(ticks % width == 0)
    for tick in ticks:
        number = pictures.words(f"{tick // width}")
        place = slice(tick, tick + number.shape[1])
        assert np.array_equal(found[-len(number) :, place], number)
    if len(ticks) > 1:
        widest = pictures.words(f"{count - 1}").shape[1]
        assert np.diff(ticks).min() >= widest + 8


@pytest.mark.parametrize("low, high", [(0, 1), (0, 123.456), (-0.25, 0.75), (0, 1e-6)])
def test_the_legend_has_the_whole_scale_and_its_numbers(low, high):
    found = pictures.legend(low, high, "cosine", width=100, beyond=True)
    assert contains(found, pictures.colours(np.linspace(low, high, 100), low, high)[None])
    for text in (f"{low:.3g}", f"{(low + high) / 2:.3g}", f"{high:.3g} and more", "cosine"):
        assert contains(found, pictures.words(text))


def test_a_titled_picture_has_a_margin():
    picture = np.zeros((5, 200, 3), np.uint8)
    found = pictures.titled(picture, "block 3, step 500", "a note")
    for part in (
        picture,
        pictures.words("a note"),
        pictures.words("block 3, step 500", pictures.TITLE_SIZE),
    ):
        assert contains(found, part)
    assert is_background(found[:12]) and is_background(found[-12:])
    assert is_background(found[:, :12]) and is_background(found[:, -12:])
