"""How the gradients of two tasks become one: a weighting, then optionally a rule for each entry.

The step asks a merge what it needs (`is_linear`, `needs_losses`, ...) and does no more than that.
"""

import dataclasses
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.merging.entries import GradientMask
from keras_vitbert.merging.products import products, square_sums
from keras_vitbert.merging.weighting import Sum, Weighting, Weights
from keras_vitbert.model.shared_weights import block_of, is_in_blocks


@dataclasses.dataclass(frozen=True)
class Merged:
    """The result of merging the gradients of a step.

    Attributes:
        gradients: list of tensors in the order of the trainable variables.
        state: list of pairs of a variable and its next value, for `Merge.keep`.
        parts: list of `Parts` or None in the same order: what an optimiser with moments of each
            gradient takes instead, see `Merge.masks_updates`.
    """

    gradients: list
    state: list
    parts: list


class Merge(keras.layers.Layer):
    """Merges the gradients of two tasks, called text and image.

    Both losses reach the shared variables. Any other variable is reached by one loss only and gets
    that loss's gradient, weighted if the weights are those of the losses.

    Args:
        weighting: a `Weighting`.
        entries: `GradientMask`, `GradDrop` or None: what decides on each entry of the shared
            variables' gradient; without it both parts are added.
        per_block: bool, whether each block is weighted by its own inner products.
        blocks: pair of int, first and end: only these blocks are merged like this, and on other
            shared variables the gradients are summed as in `rest`. None for all blocks.
        rest: `Sum`, for the shared variables outside `blocks`.

    Attributes:
        chosen_paths: list of str, the paths of the variables of `blocks`, each of which has a mask
            if there is a `GradientMask`.

    Raises:
        ValueError: a weighting that needs no inner products, or one of losses, is to act by block;
            a weighting of losses, which acts on all variables, is to act on `blocks`; or `blocks`
            is an empty or invalid range.
    """

    def __init__(self, weighting, entries=None, per_block=False, blocks=None, rest=None, **kwargs):
        super().__init__(**kwargs)
        name = type(weighting).__name__
        if per_block and (weighting.weighs_losses or not weighting.needs_products):
            raise ValueError(f"{name} has no inner products of a block to weigh by")
        if blocks is not None and weighting.weighs_losses:
            raise ValueError(f"{name} weighs whole losses, not some blocks")
        if blocks is not None and not 0 <= blocks[0] < blocks[1]:
            raise ValueError(f"blocks {blocks[0]}:{blocks[1]} is an empty or invalid range")
        self.weighting: Weighting = weighting
        self.entries = entries
        self.per_block = per_block
        self.blocks = blocks
        self.rest = rest or Sum()

    # --- what it needs -------------------------------------------------------------------------

    @property
    def mask(self):
        """The `GradientMask`, or None."""
        return self.entries if isinstance(self.entries, GradientMask) else None

    @property
    def is_linear(self):
        """bool, whether the sum over replicas of merged gradients is the merge of the sums."""
        needs_sums = self.entries is not None and self.entries.needs_sums
        return not (self.weighting.needs_products or needs_sums)

    @property
    def masks_updates(self):
        """bool, whether the optimiser is to keep moments of both gradients of `of_chosen`."""
        return self.mask is not None and self.mask.target == "update"

    @property
    def needs_losses(self):
        """bool, whether `merge` needs both losses over the global batch."""
        return self.weighting.needs_losses

    @property
    def needs_losses_after(self):
        """bool, whether `after` is to be called with the losses after the update."""
        return self.weighting.needs_losses_after

    # --- making --------------------------------------------------------------------------------

    def make_state(self, shared_variables):
        """Makes masks and state for a model.

        Args:
            shared_variables: list of the Keras variables that both losses reach, in the order of
                the trainable variables. The first part of a path names the block.

        Raises:
            ValueError: the model has none of `blocks`.
        """
        names = [block_of(variable.path) for variable in shared_variables]
        chosen = [is_in_blocks(variable.path, self.blocks) for variable in shared_variables]
        if not any(chosen):
            known = ", ".join(_once(names))
            raise ValueError(f"the model has no blocks {self.blocks}; it has {known}")
        # The row of each shared variable; None outside the blocks.
        inside = [name for name, is_in in zip(names, chosen, strict=True) if is_in]
        self.rows = _once(inside) if self.per_block else ["all"]
        self._row_of = [
            (self.rows.index(name) if self.per_block else 0) if is_in else None
            for name, is_in in zip(names, chosen, strict=True)
        ]
        variables = [v for v, is_in in zip(shared_variables, chosen, strict=True) if is_in]
        # Not the variables themselves: Keras would count the encoder as the merge's.
        self.chosen_paths = [variable.path for variable in variables]
        self.weighting.make_state(len(self.rows))
        if self.mask:
            self.mask.make_masks(variables)
        if not self.weighting.is_fixed:
            # For the log: the last step's weights of text and image, and cosine.
            self.shown = self.add_weight(
                name="shown",
                shape=(len(self.rows), 3),
                dtype="float32",
                initializer="zeros",
                trainable=False,
            )

    def of_chosen(self, gradients):
        """Picks the shared variables, or their gradients, that belong to the merge's blocks.

        Args:
            gradients: list, in the order of `make_state`.

        Returns:
            list.
        """
        return [g for g, row in zip(gradients, self._row_of, strict=True) if row is not None]

    # --- the step ------------------------------------------------------------------------------

    def loss(self, text_loss, image_loss):
        """The loss to report and to judge a step by.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return self.weighting.loss(text_loss, image_loss)

    def merge(self, text_gradients, image_gradients, losses=None, step: Any = 0, masks=None):
        """Merges the gradients of a step.

        Args:
            text_gradients, image_gradients: lists of tensors in the order of the trainable
                variables, with None where a loss does not reach a variable; summed over the
                replicas unless `is_linear`.
            losses: pair of scalar tensors over the global batch, of text and image; with
                `needs_losses`.
            step: scalar int tensor, completed steps.
            masks: what `GradientMask.refreshed` returns, in place of the current masks.

        Returns:
            `Merged`.
        """
        shared = list(zip(*both_reached(text_gradients, image_gradients), strict=True))
        found = self._products(shared) if self.weighting.needs_products else None
        weights, state = self.weighting.weigh(found, losses, step)
        rest = self.rest.weigh(None, None, step)[0]
        unstacked = [_unstacked(weight, len(self.rows)) for weight in weights]

        def weights_of(row):
            return rest if row is None else Weights(*(weight[row] for weight in unstacked))

        both = iter(self._merged(shared, weights_of, step, masks))
        own = weights_of(0) if self.weighting.weighs_losses else Weights(1.0, 1.0)
        gradients, parts = [], []
        for text, image in zip(text_gradients, image_gradients, strict=True):
            part = None
            if text is not None and image is not None:
                gradient, part = next(both)
            elif image is None:
                gradient = None if text is None else _scaled(own.text, text)
            else:
                gradient = _scaled(own.image, image)
            gradients.append(gradient)
            parts.append(part)
        if not self.weighting.is_fixed:
            state = [*state, (self.shown, self._shown(weights, found))]
        return Merged(gradients, state, parts)

    def after(self, losses, losses_after):
        """The next state, from losses that were computed again, for `keep`.

        Args:
            losses, losses_after: pairs of scalar tensors over the global batch, of text and image,
                before and after the update.
        """
        return self.weighting.after(losses, losses_after)

    def keep(self, state, good=True):
        """Stores a step's new state.

        Args:
            state: list, of `Merged` or `after`.
            good: scalar bool tensor; if it is False, nothing changes.
        """
        for variable, value in state:
            variable.assign(ops.where(good, value, variable.value))

    def _products(self, shared):
        """`Products` of the chosen variables, by row."""
        groups = [([], []) for _ in self.rows]
        for row, (text, image) in zip(self._row_of, shared, strict=True):
            if row is not None:
                groups[row][0].append(text)
                groups[row][1].append(image)
        return products(ops.stack([square_sums(*group) for group in groups]))

    def _merged(self, shared, weights_of, step, masks):
        """The merged gradient of each shared variable and, with `masks_updates`, its `Parts`."""
        merged, parts = [], []
        for row, (text, image) in zip(self._row_of, shared, strict=True):
            w = weights_of(row)
            if self.entries is None or row is None:
                both = w.text + w.text_in_image, w.image + w.image_in_text
                merged.append(_sum(both[0], text, both[1], image))
            else:
                merged.append(None)
                parts.append(
                    (
                        _sum(w.text, text, w.image_in_text, image),
                        _sum(w.text_in_image, text, w.image, image),
                    )
                )
        if self.entries is None:
            return [(gradient, None) for gradient in merged]
        text, image = zip(*parts, strict=True)
        given = [masks] if masks else []
        found = self.entries.choose(text, image, step, *given)
        kept = [None] * len(found)
        if self.mask and self.masks_updates:
            kept = self.mask.parts(text, image, *given)
        both = iter(zip(found, kept, strict=True))
        return [next(both) if gradient is None else (gradient, None) for gradient in merged]

    def _shown(self, weights, found):
        """Rows of both weights in the merged gradient and the cosine; it is 0 without products."""
        rows = len(self.rows)
        text = weights.text + weights.text_in_image
        image = weights.image + weights.image_in_text
        columns = [text, image, found.cosine if found is not None else 0.0]
        return ops.stack(
            [ops.broadcast_to(ops.cast(x, "float32"), (rows,)) for x in columns], axis=1
        )

    # --- what is logged ------------------------------------------------------------------------

    def values(self):
        """The last step's weights of both gradients and, if known, their cosine.

        Returns:
            dict of `merge/text_weight`, `merge/image_weight`, `merge/cosine` to float, means over
            the blocks, and with the suffix `/BLOCK` the values of each; empty if the weights are
            fixed.
        """
        if self.weighting.is_fixed:
            return {}
        table = np.asarray(ops.convert_to_numpy(self.shown.value), np.float64)
        names = ("text_weight", "image_weight", "cosine")
        found = {}
        for column, name in enumerate(names if self.weighting.needs_products else names[:2]):
            found[f"merge/{name}"] = float(table[:, column].mean())
            if self.per_block:
                by_row = zip(self.rows, table[:, column].tolist(), strict=True)
                found |= {f"merge/{name}/{row}": value for row, value in by_row}
        return found


def both_reached(text_gradients, image_gradients):
    """Both gradients of the variables that both losses reach: pair of lists.

    Args:
        text_gradients, image_gradients: lists of tensors, with None where a loss does not reach a
            variable.
    """
    pairs = zip(text_gradients, image_gradients, strict=True)
    shared = [(t, i) for t, i in pairs if t is not None and i is not None]
    return [t for t, _ in shared], [i for _, i in shared]


def present(rows):
    """Gradients without None, and a function that puts None back.

    Args:
        rows: lists of tensors, with None where a loss does not reach a variable.

    Returns:
        (lists without None; function that puts other lists of these lengths into their places).
    """
    places = [[gradient is not None for gradient in row] for row in rows]

    def placed(found):
        return [
            [next(values) if is_there else None for is_there in row]
            for row, values in zip(places, map(iter, found), strict=True)
        ]

    return [[gradient for gradient in row if gradient is not None] for row in rows], placed


def _once(names):
    return list(dict.fromkeys(names))


def _unstacked(weight, rows):
    """The weight of each row: a float, or scalar tensors."""
    if isinstance(weight, float | int) or len(weight.shape) == 0:
        return [weight] * rows
    return ops.unstack(weight, rows)


def _is(weight, value):
    return isinstance(weight, float | int) and weight == value


def _scaled(weight, gradient):
    return gradient if _is(weight, 1) else weight * gradient


def _sum(text_weight, text, image_weight, image):
    """The weighted sum, without terms that are known to be 0."""
    if _is(image_weight, 0):
        return _scaled(text_weight, text)
    if _is(text_weight, 0):
        return _scaled(image_weight, image)
    return _scaled(text_weight, text) + _scaled(image_weight, image)
