"""Pictures of the masks, at every update: how much is cleared where, and which entries."""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.mask_values import MaskValues, fraction
from keras_vitbert.inspection.pictures import (
    INK,
    blank,
    cells,
    colours,
    labelled_rows,
    legend,
    stack_columns,
    stack_rows,
    titled,
    words,
)
from keras_vitbert.model.shared_weights import KINDS

_MATRICES = ("query", "key", "value", "output", "mlp_in", "mlp_out")
_FROM_UNITS = ("output", "mlp_out")  # their kernels go from the layer's units to the hidden state
_WIDEST = 860  # pixels of the six matrices beside each other
_MOST_ENLARGED = 12  # pixels an entry
_MOST_STRIPS = 8
_CELL = 60, 24  # pixels of a cell of the chart
_GAP = 6


class MaskPictures(keras.callbacks.Callback):
    """Shows the masks after every update: numbers, a chart, and pictures of three blocks.

    In TensorBoard, at the step that made the update, there are the sparsity of every block
    (`mask_sparsity/block_0` ...) and of every kind of weight (`mask_sparsity/kind/query` ...),
    `masks/sparsity` with both in one chart, and `masks/block_0` ... of the first, the middle and
    the last block, a strip for each update so far. The values are in RUN/inspection, see
    `mask_values`; of earlier updates they are read there. It belongs before `Checkpoints`, so that
    of a checkpointed step all this is there too.

    Args:
        folder: `RunFolder`.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_batch_end(self, batch, logs=None):
        if not (self.model.refreshed and self.folder.writes):
            return
        step = self.model.step - self.model.steps_per_execution + 1
        masks = zip(self.model.shared, self.model.merge.masks, strict=True)
        values = MaskValues.of(
            step, {v.path: keras.ops.convert_to_numpy(mask.value) for v, mask in masks}
        )
        values.write(self.folder)
        updates = [old for old in MaskValues.read(self.folder.path) if old.step < step] + [values]
        writer = self.folder.summary_writer("train")
        with writer.as_default(step=step):
            tf.summary.scalar("mask_sparsity/mask_sparsity", values.overall)
            for block, sparsity in values.of_blocks.items():
                tf.summary.scalar(f"mask_sparsity/{block}", sparsity)
            for kind, sparsity in values.of_kinds.items():
                tf.summary.scalar(f"mask_sparsity/kind/{kind}", sparsity)
            tf.summary.image("masks/sparsity", sparsity_chart(values)[None])
            for block in values.kept:
                tf.summary.image(f"masks/{block}", block_picture(updates, block)[None])
        writer.flush()


def sparsity_chart(values):
    """A table of sparsities: a row a block, a column a kind of weight, and both sums.

    Args:
        values: `MaskValues`.

    Returns:
        a picture, see `pictures`.
    """
    cleared, entries = (_with_sums(counts) for counts in (values.cleared, values.entries))
    rows = [_chart_row(row) for row in fraction(cleared, entries)]
    names = stack_columns([_centred(words(name), _CELL[0]) for name in (*KINDS, "all")], gap=2)
    table = labelled_rows([names, *rows], ["", *values.blocks, "all"])
    return titled(
        stack_rows([table, legend(0, 1, "fraction of entries that are cleared")], gap=14),
        f"Masks after step {values.step}: how much is cleared",
        "A cleared entry follows the image gradient, any other that of text.",
    )


def block_picture(updates, block):
    """The masks of a block's matrices, a strip an update.

    Args:
        updates: list of `MaskValues`, the steps ascending; of many some are left out, not the
            first and not the last.
        block: str.

    Returns:
        a picture, see `pictures`: the matrices side by side, the hidden state from top to bottom,
        and before each strip the block's sparsity.
    """
    updates = [update for update in updates if block in update.kept]
    if len(updates) > _MOST_STRIPS:
        chosen = np.linspace(0, len(updates) - 1, _MOST_STRIPS).round().astype(int)
        updates = [updates[place] for place in chosen]
    factor, size = scale_of([matrix.shape for matrix in _matrices(updates[-1], block).values()])
    strips, labels = [], []
    for update in updates:
        place = update.blocks.index(block)
        sparsity = update.cleared[place].sum() / update.entries[place].sum()
        labels.append(f"step {update.step}: {sparsity:.1%}")
        strips.append(
            {
                name: cells(colours(averaged(~kept, factor), 0, 1), size)
                for name, kept in _matrices(update, block).items()
            }
        )
    names = {name: words(name) for name in strips[0]}
    widths = {name: max(names[name].shape[1], strips[0][name].shape[1]) for name in names}
    rows = [
        stack_columns([_widened(row[name], widths[name]) for name in widths], _GAP)
        for row in (names, *strips)
    ]
    pixel = f"{size} x {size} pixels are an entry" if size > 1 else "a pixel is an entry"
    if factor > 1:
        pixel = f"a pixel is the mean of {factor} x {factor} entries"
    return titled(
        stack_rows(
            [
                labelled_rows(rows, ["", *labels], gap=_GAP),
                legend(0, 1, "fraction of entries that are cleared"),
            ],
            gap=14,
        ),
        f"Masks of {block.replace('_', ' ')}, update by update",
        f"A row is a unit of the hidden state, a column one of the layer; {pixel}.",
    )


def scale_of(shapes):
    """How matrices are fitted into a strip.

    Args:
        shapes: list of their shapes.

    Returns:
        (int, entries that are averaged along both axes; int, pixels an entry); one of them is 1.
        The first divides all the shapes, unless that makes the strip less than half as wide.
    """
    width = sum(shape[1] for shape in shapes)
    if width <= _WIDEST:
        return 1, max(1, min(_WIDEST // width, _MOST_ENLARGED))
    least = -(-width // _WIDEST)
    common = np.gcd.reduce(np.array(shapes).ravel())
    divisors = (factor for factor in range(least, 2 * least) if common % factor == 0)
    return next(divisors, least), 1


def averaged(matrix, factor):
    """Means of blocks of `factor` times `factor` entries; those at the ends may be smaller."""
    rows, columns = (np.arange(0, count, factor) for count in matrix.shape)
    sums = np.add.reduceat(matrix.astype(np.float64), rows, axis=0)
    sums = np.add.reduceat(sums, columns, axis=1)
    heights, widths = (
        np.diff([*starts, count])
        for starts, count in zip((rows, columns), matrix.shape, strict=True)
    )
    return sums / np.outer(heights, widths)


def _matrices(update, block):
    """A block's masks by kind, all `(hidden_dim, units of the layer)`."""
    kept = update.kept[block]
    return {kind: kept[kind].T if kind in _FROM_UNITS else kept[kind] for kind in _MATRICES}


