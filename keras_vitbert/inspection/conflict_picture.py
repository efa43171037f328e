"""The conflict of both tasks' gradients in every block, as bars with numbers."""

import numpy as np

from keras_vitbert.inspection.sheet import (
    EDGE,
    SCREEN,
    TEXT_SIZE,
    Sheet,
    colours,
    style,
    width_of,
)

_ROW, _PANEL, _NUMBER, _GAP = 0.18, 1.5, 0.5, 0.15  # inches
_HEADS = {
    "cosine": "cosine",
    "norm_ratio": "norm, text / image",
    "opposite_sign": "entries of opposite sign",
}
_NEGATIVE, _POSITIVE = (colours(np.array([[place]])) for place in (0.75, 0.35))
_LINE = np.full((1, 1, 3), 0x9A, np.uint8)


def conflict_picture(values, step):
    """Draws what a probing step found.

    Args:
        values: dict of a block's name, or `all`, to a dict of floats, see
            `keras_vitbert.training.gradient_conflict.GradientConflict.values`.
        step: int.

    Returns:
        uint8 `(height, width, 3)`.
    """
    with style():
        return _sheet(values, step).picture()


def _sheet(values, step):
    names = [name.replace("_", " ") for name in values]
    left = EDGE + max(map(width_of, names)) + 0.1
    width = left + (_PANEL + _NUMBER + _GAP) * len(_HEADS)
    note = "A panel's longest bar is its largest number. Opposite signs: 0.50 by chance."
    height = 0.25 + _ROW * len(names) + 0.1
    sheet = Sheet(width, height, f"Both gradients by block, step {step:,}", note, SCREEN)
    top = sheet.top + 0.25
    for row, name in enumerate(names):
        middle = top + (row + 0.5) * _ROW
        sheet.text(left - 0.08, middle, name, va="center_baseline", ha="right")
    for column, (key, head) in enumerate(_HEADS.items()):
        start = left + column * (_PANEL + _NUMBER + _GAP)
        numbers = np.array([found[key] for found in values.values()])
        sheet.text(start, top - 0.07, head, va="baseline", size=TEXT_SIZE)
        has_sign = key == "cosine"
        zero, room = (start + _PANEL / 2, _PANEL / 2) if has_sign else (start, _PANEL)
        sizes = np.where(np.isfinite(numbers), np.abs(numbers), 0)
        lengths = room * sizes / (sizes.max() or 1.0)
        for row, (number, length) in enumerate(zip(numbers, lengths, strict=True)):
            edge = top + row * _ROW + 0.03
            begin = zero - length if number < 0 else zero
            colour = _NEGATIVE if number < 0 else _POSITIVE
            sheet.image(begin, edge, max(length, 0.01), _ROW - 0.06, colour)
            place = start + _PANEL + _NUMBER, top + (row + 0.5) * _ROW
            text = f"{number:.3f}" if has_sign else f"{number:.2f}"
            sheet.text(*place, text, va="center_baseline", ha="right")
        if has_sign:
            sheet.image(zero, top, 0.01, _ROW * len(names), _LINE)
    return sheet
