"""Mean activations as pictures for TensorBoard: an overview of all blocks, and some of them."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_vitbert.inspection import heat_maps
from keras_vitbert.inspection.co_activation import TOP, overlap, rank_correlation
from keras_vitbert.inspection.heat_maps import by_preference, draw_heat_maps
from keras_vitbert.inspection.sheet import EDGE, SCREEN, Sheet, spread, style

_STRIP = 800  # dots for the units, unless there are more units
_NOTE = (
    f"overlap: the share of the top {TOP:.0%} of the units in common (by chance {TOP:.2f}); "
    "correlation: of the ranks"
)


def activation_pictures(image, text, step):
    """The pictures of a step.

    Args:
        image, text: `(blocks, D)`, mean absolute activations.
        step: int.

    Returns:
        dict of `block_0` ..., for the first, the middle and the last block, and `overview` to uint8
        `(height, width, 3)`.
    """
    with style():
        blocks = {
            f"block_{block}": _block_sheet(image[block], text[block], block, step).picture()
            for block in spread(range(len(image)), 3)
        }
        return {**blocks, "overview": _overview(image, text, step).picture()}


def _block_sheet(image, text, block, step):
    """One block: heat maps of the units by index, and sorted by the modality they prefer."""
    numbers = {
        "overlap": [f"{overlap(image, text):.2f}"],
        "correlation": [f"{rank_correlation(image, text):.2f}"],
    }
    title = f"block {block}, step {step:,}"
    sheet, bottom, width = _sheet(title, _NOTE, {"by index": (image, text)}, numbers, 0.63)
    order = by_preference(image, text)
    ordered = {"sorted": (image[order], text[order])}
    bottom = draw_heat_maps(sheet, bottom + 0.2, width, ordered)
    left, right = f"◂ {np.sum(image > text)} prefer images", f"{np.sum(image < text)} prefer text ▸"
    sheet.text(heat_maps.LEFT, bottom - 0.04, left)
    sheet.text(heat_maps.LEFT + width, bottom - 0.04, right, ha="right")
    return sheet


def _overview(image, text, step):
    """Heat maps of all blocks, the units by index, with the scale and the overlap of each."""
    blocks = {f"block {block}": pair for block, pair in enumerate(zip(image, text, strict=True))}
    numbers = {
        name: [f"{measure(*pair):.2f}" for pair in blocks.values()]
        for name, measure in (("overlap", overlap), ("correlation", rank_correlation))
    }
    return _sheet(f"all blocks, step {step:,}", _NOTE, blocks, numbers)[0]


def _sheet(title, note, blocks, numbers, room=0.0):
    """A sheet with heat maps by index and their scale, and `room` inches between these.

    Also returns how far down the heat maps reach, and the width of their rows, in inches.
    """
    [units] = {len(values) for pair in blocks.values() for values in pair}
    width = units * max(1, _STRIP // units) / SCREEN
    whole = heat_maps.LEFT + width + heat_maps.RIGHT + heat_maps.NUMBER * len(numbers)
    height = heat_maps.BLOCK * len(blocks) + room + 0.87
    sheet = Sheet(whole, height, title, note, SCREEN)
    bottom = draw_heat_maps(sheet, sheet.top, width, blocks, numbers)
    marks = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(0, units - 1)
    places = {(unit + 0.5) / units: f"{unit:.0f}" for unit in marks if 0 <= unit < units}
    sheet.marks(heat_maps.LEFT, bottom - 0.05, width, places)
    sheet.text(EDGE, bottom - 0.01, "unit")
    sheet.scale(heat_maps.LEFT, sheet.height - 0.48, width / 2, heat_maps.LABEL)
    return sheet, bottom, width