def _with_sums(counts):
    """A table of counts with a last row and a last column of sums."""
    counts = np.vstack([counts, counts.sum(axis=0)])
    return np.hstack([counts, counts.sum(axis=1, keepdims=True)])


def _chart_row(numbers):
    """Cells of numbers from 0 to 1; one that is not a number is empty."""
    found = []
    for number in numbers:
        if np.isnan(number):
            found.append(blank(*_CELL[::-1]))
            continue
        cell = cells(colours(np.array([[number]]), 0, 1), *_CELL)
        found.append(_printed(cell, f"{number:.3f}"))
    return stack_columns(found, gap=2)


def _printed(cell, text):
    """A cell of one colour with a text in its middle, dark on light and light on dark."""
    paper = words(text)
    spare = [have - need for have, need in zip(cell.shape[:2], paper.shape[:2], strict=True)]
    top, left = (pixels // 2 for pixels in spare)
    place = np.s_[top : top + paper.shape[0], left : left + paper.shape[1]]
    is_dark = cell[0, 0] @ np.array([0.299, 0.587, 0.114]) < 128
    colour = np.array((255, 255, 255) if is_dark else INK)
    ink = (255 - paper.astype(np.float64)) / (255 - INK[0])
    printed = cell.copy()
    printed[place] = np.rint((1 - ink) * cell[place] + ink * colour)
    return printed


def _centred(picture, width):
    """A picture in the middle of `width` pixels."""
    left = max(width - picture.shape[1], 0) // 2
    return _widened(np.hstack([blank(len(picture), left), picture]), width)


def _widened(picture, width):
    return np.hstack([picture, blank(len(picture), max(width - picture.shape[1], 0))])
