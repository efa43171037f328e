"""Pictures of the masks, at every update: how much is cleared where, and which entries."""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.inspection.mask_strips import LABELS, MOST_UPDATES, SPARSITY, mask_sheet
from keras_vitbert.inspection.mask_values import FILES, MaskValues, fraction
from keras_vitbert.inspection.sheet import INK, SCREEN, Sheet, colours, spread, style
from keras_vitbert.inspection.value_files import stored_steps
from pipelines.status import doing
from tpu.devices import host_values

_WIDTH = 7.1  # inches of the strips of a block
_LEFT, _CELL = 0.8, (0.45, 0.18)  # inches before the table, and of a cell


class MaskPictures(keras.callbacks.Callback):
    """Shows the masks after every update: a chart of sparsities, and pictures of three blocks.

    At the step that made the update, TensorBoard has `masks/sparsity`, one chart with the sparsity
    of every block and kind of weight. It also has `masks/block_0` ... for the first, the middle and
    the last block, with a strip for each update so far. The values are in RUN/inspection, see
    `mask_values`; those of earlier updates are read from there. Put this callback before
    `Checkpoints`, so that a checkpointed step has all of this too.

    Args:
        folder: `RunFolder`.
    """

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_batch_end(self, batch, logs=None):
        if self.model.refreshed:
            self._show()

    @doing("drawing the masks", "drawing")
    def _show(self):
        merge = self.model.merge
        masks = zip(merge.chosen_paths, merge.mask.masks, strict=True)
        masks = {path: host_values(mask) for path, mask in masks}  # on all workers
        if not self.folder.writes:
            return
        step = self.model.step - self.model.steps_per_execution + 1
        values = MaskValues.of(step, masks)
        values.write(self.folder)
        steps = [old for old in stored_steps(self.folder.path, FILES) if old <= step]
        updates = MaskValues.read(self.folder.path, spread(steps, MOST_UPDATES))
        writer = self.folder.summary_writer("train")
        with writer.as_default(step=step):
            tf.summary.image("masks/sparsity", sparsity_chart(values)[None])
            for block in values.kept:
                tf.summary.image(f"masks/{block}", block_picture(updates, block, len(steps))[None])
        writer.flush()


def sparsity_chart(values):
    """A table of sparsities: a row per block, a column per kind of weight, and those of all.

    Args:
        values: `MaskValues`.

    Returns:
        uint8 `(height, width, 3)`.
    """
    with style():
        return _sparsity_sheet(values).picture()


def _sparsity_sheet(values):
    table = fraction(*(_with_sums(counts) for counts in (values.cleared, values.entries)))
    blocks = [*(block.replace("_", " ") for block in values.blocks), "all"]
    kinds = [*LABELS.values(), "all"]
    width, height = _CELL
    note = "A cleared entry is updated by the image gradient, any other by the text gradient."
    size = _LEFT + width * len(kinds) + 0.2, 0.72 + height * len(blocks)
    sheet = Sheet(*size, f"Sparsity of the gradient masks, step {values.step:,}", note, SCREEN)
    top = sheet.top + 0.2
    cells = colours(table)
    cells[np.isnan(table)] = 255  # no such weights
    sheet.image(_LEFT, top, width * len(kinds), height * len(blocks), cells)
    for column, kind in enumerate(kinds):
        sheet.text(_LEFT + (column + 0.5) * width, top - 0.05, kind, va="baseline", ha="center")
    for row, block in enumerate(blocks):
        middle = top + (row + 0.5) * height
        sheet.text(_LEFT - 0.06, middle, block, va="center_baseline", ha="right")
        for column in np.flatnonzero(np.isfinite(table[row])):
            ink = "white" if table[row, column] < 0.5 else INK
            left, number = _LEFT + (column + 0.5) * width, f"{table[row, column]:.1%}"
            sheet.text(left, middle, number, va="center_baseline", ha="center", color=ink)
    sheet.scale(_LEFT, top + height * len(blocks) + 0.08, 2, *SPARSITY)
    return sheet


def block_picture(updates, block, count=None):
    """The masks of a block, a strip per update; see `mask_strips.mask_sheet`.

    Args:
        updates: list of `MaskValues`, the steps ascending.
        block: str, in `kept` of all.
        count: int, how many updates there were, if `updates` are only some of them.

    Returns:
        uint8 `(height, width, 3)`.
    """
    with style():
        return mask_sheet(updates, [block], _WIDTH, SCREEN, count=count).picture()


def _with_sums(counts):
    """A table of counts with a last row and a last column of sums."""
    counts = np.vstack([counts, counts.sum(axis=0)])
    return np.hstack([counts, counts.sum(axis=1, keepdims=True)])
