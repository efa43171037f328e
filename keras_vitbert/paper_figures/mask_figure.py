"""Figure 5: the masks themselves of the first, the middle and the last block, update by update."""

import numpy as np

from keras_vitbert.inspection.mask_pictures import averaged
from keras_vitbert.model.shared_weights import KINDS
from keras_vitbert.paper_figures.style import (
    COLUMN,
    EDGE,
    MAP,
    SMALL_SIZE,
    TEXT_SIZE,
    Sheet,
    header_height,
    shortened,
    spread,
)

MOST_UPDATES = 8  # strips of a block
MOST_CELLS = 400  # cells beside each other: on paper, three dots of 1/300 inch each
_FROM_UNITS = ("output", "mlp_out")  # their kernels go from the layer's units to the hidden state
_SHORT = {"query": "Q", "key": "K", "value": "V", "output": "O", "mlp_in": "MLP in"}
_LEFT, _RIGHT, _GAP = 0.62, 0.08, 0.05  # inches


def cleared(update, block):
    """What is cleared of a block's matrices: dict of kind to `(hidden_dim, units of the layer)`.

    Args:
        update: `MaskValues`.
        block: str, one of its `kept`.

    Returns:
        bool arrays; the hidden state is along the first axis of all, be it input or output.
    """
    kept = update.kept[block]
    return {
        kind: ~(kept[kind].T if kind in _FROM_UNITS else kept[kind])
        for kind in KINDS
        if kind in kept
    }


def factor_of(shapes, most=MOST_CELLS):
    """Over how many entries along both axes cells are averaged.

    Args:
        shapes: list of the matrices' shapes, which stand beside each other.
        most: int, cells beside each other.

    Returns:
        int: the smallest factor that makes few enough cells; one that divides all the shapes if
        there is such a one below twice that.
    """
    least = max(1, -(-sum(shape[1] for shape in shapes) // most))
    common = np.gcd.reduce(np.array(shapes).ravel())
    divisors = (factor for factor in range(least, 2 * least) if common % factor == 0)
    return int(next(divisors, least))


def strips(updates, block, factor):
    """The matrices of a block at each update, averaged.

    Returns:
        list of dicts of kind to float arrays, fractions of entries that are cleared.
    """
    return [
        {kind: averaged(matrix, factor) for kind, matrix in cleared(update, block).items()}
        for update in updates
    ]


def draw(updates, name):
    """A strip an update, block below block: the six matrices beside each other, to scale.

    Args:
        updates: list of `MaskValues`, the steps ascending, with the same blocks in `kept`; of many
            some are left out, not the first and not the last.
        name: str, of the run.

    Returns:
        `matplotlib.figure.Figure`.
    """
    count = len(updates)
    updates = spread(updates, MOST_UPDATES)
    blocks = list(updates[-1].kept)
    shapes = {kind: m.shape for kind, m in cleared(updates[-1], blocks[0]).items()}
    factor = factor_of(list(shapes.values()))
    inch = (COLUMN - _LEFT - _RIGHT - _GAP * (len(shapes) - 1)) / sum(s[1] for s in shapes.values())
    strip = inch * max(shape[0] for shape in shapes.values())
    row = max(strip, 0.13) + 0.04

    note = shortened(f"run: {name}", COLUMN - 2 * EDGE)
    if len(updates) < count:
        note += f"\n{len(updates)} of {count} updates"
    height = header_height(note) + len(blocks) * (0.2 + 0.13 + len(updates) * row + 0.06) + 0.66
    sheet = Sheet(COLUMN, height, "The gradient masks", note)
    top = sheet.top
    for block in blocks:
        sheet.text(EDGE, top + 0.03, block.replace("_", " "), size=TEXT_SIZE, weight="bold")
        left = _LEFT
        for kind, shape in shapes.items():
            width = inch * shape[1]
            label = _SHORT.get(kind, "MLP out")
            sheet.text(left + width / 2, top + 0.19, label, size=SMALL_SIZE, ha="center")
            left += width + _GAP
        top += 0.33
        for update, matrices in zip(updates, strips(updates, block, factor), strict=True):
            left = _LEFT
            for kind, matrix in matrices.items():
                width = inch * shapes[kind][1]
                label = f"{block}, {kind}, step {update.step}"
                axes = sheet.axes(left, top, width, strip, label=label)
                image = axes.imshow(matrix, MAP, aspect="auto", vmin=0, vmax=1)
                axes.set(xticks=[], yticks=[])
                left += width + _GAP
            label = f"step {update.step:,}"
            sheet.text(
                _LEFT - 0.06, top + strip / 2, label, size=SMALL_SIZE, va="center", ha="right"
            )
            top += row
        top += 0.06
    sheet.scale(
        _LEFT, top + 0.08, COLUMN - _LEFT - _RIGHT - 0.1, image, "fraction of cleared entries"
    )
    cell = f"a cell: mean of {factor} × {factor} entries" if factor > 1 else "a cell: an entry"
    text = f"{cell}; down: hidden state"
    sheet.text(COLUMN / 2, top + 0.5, text, size=SMALL_SIZE, ha="center")
    return sheet.figure
