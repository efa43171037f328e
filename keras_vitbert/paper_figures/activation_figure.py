"""Figure 3: which units respond to images and which to text, and how far they become the same."""

import numpy as np
from matplotlib.ticker import EngFormatter

from keras_vitbert.inspection.co_activation import TOP, co_activation
from keras_vitbert.inspection.heat_maps import (
    BLOCK,
    HEAD,
    LABEL,
    LEFT,
    RIGHT,
    by_preference,
    draw_heat_maps,
)
from keras_vitbert.inspection.sheet import COLUMN, FAINT, TEXT_SIZE, Sheet, shades, spread

_CURVE = 0.95  # inches, the height of the curves
_MOST_NAMED = 8  # most lines that a legend names; more of them get a colour scale
_MARKERS = "osD^vP*X"
_CURVES = {
    "overlap": (f"overlap of the top {TOP:.0%}", TOP),
    "correlation": ("rank correlation", 0.0),
}


def chosen_blocks(text, count):
    """The blocks to draw.

    Args:
        text: str: indices such as `0,5,11`, `all`, or "" for the first, the middle and the last.
        count: int, blocks of the model.

    Returns:
        list of int, ascending.

    Raises:
        ValueError: there is no such block.
    """
    if not text:
        return sorted({0, count // 2, count - 1})
    if text == "all":
        return list(range(count))
    known = {str(number): number for number in range(count)}
    chosen = {part.strip() for part in text.split(",")}
    if not chosen <= known.keys():
        raise ValueError(f"blocks={text}: give numbers from 0 to {count - 1}, or all")
    return sorted(known[part] for part in chosen)


def draw(activations, name, blocks=""):
    """Heat maps of some blocks at the first, the middle and the last step, and curves below.

    The units of a block have one order at all steps: from those that prefer images to those that
    prefer text at the last step, see `by_preference`.

    Args:
        activations: dict of step to (image, text), `(blocks, D)` each.
        name: str, of the run.
        blocks: str, see `chosen_blocks`.

    Returns:
        `Sheet`.
    """
    steps = spread(sorted(activations), 3)
    last = activations[steps[-1]]
    count, units = last[0].shape
    blocks = chosen_blocks(blocks, count)
    orders = {block: by_preference(last[0][block], last[1][block]) for block in blocks}

    lines = count if len(activations) > 1 else 0
    legend = 0.6 if lines > _MOST_NAMED else 0.13 * -(-lines // 4) + 0.2
    height = len(steps) * (HEAD + len(blocks) * BLOCK) + _CURVE + legend + 1.36
    sheet = Sheet(COLUMN, height, "What hidden units respond to", f"run: {name}")

    top, width = sheet.top, COLUMN - LEFT - RIGHT
    for step in steps:
        sheet.text(LEFT, top + HEAD - 0.05, f"step {step:,}", va="baseline", size=TEXT_SIZE)
        image, text = activations[step]
        shown = {f"block {b}": (image[b][order], text[b][order]) for b, order in orders.items()}
        top = draw_heat_maps(sheet, top, width, shown)
    sheet.text(LEFT, top - 0.02, "◂ prefer images")
    sheet.text(COLUMN - RIGHT, top - 0.02, "prefer text ▸", ha="right")
    order = f"{units} units, in the order of step {steps[-1]:,}"
    sheet.text(LEFT + width / 2, top + 0.1, order, size=TEXT_SIZE, ha="center")
    sheet.scale(LEFT, top + 0.36, width, LABEL)
    _draw_curves(sheet, top + 0.86, activations)
    _draw_legend(sheet, top + _CURVE + 1.36, lines)
    sheet.text(COLUMN / 2, sheet.height - 0.18, "dashed: by chance", ha="center")
    return sheet


def _draw_curves(sheet, top, activations):
    """Two axes side by side: a line per block over the steps; for one step, a point per block."""
    steps = sorted(activations)
    found = [co_activation(*activations[step]) for step in steps]
    left, gap = 0.36, 0.42
    width = (COLUMN - left - gap - 0.14) / 2
    for place, (name, (title, by_chance)) in enumerate(_CURVES.items()):
        values = np.stack([numbers[name] for numbers in found])
        count = values.shape[1]
        axes = sheet.axes(left + place * (width + gap), top + 0.16, width, _CURVE, label=name)
        axes.set_title(title)
        axes.axhline(by_chance, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
        if len(steps) == 1:
            axes.plot(range(count), values[0], "o-", color=shades(1)[0])
            axes.set_xlabel(f"block, at step {steps[0]:,}")
            axes.set_xticks(list(range(0, count, -(-count // 6))))
        else:
            for block, colour in enumerate(shades(count)):
                marker = _MARKERS[block] if count <= _MOST_NAMED else None
                label = f"block {block}"
                axes.plot(steps, values[:, block], marker=marker, color=colour, label=label)
            axes.set_xlabel("step")
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_ylim(min(0.0, values.min()) - 0.05, 1.05)
        axes.locator_params(axis="y", nbins=5)


def _draw_legend(sheet, top, lines):
    """Which line is which block, across the sheet."""
    if lines > _MOST_NAMED:
        cells = np.rint(255 * shades(lines)[None, :, :3]).astype(np.uint8)
        texts = {(n + 0.5) / lines: f"{n}" for n in range(0, lines, -(-lines // 8))}
        sheet.scale(LEFT, top, COLUMN - LEFT - RIGHT, "block", texts, cells)
    elif lines:
        sheet.legend(top, sheet.figure.axes[-1].get_lines()[1:], columns=4)
