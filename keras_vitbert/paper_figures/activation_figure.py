"""Figure 3: which units answer to images and which to text, and how far they become the same."""

import numpy as np
from matplotlib import cm, colors

from keras_vitbert.inspection.activation_pictures import by_preference, scale_top
from keras_vitbert.inspection.co_activation import TOP, co_activation
from keras_vitbert.paper_figures.style import (
    COLUMN,
    EDGE,
    FAINT,
    MAP,
    MARKERS,
    SMALL_SIZE,
    TEXT_SIZE,
    Sheet,
    header_height,
    shades,
    shortened,
    thousands,
)
from pipelines.command_line import UserError

_LEFT, _RIGHT = 0.9, 0.4  # inches beside the rows
_ROW, _GAP, _HEAD = 0.12, 0.07, 0.17  # inches: a row, between blocks, the line above a step
_CURVE = 0.95
_CURVES_HEIGHT = 0.16 + _CURVE + 0.34  # with title and label
_MOST_NAMED = 8  # lines that a legend tells apart; of more a scale gives the colours
_CURVES = {
    "overlap": (f"overlap of the top {TOP:.0%}", TOP),
    "correlation": ("rank correlation", 0.0),
}


def chosen_steps(steps):
    """The first and the last of ascending steps, and the one nearest to their middle."""
    middle = (steps[0] + steps[-1]) / 2
    return sorted({steps[0], min(steps, key=lambda step: abs(step - middle)), steps[-1]})


def chosen_blocks(text, count):
    """The blocks that `--blocks` asks for.

    Args:
        text: str: numbers such as `0,5,11`, `all`, or "" for the first, the middle, and the last.
        count: int, blocks of the model.

    Returns:
        list of int, ascending.

    Raises:
        UserError: there is no such block.
    """
    if not text:
        return sorted({0, count // 2, count - 1})
    if text == "all":
        return list(range(count))
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) < count for part in parts):
        raise UserError(
            f"--blocks={text}: must be numbers from 0 to {count - 1} such as 0,{count - 1}, or all"
        )
    return sorted({int(part) for part in parts})


def rows(activations, steps, blocks):
    """The rows of the heat maps.

    The units of a block stand in one order at all steps: from those that prefer images to those
    that prefer text at the last step, see `by_preference`.

    Args:
        activations: dict of step to (image, text), `(blocks, D)` each.
        steps, blocks: lists of int, those that are shown.

    Returns:
        float array `(steps, blocks, 2, D)`; of the two the first is of images.
    """
    last = activations[max(activations)]
    shown = np.empty((len(steps), len(blocks), 2, last[0].shape[1]))
    for column, block in enumerate(blocks):
        order = by_preference(last[0][block], last[1][block])
        for row, step in enumerate(steps):
            shown[row, column] = [values[block][order] for values in activations[step]]
    return shown


def curves(activations):
    """`overlap` and `correlation` of `co_activation`: dict of name to `(steps, blocks)`."""
    found = [co_activation(*activations[step]) for step in sorted(activations)]
    return {name: np.stack([numbers[name] for numbers in found]) for name in _CURVES}


