"""Confusion matrices that are made up, and what is found again on their sheets."""

import numpy as np
import pytest

from keras_vitbert.inspection import confusion_picture
from keras_vitbert.inspection.sheet import colours


@pytest.fixture
def drawn(monkeypatch):
    """`drawn(confusion, classes) -> (picture, sheet)`."""
    sheets = []

    class Sheet(confusion_picture.Sheet):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.cells = []
            sheets.append(self)

        def image(self, left, top, width, height, cells):
            self.cells.append(cells)
            super().image(left, top, width, height, cells)

    monkeypatch.setattr(confusion_picture, "Sheet", Sheet)

    def draw(confusion, classes):
        picture = confusion_picture.confusion_picture(np.array(confusion), classes, "title")
        return picture, sheets[-1]

    return draw


def texts_of(sheet):
    """`{text: [places]}`, in parts of the sheet from its top left corner."""
    found = {}
    for text in sheet.figure.texts:
        x, y = text.get_position()
        found.setdefault(text.get_text(), []).append((x, 1 - y))
    return found


def test_a_matrix_has_names_counts_and_shares(drawn):
    """Class `b` has no examples: its row is grey, without numbers."""
    confusion = [[1234, 17, 0], [0, 0, 0], [5, 0, 15]]
    picture, sheet = drawn(confusion, ["cat", "b$_x$", "fox"])
    assert picture.dtype == np.uint8 and max(picture.shape) < 500
    texts = texts_of(sheet)
    assert {"title", "label", "prediction"} <= set(texts)
    assert not {"0", "nan"} & (set(texts) - {"0%"})
    places = {}
    for name in ("cat", "b$_x$", "fox"):
        (left, middle), (centre, above) = texts[name]  # of the row, of the column
        places[name] = middle, centre
        assert left < centre and above < middle
    for row, name in enumerate(places):
        for column, other in enumerate(places):
            count = confusion[row][column]
            if count:
                [(x, y)] = texts[f"{count:,}"]
                assert (x, y) == pytest.approx((places[other][1], places[name][0]))
    shares = np.array([[1234 / 1251, 17 / 1251, 0], [np.nan] * 3, [0.25, 0, 0.75]])
    np.testing.assert_array_equal(sheet.cells[0], colours(shares))


def test_100_classes_have_their_names_and_rounded_shares(drawn):
    confusion = np.diag(np.full(100, 990))
    confusion[7, 8], confusion[7, 9] = 9, 1
    names = [f"class {n}" for n in range(100)]
    picture, sheet = drawn(confusion, names)
    texts = texts_of(sheet)
    assert all(len(texts[name]) == 2 for name in names)
    assert (len(texts["99"]), len(texts["1"]), "0" in texts) == (1, 1, False)
    assert len(texts["100"]) == 99 and max(picture.shape) < 2900


def test_of_more_classes_the_most_confused_pairs(drawn):
    confusion = np.diag(np.full(101, 10))
    confusion[3, 50], confusion[50, 3], confusion[2, 1] = 5, 10, 10
    pairs = confusion_picture.most_confused(confusion, 40)
    assert pairs == [(2, 1, 10), (50, 3, 10), (3, 50, 5)]
    assert confusion_picture.most_confused(confusion, 2) == pairs[:2]
    _, sheet = drawn(confusion, [f"c{n}" for n in range(101)])
    texts = texts_of(sheet)
    order = sorted(("c2 → c1", "c50 → c3", "c3 → c50"), key=lambda text: texts[text][0][1])
    assert order == ["c2 → c1", "c50 → c3", "c3 → c50"]
    assert len(texts["10  (50%)"]) == 2 and len(texts["5  (33%)"]) == 1
    _, sheet = drawn(np.diag(np.full(101, 10)), [f"c{n}" for n in range(101)])
    assert "no example is confused" in texts_of(sheet)
