"""How the gradients of two tasks become one: a weighting, then optionally a rule for each entry."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_vitbert.merging.masks import GradDrop, GradientMask
from keras_vitbert.merging.weighting import (
    Products,
    State,
    Sum,
    Weighting,
    Weights,
    products,
    square_sums,
)
from keras_vitbert.model.shared_weights import block_of, is_in_blocks
from keras_vitbert.model.tensors import Tensor, ops

ALL = "all"  # names what has one weight, where blocks have none of their own


class Merged(NamedTuple):
    """The result of merging the gradients of a step; all sums are over the replicas."""

    gradients: list[Tensor]  # in the order of the variables, summed; None where no loss reaches
    loss: Tensor  # scalar, to report and to judge the step by, summed
    losses: Tensor  # pair of scalars, of text and image; summed if the weighting needs them
    state: State  # for `Merge.keep`
    both: tuple[list[Tensor], list[Tensor]]  # with `clear`: of the shared variables, summed


class Merge(keras.layers.Layer):
    """Merges the gradients of two tasks, called text and image.

    Both losses reach the shared variables. Any other variable is reached by one loss only and gets
    that loss's gradient, weighted if the weights are those of the losses.

    Args:
        entries: what decides on each entry of the shared variables' gradient; without it, both
            gradients are added.
        per_block: whether each block is weighted by its own inner products.
        blocks: first and end: only these blocks are merged like this, and on other shared variables
            the gradients are summed as in `rest`. None for all blocks.
        rest: for the shared variables outside `blocks`.

    Attributes:
        chosen_paths: the paths of the variables of `blocks`, each of which has a mask if there is a
            `GradientMask`.

    Raises:
        ValueError: a weighting that needs no inner products, or one of losses, is to act by block;
            or a weighting of losses, which acts on all variables, is to act on `blocks`.
    """

    def __init__(
        self,
        weighting: Weighting,
        entries: GradientMask | GradDrop | None = None,
        per_block: bool = False,
        blocks: tuple[int, int] | None = None,
        rest: Sum | None = None,
        **kwargs: Any,
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

    def make_state(self, shared_variables: Sequence[Any]) -> None:
        """Makes masks and state for the variables that both losses reach.

        They are in the order of the trainable variables; the first part of a path names the block.

        Raises:
            ValueError: the model has none of `blocks`.
        """
        chosen = [v for v in shared_variables if is_in_blocks(v.path, self.blocks)]
        if not chosen:
            known = ", ".join(dict.fromkeys(block_of(v.path) for v in shared_variables))
            raise ValueError(f"blocks {self.blocks}: both losses reach {known or 'no variable'}")
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

    def loss(self, text_loss: Tensor, image_loss: Tensor) -> Tensor:
        """The loss to report and to judge a step by."""
        return self.weighting.loss(text_loss, image_loss)

    def merge(
        self,
        text_gradients: Sequence[Tensor],
        image_gradients: Sequence[Tensor],
        losses: Any = None,
        step: Tensor | int = 0,
        clear: Tensor | None = None,
        summed: Callable[[Any], Any] = lambda values: values,
    ) -> Merged:
        """Merges the gradients of a step.

        Args:
            text_gradients, image_gradients: in the order of the trainable variables, with None
                where a loss does not reach a variable.
            losses: pair of scalar tensors, of text and image.
            step: completed steps.
            clear: int32, see `GradientMask.counts`: also compares both gradients and refreshes the
                masks first. None for neither.
            summed: sums tensors over the replicas; by default gradients and losses are those of all
                replicas already.

        Raises:
            ValueError: `make_state` was not called; both losses reach other variables than it was
                given; or there are not two losses.
        """
        if not hasattr(self, "chosen_paths"):
            raise ValueError("call make_state(shared_variables) before merge")
        if losses is not None and len(losses) != 2:
            raise ValueError(f"losses: must be two, of text and image, not {len(losses)}")
        if not self.is_linear:
            text_gradients, image_gradients, losses = without_none(
                summed, [text_gradients, image_gradients, losses]
            )
        elif self.weighting.needs_losses:
            losses = summed(losses)
        pairs = zip(text_gradients, image_gradients, strict=True)
        shared = [(t, i) for t, i in pairs if t is not None and i is not None]
        both = sums = [t for t, _ in shared], [i for _, i in shared]
        if len(shared) != len(self._row_of):
            raise ValueError(
                f"text_gradients, image_gradients: both have a gradient for {len(shared)} variables"
                f", and make_state was given {len(self._row_of)}; where a loss does not reach a "
                "variable, give None, not zeros"
            )
        masks, refreshed = None, []
        if clear is not None:
            sums = summed(both) if self.is_linear else both
            if self.mask:
                text, image = map(self.of_chosen, sums)
                masks = self.mask.refreshed(text, image, clear)  # Algorithm 1
                refreshed = self.mask.next_state(masks, clear)

        measured = self._products(*both) if self.weighting.needs_products else None
        weights, state = self.weighting.weigh(measured, losses, step)
        if not self.weighting.is_fixed:
            state = [*state, (self.shown, self._shown(weights, measured))]
        merged = iter(self._merged(both, weights, step, masks))  # eq. 8 or 9
        own = weights if self.weighting.weighs_losses else Weights()
        gradients = []
        for text, image in zip(text_gradients, image_gradients, strict=True):
            if text is not None and image is not None:
                gradient = next(merged)
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

    def learn(self, losses: Any, losses_again: Callable[[], Any], good: Tensor = True) -> None:
        """Lets a weighting learn from an update; most do nothing, nor does a bad step.

        `losses` are those of `Merged`; `losses_again` computes them with the new weights.
        """
        self.keep(self.weighting.learn(losses, losses_again), good)

    def keep(self, state: State, good: Tensor = True) -> None:
        """Stores the state of a `Merged`; if `good` is False, nothing changes."""
        for variable, value in state:
            variable.assign(ops.where(good, value, variable.value))

    def of_chosen(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """Picks the gradients of the merge's blocks from those of the shared variables."""
        return [g for g, row in zip(gradients, self._row_of, strict=True) if row is not None]

    def _products(self, text: list[Tensor], image: list[Tensor]) -> Products:
        """`Products` of the chosen variables, by row."""
        groups = {row: ([], []) for row in self.rows}
        for row, *pair in zip(self._row_of, text, image, strict=True):
            if row is not None:
                for group, gradient in zip(groups[row], pair, strict=True):
                    group.append(gradient)
        return products(ops.stack([square_sums(*group) for group in groups.values()]))

    def _merged(
        self,
        both: tuple[list[Tensor], list[Tensor]],
        weights: Weights,
        step: Tensor,
        masks: list[Tensor] | None,
    ) -> list[Tensor]:
        """The merged gradient of each shared variable."""
        count = len(self.rows)
        columns = [ops.unstack(w, count) if np.ndim(w) else [w] * count for w in weights]
        of_rows: dict[str | None, Any] = dict(
            zip(self.rows, zip(*columns, strict=True), strict=True)
        )
        of_rows[None] = self.rest.weigh(None, None, step)[0]
        merged, texts, images = [], [], []
        for row, text, image in zip(self._row_of, *both, strict=True):
            w = Weights(*of_rows[row])
            if self.entries is None or row is None:
                weight = w.text + w.text_in_image, w.image + w.image_in_text
                merged.append(_sum(weight[0], text, weight[1], image))
            else:
                merged.append(None)
                texts.append(_sum(w.text, text, w.image_in_text, image))
                images.append(_sum(w.text_in_image, text, w.image, image))
        if self.entries is not None:
            chosen = iter(self.entries.choose(texts, images, step, masks))
            merged = [next(chosen) if gradient is None else gradient for gradient in merged]
        return merged

    def _shown(self, weights: Weights, measured: Products | None) -> Tensor:
        """Rows of both weights in the merged gradient and the cosine; it is 0 without products."""
        text = weights.text + weights.text_in_image
        image = weights.image + weights.image_in_text
        columns = [text, image, measured.cosine if measured is not None else 0.0]
        rows = (len(self.rows),)
        return ops.stack([ops.broadcast_to(ops.cast(x, "float32"), rows) for x in columns], axis=1)

    def values(self) -> dict[str, float]:
        """The last step's weights of both gradients and, if known, their cosine.

        Returns:
            `merge/text_weight`, `merge/image_weight`, `merge/cosine`, means over the blocks, and
            with the suffix `/BLOCK` the values of each; empty if both gradients are only masked.
        """
        if self.weighting.is_fixed:
            weights = self.weighting.weigh(None, None, 0)[0]
            fixed = {"merge/text_weight": weights.text, "merge/image_weight": weights.image}
            return fixed if self.weighting.weighs_losses else {}
        table = np.asarray(ops.convert_to_numpy(self.shown.value), np.float64)
        names = ("text_weight", "image_weight", "cosine")
        values = {}
        for column, name in enumerate(names if self.weighting.needs_products else names[:2]):
            values[f"merge/{name}"] = float(table[:, column].mean())
            if self.per_block:
                by_row = zip(self.rows, table[:, column].tolist(), strict=True)
                values |= {f"merge/{name}/{row}": value for row, value in by_row}
        return values


def without_none(function: Callable[[list[Tensor]], list[Tensor]], values: Any) -> Any:
    """Nested lists after a function of all tensors in them, which returns as many; None stays."""
    flat = keras.tree.flatten(values)
    made = iter(function([x for x in flat if x is not None]))
    return keras.tree.pack_sequence_as(values, [None if x is None else next(made) for x in flat])


def _is(weight: Tensor, value: float) -> bool:
    return isinstance(weight, float | int) and weight == value


def _scaled(weight: Tensor, gradient: Tensor) -> Tensor:
    return gradient if _is(weight, 1) else weight * gradient


def _sum(text_weight: Tensor, text: Tensor, image_weight: Tensor, image: Tensor) -> Tensor:
    """The weighted sum, without terms that are known to be 0."""
    if _is(image_weight, 0):
        return _scaled(text_weight, text)
    if _is(text_weight, 0):
        return _scaled(image_weight, image)
    return _scaled(text_weight, text) + _scaled(image_weight, image)