def draw(activations, name, blocks=""):
    """Heat maps of some blocks at the first, a middle and the last step; below them curves.

    The two rows of a map share a scale, which ends where the number beside it says: activations
    grow with training and from block to block, and one scale for all would show the last only.

    Args:
        activations: dict of step to (image, text), `(blocks, D)` each.
        name: str, of the run.
        blocks: str, see `chosen_blocks`.

    Returns:
        `matplotlib.figure.Figure`.
    """
    steps = chosen_steps(sorted(activations))
    last = activations[max(activations)]
    blocks = chosen_blocks(blocks, len(last[0]))
    shown = rows(activations, steps, blocks)

    note = shortened(f"run: {name}", COLUMN - 2 * EDGE)
    block_height = 2 * _ROW + _GAP
    maps_height = len(steps) * (_HEAD + len(blocks) * block_height)
    height = header_height(note) + maps_height + 0.86 + _CURVES_HEIGHT
    height += _legend_height(len(last[0]) if len(activations) > 1 else 0)
    sheet = Sheet(COLUMN, height, "What hidden units answer to", note)

    top, width = sheet.top, COLUMN - _LEFT - _RIGHT
    for row, step in enumerate(steps):
        sheet.text(_LEFT, top + 0.03, f"step {step:,}", size=TEXT_SIZE)
        if not row:
            sheet.text(COLUMN - EDGE, top + 0.03, "scale to", size=SMALL_SIZE, ha="right")
        top += _HEAD
        for column, block in enumerate(blocks):
            axes = sheet.axes(_LEFT, top, width, 2 * _ROW, label=f"step {step}, block {block}")
            high = scale_top(shown[row, column])
            for place, values in enumerate(shown[row, column]):
                # An image a row: smoothing of many narrow cells shall not mix the two.
                edges = (-0.5, len(values) - 0.5, place + 0.5, place - 0.5)
                axes.imshow(values[None], MAP, vmin=0, vmax=high, extent=edges)
            axes.set(aspect="auto", ylim=(1.5, -0.5))
            axes.set_yticks([0, 1], ["images", "text"])
            axes.set_xticks([])
            axes.tick_params(length=0)
            sheet.text(EDGE, top + _ROW, f"block {block}", va="center", size=TEXT_SIZE)
            number = {"va": "center", "ha": "right", "size": SMALL_SIZE}
            sheet.text(COLUMN - EDGE, top + _ROW, f"{high:.3g}", **number)
            top += block_height
    sheet.text(_LEFT, top - 0.02, "◂ prefer images", size=SMALL_SIZE)
    sheet.text(COLUMN - _RIGHT, top - 0.02, "prefer text ▸", size=SMALL_SIZE, ha="right")
    order = f"{shown.shape[-1]} units, in the order of step {steps[-1]:,}"
    sheet.text(_LEFT + width / 2, top + 0.1, order, size=TEXT_SIZE, ha="center")
    top += 0.36
    scale = cm.ScalarMappable(colors.Normalize(0, 1), MAP)
    bar = sheet.scale(_LEFT, top, width, scale, "mean absolute activation / scale", extend="max")
    bar.set_ticks([0, 0.5, 1])
    top += 0.5
    _draw_curves(sheet, top, sorted(activations), curves(activations))
    return sheet.figure


def _draw_curves(sheet, top, steps, values):
    """Two axes beside each other: a line a block over the steps; of one step a point a block."""
    count = values["overlap"].shape[1]
    left, gap = 0.36, 0.42
    width = (COLUMN - left - gap - 0.14) / 2
    for place, (name, (title, by_chance)) in enumerate(_CURVES.items()):
        axes = sheet.axes(left + place * (width + gap), top + 0.16, width, _CURVE, label=name)
        axes.set_title(title, pad=3, loc="left")
        axes.axhline(by_chance, color=FAINT, linewidth=0.8, linestyle=(0, (4, 2)))
        if len(steps) == 1:
            axes.plot(range(count), values[name][0], "o-", color=shades(1)[0], label="blocks")
            axes.set_xlabel(f"block, at step {steps[0]:,}")
            axes.set_xticks(list(range(0, count, -(-count // 6))))
        else:
            for block, colour in enumerate(shades(count)):
                axes.plot(
                    steps,
                    values[name][:, block],
                    marker=MARKERS[block] if count <= _MOST_NAMED else None,
                    color=colour,
                    label=f"block {block}",
                )
            axes.set_xlabel("step")
            axes.locator_params(axis="x", nbins=4)
            axes.xaxis.set_major_formatter(thousands)
        low = min(0.0, values[name].min())
        axes.set_ylim(low - 0.05, 1.05)
        axes.locator_params(axis="y", nbins=5)
        axes.spines[["top", "right"]].set_visible(False)
    _draw_legend(sheet, top + _CURVES_HEIGHT, axes, count if len(steps) > 1 else 0)


def _legend_height(lines):
    """The inches that tell so many lines apart take."""
    return 0.6 if lines > _MOST_NAMED else 0.13 * -(-lines // 4) + 0.2


def _draw_legend(sheet, top, axes, lines):
    """Which line is which, across the sheet."""
    left, width = _LEFT, COLUMN - _LEFT - _RIGHT
    if lines > _MOST_NAMED:
        few = colors.ListedColormap(shades(lines))
        scale = cm.ScalarMappable(colors.BoundaryNorm(np.arange(lines + 1) - 0.5, lines), few)
        bar = sheet.scale(left, top, width, scale, "block")
        bar.set_ticks(list(range(0, lines, -(-lines // 8))))
        bar.minorticks_off()
    elif lines:
        handles, labels = axes.get_legend_handles_labels()
        sheet.figure.legend(
            handles,
            labels,
            loc="upper center",
            bbox_to_anchor=(0.5, 1 - top / sheet.height),
            ncols=4,
            columnspacing=1.0,
            handlelength=1.6,
            handletextpad=0.4,
            borderaxespad=0,
            borderpad=0,
        )
    foot = top + _legend_height(lines) - 0.18
    sheet.text(COLUMN / 2, foot, "dashed: by chance", size=SMALL_SIZE, ha="center")
