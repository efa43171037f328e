"""Heat maps of mean activations: for every block a row for images above a row for text."""

import numpy as np

from keras_vitbert.inspection.sheet import EDGE, SCREEN, TEXT_SIZE, colours

LEFT, RIGHT = 0.9, 0.56  # inches beside the rows
NUMBER = 0.6  # further inches at the right for each further number
HEAD, ROW, BLOCK = 0.17, 0.125, 0.32  # inches: above the blocks, a row, and a block with the gap
_REPEATED = round(ROW * SCREEN)
LABEL = "mean absolute activation / scale"  # of their colour scale


def draw_heat_maps(sheet, top, width, blocks, columns=None):
    """Draws heat maps of some blocks, one below another, with numbers at the right.

    The two rows of a block share a scale from 0 to the first number at its right: activations grow
    with training and from block to block, and one scale for all would show only the last block.

    Args:
        sheet: `keras_vitbert.inspection.sheet.Sheet`.
        top, width: float, inches.
        blocks: dict of a name to (image, text), `(D,)` each.
        columns: dict of the heading of further numbers to a list of str, one per block.

    Returns:
        float, inches down to their end.
    """
    scales = [scale_top(pair) for pair in blocks.values()]
    columns = {"scale to": [f"{high:.3g}" for high in scales], **(columns or {})}
    edges = [LEFT + width + RIGHT - EDGE + NUMBER * place for place in range(len(columns))]
    top += HEAD
    for edge, column in zip(edges, columns, strict=True):
        sheet.text(edge, top - 0.05, column, va="baseline", ha="right")
    for (name, pair), high, *numbers in zip(blocks.items(), scales, *columns.values(), strict=True):
        middle = top + ROW
        sheet.text(EDGE, middle, name, va="center_baseline", size=TEXT_SIZE)
        for place, modality in enumerate(("images", "text")):
            row_middle = top + (place + 0.5) * ROW
            sheet.text(LEFT - 0.05, row_middle, modality, va="center_baseline", ha="right")
        # Repeated rows, so that smoothing does not mix images and text.
        cells = colours(np.stack(pair), high).repeat(_REPEATED, axis=0)
        sheet.image(LEFT, top, width, 2 * ROW, cells)
        for edge, number in zip(edges, numbers, strict=True):
            sheet.text(edge, middle, number, va="center_baseline", ha="right")
        top += BLOCK
    return top


def by_preference(image, text):
    """The units, from those that respond most to images to those that respond most to text.

    The order is that of `(image - text) / (image + text)`, which is the order of their ratio: it
    stays the same if one modality is stronger in all units. Of equal units, the one with the
    smaller index comes first.

    Args:
        image, text: `(D,)`.

    Returns:
        int `(D,)`, indices of units.
    """
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = image + text
    preference = np.divide(image - text, total, out=np.zeros_like(total), where=total > 0)
    return np.argsort(-preference, kind="stable")


def scale_top(values):
    """The value of the brightest colour, which leaves out the few units far above all others.

    Args:
        values: array of any shape.

    Returns:
        float: the 99th percentile, or the largest value where that is 0. Values that are not finite
        count as 0.
    """
    values = np.where(np.isfinite(values), values, 0)
    return float(np.percentile(values, 99)) or float(np.max(values))
