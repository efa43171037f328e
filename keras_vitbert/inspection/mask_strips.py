"""The masks of blocks as a sheet: the six matrices side by side, a strip per update."""

import numpy as np

from keras_vitbert.inspection.sheet import EDGE, TEXT_SIZE, Sheet, colours, spread, width_of
from keras_vitbert.model.shared_weights import KINDS

LABELS = {kind: kind.replace("mlp_", "MLP ") for kind in KINDS}
SPARSITY = "cleared entries", {0: "0%", 0.5: "50%", 1: "100%"}  # label and marks of the scale
MOST_UPDATES = 8  # strips of a block
_FROM_UNITS = ("output", "mlp_out")  # their kernels go from the layer's units to the hidden state
_LEFT, _RIGHT, _GAP = 0.66, 0.42, 0.05  # inches
_SMALLEST = 150  # cells per inch
_HEAD, _FOOT = 0.36, 0.74  # inches above the strips of a block, and below all


def factor_of(shapes, most):
    """The number of entries, along each axis, that a cell averages.

    Args:
        shapes: list of the shapes of the matrices that are side by side.
        most: int, the most cells side by side.

    Returns:
        int: the smallest factor that makes few enough cells; one that divides all shapes if there
        is one below twice that.
    """
    least = -(-sum(shape[1] for shape in shapes) // most)
    common = np.gcd.reduce(np.array(shapes).ravel())
    divisors = (factor for factor in range(least, 2 * least) if common % factor == 0)
    return int(next(divisors, least))


def averaged(matrix, factor):
    """Means over squares of entries; squares at the ends may be smaller.

    Args:
        matrix: bool `(rows, columns)`.
        factor: int, entries along both axes, at most 255.

    Returns:
        float64 `(ceil(rows / factor), ceil(columns / factor))`.
    """
    padded = np.pad(matrix, [(0, -count % factor) for count in matrix.shape])
    sums = padded.reshape(-1, factor, padded.shape[1]).sum(axis=1, dtype=np.uint8)
    sums = sums.reshape(len(sums), -1, factor).sum(axis=2)
    heights, widths = (
        np.minimum(factor, count - np.arange(0, count, factor)) for count in matrix.shape
    )
    return sums / np.outer(heights, widths)


def mask_sheet(updates, blocks, width, dots_per_inch, note="", count=None):
    """Strips of the masks of some blocks; in each, the hidden state runs from top to bottom.

    Args:
        updates: list of `MaskValues`, the steps ascending. At most `MOST_UPDATES` are shown,
            including the first and the last.
        blocks: list of str, all in `kept` of every update.
        width: float, inches.
        dots_per_inch: int.
        note: str.
        count: int, how many updates there were, if `updates` are only some of them.

    Returns:
        `Sheet`.
    """
    count, updates = count or len(updates), spread(updates, MOST_UPDATES)
    if len(updates) < count:
        note = f"{note}\n{len(updates)} of {count} updates".strip()
    kept = updates[-1].kept[blocks[0]]
    kinds = [kind for kind in KINDS if kind in kept]
    shapes = [kept[kind].shape[:: -1 if kind in _FROM_UNITS else 1] for kind in kinds]
    room = int((width - _LEFT - _RIGHT - _GAP * (len(shapes) - 1)) * dots_per_inch)
    factor = factor_of(shapes, room * _SMALLEST // dots_per_inch)
    columns = sum(-(-shape[1] // factor) for shape in shapes)
    cell = max(1, room // columns) / dots_per_inch
    strip = -(-shapes[0][0] // factor) * cell
    row = max(strip, 0.13) + 0.04
    right = _LEFT + columns * cell + _GAP * (len(shapes) - 1)

    height = len(blocks) * (_HEAD + len(updates) * row + 0.06) + _FOOT
    sheet = Sheet(width, height, "Gradient masks", note, dots_per_inch)
    top = sheet.top
    for block in blocks:
        sheet.text(EDGE, top + 0.03, block.replace("_", " "), size=TEXT_SIZE, weight="bold")
        top += _HEAD
        sheet.text(right + _RIGHT - EDGE, top - 0.05, "cleared", va="baseline", ha="right")
        for update in updates:
            left = _LEFT
            for kind in kinds:
                cells = colours(averaged(~update.kept[block][kind], factor))
                if kind in _FROM_UNITS:
                    cells = cells.swapaxes(0, 1)
                matrix_width = cells.shape[1] * cell
                sheet.image(left, top, matrix_width, strip, cells)
                if update is updates[0]:
                    fits = width_of(LABELS[kind]) <= matrix_width
                    label = LABELS[kind] if fits else kind[0].upper()
                    middle = left + matrix_width / 2
                    sheet.text(middle, top - 0.05, label, va="baseline", ha="center")
                left += matrix_width + _GAP
            for edge, text in (
                (_LEFT - 0.06, f"step {update.step:,}"),
                (right + _RIGHT - EDGE, f"{update.of_blocks[block]:.1%}"),
            ):
                sheet.text(edge, top + strip / 2, text, va="center_baseline", ha="right")
            top += row
        top += 0.06
    sheet.scale(_LEFT, top + 0.04, right - _LEFT, *SPARSITY)
    cell = f"the mean of {factor} × {factor} entries" if factor > 1 else "an entry"
    text = f"a cell: {cell}\ndown: the hidden state, across: the layer's units"
    sheet.text(EDGE, top + 0.46, text)
    return sheet
