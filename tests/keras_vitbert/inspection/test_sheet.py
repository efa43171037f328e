"""Sheets: what is drawn is read back from pixels, and letters fit."""

import gc
import weakref

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from keras_vitbert.inspection import sheet
from keras_vitbert.inspection.activation_pictures import activation_pictures
from keras_vitbert.inspection.mask_pictures import block_picture, sparsity_chart
from keras_vitbert.inspection.mask_values import MaskValues
from keras_vitbert.inspection.sheet import (
    INK,
    PRINT,
    SCREEN,
    UNKNOWN,
    Sheet,
    colours,
    shades,
    shortened,
    spread,
    style,
    width_of,
    wrapped,
)
from keras_vitbert.model.shared_weights import KINDS
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
def test_lightness_rises_with_the_value_for_all_readers(sight):
    """And evenly: no part of the scale looks as if something happened in it."""
    light = lightness(colours(np.linspace(0, 1, 33)), sight)
    steps = np.diff(light)
    assert light[-1] - light[0] > 70
    assert steps.min() > 0.5 * steps.mean() and steps.max() < 2 * steps.mean()
    order = lightness(np.rint(255 * np.array(shades(9))[:, :3]), sight)
    assert np.all(np.diff(order) > 0) and order[-1] < 85  # white is 100


def test_colours_stay_within_the_scale():
    found = colours(np.array([[-1.0, 0.0, 3.0, 4.0, 9.0]]), 4)
    assert found.shape == (1, 5, 3) and found.dtype == np.uint8
    assert found[0, 0].tolist() == found[0, 1].tolist()
    assert found[0, 3].tolist() == found[0, 4].tolist()
    assert len({tuple(colour) for colour in found[0].tolist()}) == 3
    assert len(np.unique(colours(np.linspace(0, 1, 1001)), axis=0)) > 250
    assert np.array_equal(colours(np.zeros(3), 0), colours(np.zeros(3), 1))


def test_what_is_not_finite_is_grey():
    scale = colours(np.linspace(0, 1, 1001)).tolist()
    grey = [int(UNKNOWN[place : place + 2], 16) for place in (1, 3, 5)]
    assert grey not in scale
    for unknown in (np.nan, np.inf, -np.inf):
        assert colours([1.0, unknown], unknown)[1].tolist() == grey


@pytest.mark.parametrize("dots", [SCREEN, PRINT])
@pytest.mark.parametrize(("rows", "columns", "size"), [(2, 768, 1), (3, 20, 7), (1, 5, 29)])
def test_cells_are_whole_dots(dots, rows, columns, size):
    random = np.random.default_rng(columns)
    cells = random.integers(0, 255, (rows, columns, 3), np.uint8)
    with style():
        sheet = Sheet(3.3 if dots == PRINT else 6, 2.71, "", dots_per_inch=dots)
        sheet.image(0.321, 1.034, columns * size / dots, rows * size / dots, cells)
        picture = sheet.picture()
    top, left = round(1.034 * dots), round(0.321 * dots)
    part = cells.repeat(size, axis=0).repeat(size, axis=1)
    height, width = part.shape[:2]
    assert np.array_equal(picture[top : top + height, left : left + width], part)
    picture[top : top + height, left : left + width] = 255
    assert np.all(picture == 255)


@pytest.mark.parametrize("dots", [SCREEN, PRINT])
def test_the_sizes_of_a_picture_and_of_a_file(dots, tmp_path):
    with style():
        sheet = Sheet(2.503, 1.248, "title", "note", dots)
        size = round(2.503 * dots), round((sheet.top + 1.248) * dots)
        assert sheet.picture().shape == (*size[::-1], 3)
        (tmp_path / "sheet.png").write_bytes(sheet.encoded("png"))
    with Image.open(tmp_path / "sheet.png") as image:
        assert max(abs(np.subtract(image.size, size))) <= 1
        assert np.all(np.asarray(image)[0, :, :3] == 255)


def ink(picture):
    """The places of the dark pixels: (rows, columns)."""
    return np.nonzero(np.all(picture < 100, axis=-1))


