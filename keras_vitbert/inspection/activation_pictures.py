"""Mean activations as pictures for TensorBoard: one of every block, and an overview."""

import functools

import numpy as np
from matplotlib.ticker import MaxNLocator

from keras_vitbert.inspection import heat_maps
from keras_vitbert.inspection.co_activation import TOP, overlap, rank_correlation
from keras_vitbert.inspection.heat_maps import HeatMaps, by_preference
from keras_vitbert.inspection.sheet import EDGE, SCREEN, Sheet, style

_STRIP = 800  # dots for the units, unless they are more
_OVERLAP = f"overlap: the share of the top {TOP:.0%} of the units in common (by chance {TOP:.2f})"


def activation_pictures(image, text, step):
    """The pictures of a step.

    Args:
        image, text: `(blocks, D)`, mean absolute activations.
        step: int.

    Returns:
        dict of `block_0` ... and `overview` to uint8 `(height, width, 3)`.
    """
    with style():
        pictures = {
            f"block_{block}": _block_picture(*pair, block, step)
            for block, pair in enumerate(zip(image, text, strict=True))
        }
        return {**pictures, "overview": _overview(image, text, step)}


def _block_picture(image, text, block, step):
    """One block: heat maps of the units by index, and sorted by the modality that they prefer."""
    sheet, by_index, ordered, counts = _block_sheet(len(image))
    sheet.title.set_text(f"block {block}, step {step:,}")
    found = f"{overlap(image, text):.2f}", f"{rank_correlation(image, text):.2f}"
    by_index.show([(image, text)], *([number] for number in found))
    order = by_preference(image, text)
    ordered.show([(image[order], text[order])])
    counts[0].set_text(f"◂ {np.count_nonzero(image > text)} prefer images")
    counts[1].set_text(f"{np.count_nonzero(image < text)} prefer text ▸")
    return sheet.picture()


def _overview(image, text, step):
    """Heat maps of all blocks, the units by index, with the scale and the overlap of each."""
    names = tuple(f"block {block}" for block in range(len(image)))
    sheet, maps = _sheet(names, image.shape[1], ("overlap",), _OVERLAP)
    sheet.title.set_text(f"all blocks, step {step:,}")
    pairs = list(zip(image, text, strict=True))
    maps.show(pairs, [f"{overlap(*pair):.2f}" for pair in pairs])
    return sheet.picture()


# What stays the same from step to step is drawn once: most of the time goes to the letters.


@functools.cache
def _block_sheet(units):
    """The sheet of a block, its heat maps by index and sorted, and the texts below the latter."""
    numbers, note = ("overlap", "correlation"), f"{_OVERLAP}; correlation: of the ranks"
    sheet, by_index = _sheet(("by index",), units, numbers, note, 0.63)
    top, width = by_index.bottom + 0.2, by_index.width
    ordered = HeatMaps(sheet, top, width, ["sorted"], units, animated=True)
    counts = [
        sheet.text(left, ordered.bottom - 0.04, "", ha=side, animated=True)
        for left, side in ((heat_maps.LEFT, "left"), (heat_maps.LEFT + width, "right"))
    ]
    return sheet, by_index, ordered, counts


@functools.cache
def _sheet(names, units, numbers, note, room=0.0):
    """A sheet and its heat maps by index, with some inches of room between these and the scale."""
    width = units * max(1, _STRIP // units) / SCREEN
    whole = heat_maps.LEFT + width + heat_maps.RIGHT + heat_maps.NUMBER * len(numbers)
    height = heat_maps.BLOCK * len(names) + room + 0.87
    sheet = Sheet(whole, height, "", note, SCREEN)
    sheet.title.set_animated(True)
    maps = HeatMaps(sheet, sheet.top, width, names, units, numbers, animated=True)
    marks = MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]).tick_values(0, units - 1)
    places = {(unit + 0.5) / units: f"{unit:.0f}" for unit in marks if 0 <= unit < units}
    sheet.marks(heat_maps.LEFT, maps.bottom - 0.05, width, places)
    sheet.text(EDGE, maps.bottom - 0.01, "unit")
    sheet.scale(heat_maps.LEFT, sheet.height - 0.48, width / 2, maps.label)
    return sheet, maps
