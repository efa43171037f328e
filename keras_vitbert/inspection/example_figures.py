"""Figures of examples and answers: confusion, images, and what blocks attend to."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from keras_vitbert.inspection.drawing import (
    BLUE,
    CHOSEN,
    MAP,
    bare,
    colour_bar,
    draw_table,
    new_figure,
    shortened,
)

MOST_CLASSES, MOST_PAIRS = 100, 40  # of a confusion matrix; of the most confused pairs otherwise
_MOST_COUNTS = 20  # most classes of a matrix whose cells have room for counts


def confusion_figure(confusion: np.ndarray, classes: list[str], title: str) -> Figure:
    """A confusion matrix `(classes, classes)`, labels down, or the most confused pairs of many."""
    if len(classes) > MOST_CLASSES:
        return _pairs_figure(confusion, classes, title)
    counts = confusion.sum(axis=1, keepdims=True)
    shares = np.divide(confusion, counts, out=np.full(confusion.shape, np.nan), where=counts > 0)
    has_counts = len(classes) <= _MOST_COUNTS
    if has_counts:
        note = "in a cell: examples; colour: their share of the row"
        texts = [[f"{count:,}" if count else "" for count in row] for row in confusion]
    else:
        note = "in a cell: the share of the row in per cent; none: less than 1 %"
        texts = [[f"{100 * x:.0f}" if x >= 0.005 else "" for x in row] for row in shares]
    cell = max(0.19, 0.06 * len(f"{confusion.max():,}")) if has_counts else 0.17
    side = max(2.2, cell * len(classes))
    figure = new_figure(side + 1.6, side + 2, title, note)
    axes = figure.subplots()
    names = [shortened(name, 24) for name in classes]
    draw_table(axes, shares, texts, names, names, size=6.5 if has_counts else 5)
    axes.tick_params(axis="x", labelrotation=90)
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="prediction", ylabel="label")
    colour_bar(figure, axes, "share of the row", format="{x:.0%}")
    return figure


def most_confused(confusion: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Most confused pairs (label, prediction, count); of equal counts, the smaller label first."""
    wrong = confusion * (1 - np.eye(len(confusion), dtype=int))
    places = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = (divmod(place, len(confusion)) for place in places.tolist())
    return [(row, column, int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _pairs_figure(confusion: np.ndarray, classes: list[str], title: str) -> Figure:
    pairs = most_confused(confusion, MOST_PAIRS)
    note = "label → prediction; beside the bar the examples, and their part of the label's"
    figure = new_figure(6, 0.6 + 0.15 * max(1, len(pairs)), title, note)
    axes = figure.subplots()
    counts = confusion.sum(axis=1)
    names = [" → ".join(shortened(classes[n], 24) for n in pair[:2]) for pair in pairs]
    bars = axes.barh(range(len(pairs)), [count for *_, count in pairs], color=BLUE)
    texts = [f"{count:,}  ({count / counts[label]:.0%})" for label, _, count in pairs]
    axes.bar_label(bars, texts, padding=3)
    axes.set(xticks=[], title="" if pairs else "no example is confused")
    axes.set_yticks(range(len(pairs)), names)
    axes.margins(x=0.2, y=0.01)
    axes.invert_yaxis()
    return figure


def image_blocks(
    title: str,
    image: np.ndarray,
    values: np.ndarray,
    block: int,
    low: float | None = None,
    note: str = "",
) -> Figure:
    """An image, the values of its patches in one block over it, and small ones of every block.

    Args:
        title: names the values.
        image: uint8 `(size, size, 3)`.
        values: `(blocks, patches)`, row by row.
        block: the one that is shown large.
        low: the value of the darkest colour; None for the smallest of each block.
        note: shown below the large ones.
    """
    columns = 6
    rows = -(-len(values) // columns)
    figure = new_figure(6, 3.2 + 1.1 * rows, title)
    ratios = [3, 1.1 * rows]
    large, small = figure.subfigures(2, 1, height_ratios=ratios, squeeze=False)[:, 0]
    seen, chosen = large.subplots(1, 2)
    seen.imshow(image)
    seen.set_title("as the model sees it")
    heat = _overlay(chosen, image, values[block], low)
    chosen.set(title=f"block {block}", xlabel=note)
    large.colorbar(heat, ax=chosen, shrink=0.8)
    bare(seen)
    grid = small.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(values) :]:
        axes.set_axis_off()
    for number, (axes, some) in enumerate(zip(grid, values, strict=False)):
        _overlay(axes, image, some, low)
        colour = CHOSEN if number == block else "black"
        axes.set_title(f"block {number}", color=colour, loc="center")
    return figure


def _overlay(axes: Axes, image: np.ndarray, values: np.ndarray, low: float | None) -> AxesImage:
    """Draws the colours of the patches, which it returns, over the image in grey."""
    side, grid = len(image), round(len(values) ** 0.5)
    patches, extent = values.reshape(grid, grid), (0, side, side, 0)
    axes.imshow(image.mean(-1), "gray", vmin=0, vmax=255, extent=extent)
    bare(axes)
    return axes.imshow(patches, MAP, alpha=0.7, vmin=low, interpolation="nearest", extent=extent)


def text_blocks(
    title: str,
    tokens: list[str],
    rows: dict[str, np.ndarray],
    block: int,
    low: float | None = None,
) -> Figure:
    """Bars of the tokens' values in one block above the values of every block, each on its scale.

    `rows` map what attends, or `every token`, to `(blocks, tokens)`; `low` is that of
    `image_blocks`.
    """
    count = len(next(iter(rows.values())))
    width = min(16, max(4, 1.5 + 0.2 * len(tokens)))
    heights = [1, 0.3 + 0.16 * count] * len(rows)
    figure = new_figure(width, 0.2 + 0.9 * len(rows) + sum(heights), title)
    grid = figure.subplots(2 * len(rows), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    for (name, values), bars, maps in zip(rows.items(), grid[::2], grid[1::2], strict=True):
        begin = values.min(axis=1, keepdims=True) if low is None else low
        scaled = (values - begin) / np.maximum((values - begin).max(axis=1, keepdims=True), 1e-30)
        bars.bar(range(len(tokens)), values[block], color=MAP(scaled[block]))
        bars.set_title(f"{name}, block {block}")
        bars.tick_params(labelbottom=False, length=0)
        maps.imshow(scaled, MAP, aspect="auto", vmin=0, vmax=1)
        maps.set_yticks(range(count), [f"block {n}" for n in range(count)])
        maps.get_yticklabels()[block].set_color(CHOSEN)
        maps.set_xticks(range(len(tokens)), tokens, rotation=90)
        maps.tick_params(length=0, labelbottom=True)
        maps.spines[:].set_visible(False)
    return figure
