"""How the gradients of two tasks become one: a weighting, then optionally a rule for each entry."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from keras_vitbert.merging.masks import GradDrop, GradientMask
from keras_vitbert.merging.weighting import (
    Products,
    Sum,
    Weighting,
    Weights,
    products,
    square_sums,
)
from keras_vitbert.model.shared_weights import block_of, is_in_blocks

ALL = "all"  # names what has one weight, where blocks have none of their own


class Merged(NamedTuple):
    """The result of merging the gradients of a step; all sums are over the replicas.

    Attributes:
        gradients: list of tensors in the order of the trainable variables, summed.
        loss: scalar tensor, the loss to report and to judge the step by, summed.
        losses: pair of scalar tensors, of text and image; summed if the weighting needs them.
        state: list of pairs of a variable and its next value, for `Merge.keep`.
        both: with `clear`, pair of lists, both gradients of the shared variables, summed.
    """

    gradients: list
    loss: Any
    losses: Any
    state: list
    both: tuple[list, list]


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

    def __init__(
        self,
        weighting: Weighting,
        entries: GradientMask | GradDrop | None = None,
        per_block: bool = False,
        blocks: tuple[int, int] | None = None,
        rest: Sum | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        whole = weighting.weighs_losses
        if whole and blocks or per_block and (whole or not weighting.needs_products):
            field = "per_block" if per_block else "blocks"
            raise ValueError(f"{field}: {type(weighting).__name__} does not weigh by block")
        self.weighting, self.entries = weighting, entries
        self.per_block, self.blocks = per_block, blocks
        self.rest = rest or Sum()

    @property
    def mask(self) -> GradientMask | None:
        """The `GradientMask`, or None."""
        return self.entries if isinstance(self.entries, GradientMask) else None

    @property
    def is_linear(self) -> bool:
        """Whether the sum over replicas of merged gradients is the merge of the sums."""
        return not (self.weighting.needs_products or isinstance(self.entries, GradDrop))

    def make_state(self, shared_variables: list):
        """Makes masks and state for a model.

        Args:
            shared_variables: list of the Keras variables that both losses reach, in the order of
                the trainable variables. The first part of a path names the block.

        Raises:
            ValueError: the model has none of `blocks`.
        """
        chosen = [v for v in shared_variables if is_in_blocks(v.path, self.blocks)]
        if not chosen:
            known = ", ".join(dict.fromkeys(block_of(v.path) for v in shared_variables))
            raise ValueError(f"blocks {self.blocks}: the model has {known}")
        # Not the variables themselves: Keras would count the encoder as the merge's.
        self.chosen_paths = [variable.path for variable in chosen]
        # What has weights of its own, for each shared variable; None outside the blocks.
        self._row_of = [
            None if v.path not in self.chosen_paths else block_of(v.path) if self.per_block else ALL
            for v in shared_variables
        ]
        self.rows = list(dict.fromkeys(row for row in self._row_of if row is not None))
        self.weighting.make_state(len(self.rows))
        if self.mask:
            self.mask.make_masks(chosen)
        if not self.weighting.is_fixed:
            # For the log: the last step's weights of text and image, and cosine.
            self.shown = self.add_weight(
                name="shown",
                shape=(len(self.rows), 3),
                dtype="float32",
                initializer="zeros",
                trainable=False,
            )

    def loss(self, text_loss: Any, image_loss: Any) -> Any:
        """The loss to report and to judge a step by.

        Args:
            text_loss, image_loss: scalar tensors.
        """
        return self.weighting.loss(text_loss, image_loss)

    def merge(
        self,
        text_gradients: list,
        image_gradients: list,
        losses: Any = None,
        step: Any = 0,
        clear: Any = None,
        summed: Callable = lambda values: values,
    ) -> Merged:
        """Merges the gradients of a step.

        Args:
            text_gradients, image_gradients: lists of tensors in the order of the trainable
                variables, with None where a loss does not reach a variable.
            losses: pair of scalar tensors, of text and image.
            step: scalar int tensor, completed steps.
            clear: int32 tensor, see `GradientMask.counts`: also compares both gradients and
                refreshes the masks first. None for neither.
            summed: callable that sums a list of tensors over the replicas; by default gradients
                and losses are those of all replicas already.
        """
        if not self.is_linear:
            text_gradients, image_gradients, losses = without_none(
                summed, [text_gradients, image_gradients, losses]
            )
        elif self.weighting.needs_losses:
            losses = summed(losses)
        both = sums = both_reached(text_gradients, image_gradients)
        masks, refreshed = None, []
        if clear is not None:
            sums = summed(both) if self.is_linear else both
            if self.mask:
                text, image = map(self.of_chosen, sums)
                masks = self.mask.refreshed(text, image, clear)  # Algorithm 1
                refreshed = self.mask.next_state(masks, clear)

        found = self._products(*both) if self.weighting.needs_products else None
        weights, state = self.weighting.weigh(found, losses, step)
        if not self.weighting.is_fixed:
            state = [*state, (self.shown, self._shown(weights, found))]
        shared = iter(self._merged(both, weights, step, masks))
        own = weights if self.weighting.weighs_losses else Weights()
        gradients = []
        for text, image in zip(text_gradients, image_gradients, strict=True):
            if text is not None and image is not None:
                gradient = next(shared)
            elif image is None:
                gradient = None if text is None else _scaled(own.text, text)
            else:
                gradient = _scaled(own.image, image)
            gradients.append(gradient)

        loss = None if losses is None else self.loss(*losses)
        if self.is_linear:
            # The sum of the merged gradients is the merge of the sums, and takes one reduction.
            local = None if self.weighting.needs_losses else loss
            gradients, total = without_none(summed, [gradients, local])
            loss = loss if total is None else total
        return Merged(gradients, loss, losses, [*refreshed, *state], sums)

    def after(self, losses: Any, losses_again: Callable, good: Any = True):
        """Lets a weighting learn from an update; most do nothing.

        Args:
            losses: pair of scalar tensors over the global batch, of text and image, as in `Merged`.
            losses_again: callable that computes them on the same batch, with the new weights.
            good: scalar bool tensor; if it is False, nothing changes.
        """
        self.keep(self.weighting.learned(losses, losses_again), good)

    def keep(self, state: list, good: Any = True):
        """Stores a step's new state.

        Args:
            state: list, of `Merged`.
            good: scalar bool tensor; if it is False, nothing changes.
        """
        for variable, value in state:
            variable.assign(ops.where(good, value, variable.value))

    def of_chosen(self, gradients: list) -> list:
        """Picks the shared variables, or their gradients, that belong to the merge's blocks.

        Args:
            gradients: list, in the order of `make_state`.
        """
        return [g for g, row in zip(gradients, self._row_of, strict=True) if row is not None]

    def _products(self, text: list, image: list) -> Products:
        """`Products` of the chosen variables, by row."""
        groups = {row: ([], []) for row in self.rows}
        for row, *pair in zip(self._row_of, text, image, strict=True):
            if row is not None:
                for group, gradient in zip(groups[row], pair, strict=True):
                    group.append(gradient)
        return products(ops.stack([square_sums(*group) for group in groups.values()]))

    def _merged(self, both: tuple[list, list], weights: Weights, step: Any, masks: Any) -> list:
        """The merged gradient of each shared variable."""
        count = len(self.rows)
        columns = [ops.unstack(w, count) if np.ndim(w) else [w] * count for w in weights]
        of_rows = dict(zip(self.rows, zip(*columns, strict=True), strict=True))
        of_rows[None] = self.rest.weigh(None, None, step)[0]
        merged, parts = [], []
        for row, text, image in zip(self._row_of, *both, strict=True):
            w = Weights(*of_rows[row])
            if self.entries is None or row is None:
                weight = w.text + w.text_in_image, w.image + w.image_in_text
                merged.append(_sum(weight[0], text, weight[1], image))
            else:
                merged.append(None)
                parts.append(
                    (
                        _sum(w.text, text, w.image_in_text, image),
                        _sum(w.text_in_image, text, w.image, image),
                    )
                )
        if self.entries is not None:
            texts, images = zip(*parts, strict=True)
            chosen = iter(self.entries.choose(texts, images, step, masks))
            merged = [next(chosen) if gradient is None else gradient for gradient in merged]
        return merged

    def _shown(self, weights: Weights, found: Products | None) -> Any:
        """Rows of both weights in the merged gradient and the cosine; it is 0 without products."""
        text = weights.text + weights.text_in_image
        image = weights.image + weights.image_in_text
        columns = [text, image, found.cosine if found is not None else 0.0]
        rows = (len(self.rows),)
        return ops.stack([ops.broadcast_to(ops.cast(x, "float32"), rows) for x in columns], axis=1)

    def values(self) -> dict[str, float]:
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


def both_reached(text_gradients: list, image_gradients: list) -> tuple[list, list]:
    """Both gradients of the variables that both losses reach.

    Args:
        text_gradients, image_gradients: lists of tensors, with None where a loss does not reach a
            variable.
    """
    pairs = zip(text_gradients, image_gradients, strict=True)
    shared = [(t, i) for t, i in pairs if t is not None and i is not None]
    return [t for t, _ in shared], [i for _, i in shared]


def without_none(function: Callable, values: Any) -> Any:
    """What a function makes of all tensors in nested lists; None stays None.

    Args:
        function: takes a list of tensors and returns as many.
        values: nested lists of tensors and None.
    """
    flat = keras.tree.flatten(values)
    made = iter(function([x for x in flat if x is not None]))
    return keras.tree.pack_sequence_as(values, [None if x is None else next(made) for x in flat])


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
