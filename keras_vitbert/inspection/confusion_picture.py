"""Which classes are mistaken for which: a matrix with names and numbers, or the worst pairs."""

import numpy as np

from keras_vitbert.inspection.sheet import (
    EDGE,
    FAINT,
    INK,
    SCREEN,
    SMALL_SIZE,
    TEXT_SIZE,
    TITLE_SIZE,
    Sheet,
    colours,
    shortened,
    style,
    width_of,
)

MOST_CLASSES = 100  # of a matrix; with more, the most confused pairs are shown
MOST_PAIRS = 40
_MOST_COUNTS = 20  # most classes of a matrix whose cells have room for counts
_CELL = 0.17  # inches, at least
_NAME = 1.3  # inches of a name, at most
_BAR, _BARS = 0.15, 2.6  # inches down from a bar to the next, and of the longest one


def confusion_picture(confusion, classes, title):
    """Draws a confusion matrix.

    Args:
        confusion: int array `(classes, classes)`, rows are labels, columns predictions.
        classes: list of str, their names.
        title: str.

    Returns:
        uint8 `(height, width, 3)`.
    """
    with style():
        draw = _matrix if len(classes) <= MOST_CLASSES else _pairs
        return draw(confusion, classes, title).picture()


def most_confused(confusion, most):
    """The pairs of classes that are confused most often.

    Args:
        confusion: int array `(classes, classes)`.
        most: int, how many pairs at most.

    Returns:
        list of (label, prediction, count), ints, the largest count first; with equal counts, the
        smaller label first.
    """
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (divmod(place, len(confusion)) for place in places.tolist())
    return [(row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _matrix(confusion, classes, title):
    has_counts = len(classes) <= _MOST_COUNTS
    cell = max(_CELL, width_of(f"{confusion.max():,}") + 0.1) if has_counts else _CELL
    small = {} if has_counts else {"size": 5}
    names = [shortened(name, _NAME) for name in classes]
    room = max(map(width_of, names)) + 0.1
    left, side = EDGE + 0.2 + room, cell * len(classes)
    note = "in a cell: examples; colour: their share of the row" if has_counts else ""
    note = note or "in a cell: the share of the row in per cent; none: less than 1 %"
    least = max(width_of(note), width_of(title, weight="bold") * TITLE_SIZE / SMALL_SIZE)
    width = max(left + side + 0.2, least + 3 * EDGE)
    sheet = Sheet(width, 0.3 + room + side + 0.6, title, note, SCREEN)
    top = sheet.top + 0.25 + room

    rows = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, rows, out=np.full(confusion.shape, np.nan), where=rows > 0)
    sheet.image(left, top, side, side, colours(shares))
    for place, name in enumerate(names):
        middle = (place + 0.5) * cell
        sheet.text(left - 0.06, top + middle, name, va="center_baseline", ha="right")
        sheet.text(left + middle, top - 0.06, name, va="bottom", ha="center", rotation=90)
    sheet.text(EDGE, top + side / 2, "label", size=TEXT_SIZE, va="center", rotation=90)
    sheet.text(left + side / 2, sheet.top + 0.06, "prediction", size=TEXT_SIZE, ha="center")
    for row, column in zip(*np.nonzero(confusion), strict=True):
        text = f"{confusion[row, column]:,}" if has_counts else f"{shares[row, column]:.0%}"[:-1]
        if text == "0":
            continue
        ink = "white" if shares[row, column] < 0.5 else INK
        place = left + (column + 0.5) * cell, top + (row + 0.5) * cell
        sheet.text(*place, text, va="center_baseline", ha="center", color=ink, **small)
    length = min(2.0, max(side, 1.0))
    sheet.scale(left, top + side + 0.12, length, "share of the row", {0: "0%", 1: "100%"})
    return sheet


def _pairs(confusion, classes, title):
    pairs = most_confused(confusion, MOST_PAIRS)
    counts = confusion.sum(axis=1)
    names = [
        f"{shortened(classes[label], _NAME)} → {shortened(classes[prediction], _NAME)}"
        for label, prediction, _ in pairs
    ]
    left = EDGE + max(map(width_of, names), default=0) + 0.08
    note = "label → prediction; at the right the examples, and their part of the label's"
    sheet = Sheet(left + _BARS + 1.1, 0.1 + _BAR * len(pairs) + 0.1, title, note, SCREEN)
    for place, (name, (label, _, count)) in enumerate(zip(names, pairs, strict=True)):
        top = sheet.top + 0.06 + place * _BAR
        length = _BARS * count / pairs[0][2]
        sheet.text(left - 0.06, top + _BAR / 2, name, va="center_baseline", ha="right")
        sheet.image(left, top + 0.025, length, _BAR - 0.05, colours(np.full((1, 1), 0.35)))
        number = f"{count:,}  ({count / counts[label]:.0%})"
        sheet.text(left + length + 0.06, top + _BAR / 2, number, va="center_baseline")
    if not pairs:
        sheet.text(EDGE, sheet.top, "no example is confused", color=FAINT)
    return sheet