def test_marks_stand_below_their_places():
    with style():
        sheet = Sheet(4, 1, "", dots_per_inch=SCREEN)
        sheet.marks(0.5, 0.25, 3, {0: "l", 0.25: "l", 1: "l"})
        picture = sheet.picture()
    for expected in (0.5, 1.25, 3.5):
        place = round(expected * SCREEN)
        rows, columns = ink(picture[:, place - 5 : place + 6])
        assert abs(rows.min() - 0.25 * SCREEN) <= 1  # the tick begins at the line
        assert abs(columns.mean() - 5) <= 1
    found = np.unique(ink(picture)[1])
    assert np.sum(np.diff(found) > 20) == 2  # and there are no others


def test_a_scale_has_all_colours():
    with style():
        sheet = Sheet(3, 1, "", dots_per_inch=SCREEN)
        sheet.scale(0.2, 0.1, 256 / SCREEN, "activation")
        picture = sheet.picture()
        assert contains(picture, colours(np.linspace(0, 1, 256)[None]).repeat(11, axis=0))
        texts = [text.get_text() for text in sheet.figure.texts]
        assert texts == ["", "", "0", "0.5", "1", "activation"]
        assert ink(picture)[0].max() < 0.1 * SCREEN + 0.38 * SCREEN


def test_letters_are_dark_whatever_the_user_has_set(monkeypatch):
    import matplotlib

    for name, value in (("text.color", "white"), ("figure.facecolor", "black")):
        monkeypatch.setitem(matplotlib.rcParams, name, value)
    with style():
        picture = Sheet(2, 1, "title", dots_per_inch=SCREEN).picture()
    assert np.all(picture[-1] == 255)
    darkest = picture[np.unravel_index(np.argmin(picture.sum(axis=-1)), picture.shape[:2])]
    assert darkest.tolist() == [int(INK[place : place + 2], 16) for place in (1, 3, 5)]


def test_letters_fit():
    with style():
        assert shortened("word", 1.0) == "word"
        short = shortened("abcdefghijklmnopqrstuvwxyz" * 4, 1.0)
        assert width_of(short) <= 1.0 < width_of(short.replace("…", "mmm"))
        assert short.startswith("abc") and short.endswith("xyz") and "…" in short
        lines = wrapped(["word"] * 30, 1.0)
        assert " ".join(lines).split() == ["word"] * 30
        assert all(width_of(line) <= 1.0 < width_of(f"{line} word") for line in lines[:-1])


def test_letters_are_as_wide_as_they_say():
    with style():
        sheet = Sheet(4, 1, "", dots_per_inch=SCREEN)
        sheet.text(0.25, 0.5, "mean of 12 activations")
        columns = ink(sheet.picture())[1]
    assert np.ptp(columns) / SCREEN == pytest.approx(width_of("mean of 12 activations"), abs=0.04)


def test_items_are_spread():
    assert spread([1, 2, 3], 8) == [1, 2, 3]
    assert spread(range(1, 31), 8) == [1, 5, 9, 13, 18, 22, 26, 30]
    assert spread(range(7), 3) == [0, 3, 6]
    assert spread(range(7), 1) == [0]


def draw_masks():
    entries = np.full((2, len(KINDS)), 100)
    kept = {"block_0": {"query": np.ones((8, 8), bool)}}
    values = MaskValues(3, ["block_0", "block_1"], entries, entries // 2, kept)
    return sparsity_chart(values), block_picture([values], "block_0")


@pytest.mark.parametrize(
    "draw", [lambda: activation_pictures(*np.eye(8).reshape(2, 4, 8), 5), draw_masks]
)
def test_what_is_drawn_does_not_stay_in_memory(draw, monkeypatch):
    """Python itself looks for cycles the less often, the more objects there are."""
    figures = weakref.WeakSet()

    class Known(Figure):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            figures.add(self)

    monkeypatch.setattr(sheet, "Figure", Known)
    thresholds = gc.get_threshold()
    gc.set_threshold(100, 2, 10**6)  # young objects are looked at often, old ones never
    try:
        pictures = draw()
        assert pictures and not figures and gc.isenabled()
    finally:
        gc.set_threshold(*thresholds)
