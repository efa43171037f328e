"""Merges that take each entry of the merged gradient from one of two parts, and their schedule.

An entry rule follows a weighting: `text` and `image` are the parts that the weighting has made.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vitbert.configs import merges
from keras_vitbert.merging.random_numbers import uniform
from keras_vitbert.merging.selection import magnitude_bits, smallest
from keras_vitbert.merging.weighting import State
from keras_vitbert.model.tensors import Tensor, ops

# The bits of float32.
_ONE = 0x3F800000
_INFINITY = 0x7F800000
_SHARE = 0.01  # the paper updates its masks every 10,000 of 1,000,000 steps


def masked(mask: Tensor, text: Tensor, image: Tensor, softness: float = 0.0) -> Tensor:
    """`M text + (1 - M) image`, where `M` is 1 or 0, or `softness` away from these."""
    if softness:
        hard = 1 - softness
        text, image = hard * text + softness * image, softness * text + hard * image
    return ops.where(mask, text, image)


class GradDrop(keras.layers.Layer):
    """Keeps one sign of each entry (Chen et al. 2020, "Just pick a sign", algorithm 1).

    `P = (1 + (t + i) / (|t| + |i|)) / 2`; where a uniform random number is below `P` the positive
    parts stay, elsewhere the negative ones. The paper drops at activations; this is the form for
    parameters, as in TorchJD.

    Args:
        leak: in [0, 1], the fraction of what is dropped that stays.
        seed: in [0, 2**32).
    """

    def __init__(self, leak: float = 0.0, seed: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.leak, self.seed = merges.GradDrop(leak=leak).leak, seed

    def choose(
        self, text: Sequence[Tensor], image: Sequence[Tensor], step: Tensor, masks: Any = None
    ) -> list[Tensor]:
        """The merged gradient of tensors of the same shapes, summed over the replicas."""
        chosen = []
        for place, (t, i) in enumerate(zip(text, image, strict=True)):
            size = ops.abs(t) + ops.abs(i)
            positive = (1 + ops.divide_no_nan(t + i, size)) / 2
            drawn = uniform(self.seed, step, place, t)
            signs = ops.where(drawn < positive, 1.0, -1.0)
            kept = [ops.where(ops.sign(g) == signs, 1.0, self.leak) * g for g in (t, i)]
            chosen.append(kept[0] + kept[1])
        return chosen


class GradientMask(keras.layers.Layer):
    """`G = M dL_text + (1 - M) dL_image` on the shared encoder (eq. 8), `M` by Algorithm 1.

    `M` starts as all ones. Each update clears the lowest-ranked of the remaining ones. The paper
    ranks by `|dL_text|` over the whole shared encoder, and a cleared entry stays cleared.

    Args:
        criterion: `text`: by `|t|`, as in the paper. `image`: the largest `|i|` are cleared.
            `ratio`: by `|t| / (|t| + |i|)`. `sign`: first the entries whose signs differ, by the
            same ratio. `random`: at random, the baseline of Figure 2.
        scope: `global`: one ranking over all tensors. `layerwise`: the same share of each tensor.
        cumulative: whether a cleared entry stays cleared; else each update starts from ones.
        softness: the share of the other gradient in each entry.
        seed: the random numbers depend on it and on the number of updates only.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        criterion: str = "text",
        scope: str = "global",
        cumulative: bool = True,
        softness: float = 0.0,
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        ranked = "text" if criterion == "random" else criterion
        # The config knows the ranges.
        merges.Merge(mask_criterion=ranked, mask_scope=scope, mask_softness=softness)
        self.criterion, self.scope, self.cumulative = criterion, scope, cumulative
        self.softness, self.seed = softness, seed

    def make_masks(self, variables: Sequence[Any]) -> None:
        """Makes a boolean mask for each variable, in the order of the gradients.

        Every replica computes the same mask from the summed gradient and keeps its own copy: to
        aggregate masks, `TPUStrategy` would send every replica's copy to every other. This is not
        `build`, as Keras keeps its arguments: the encoder would count as the merge's variables.
        """
        self.masks = [
            self.add_weight(
                name=f"mask_{variable.path.replace('/', '_')}",
                shape=variable.shape,
                dtype="bool",
                initializer="ones",
                trainable=False,
            )
            for variable in variables
        ]
        self.updates: keras.Variable | None = None
        if self.criterion == "random" or not self.cumulative:
            self.updates = self.add_weight(
                name="updates", shape=(), dtype="int32", initializer="zeros", trainable=False
            )

    @property
    def groups(self) -> int:
        """How many rankings there are: the length of `counts`."""
        return 1 if self.scope == "global" else len(self.masks)

    @property
    def sizes(self) -> list[int]:
        """The entries of each mask."""
        return [int(np.prod(mask.shape)) for mask in self.masks]

    @property
    def size(self) -> int:
        """The number of entries of `M`."""
        return sum(self.sizes)

    @property
    def cleared(self) -> list[int]:
        """The cleared entries of each mask; with several processes, all must ask."""
        # Counted where the masks are: where weights are divided, no host has a whole mask.
        ones = ops.stack([ops.count_nonzero(mask.value) for mask in self.masks])
        return np.subtract(self.sizes, ops.convert_to_numpy(ones)).tolist()

    def counts(self, wanted: int, updates: int) -> np.ndarray:
        """How many entries the next update clears.

        Args:
            wanted: the number of entries that are to be cleared after it.
            updates: the number of updates that are to be done after it.

        Returns:
            int32 array: `(1,)`, or with scope `layerwise` one for each mask; all 0 for no update.
        """
        sizes, cleared = self.sizes, self.cleared
        if self.scope == "global":
            sizes, cleared = [sum(sizes)], [sum(cleared)]
        if not self.cumulative and self.updates is not None:
            is_done = int(np.asarray(self.updates.value)) >= updates
            wanted, cleared = 0 if is_done else wanted, [0] * len(sizes)
        # The sums up to each tensor are rounded, so that the last one is `wanted`. A small tensor's
        # share may be below what it has cleared already: then the tensors around it get less.
        ends = [round(wanted * end / sum(sizes)) for end in np.cumsum(sizes).tolist()]
        left = np.subtract(ends, np.cumsum(cleared))
        left = np.clip(np.maximum.accumulate([0, *left]), 0, max(left[-1], 0))
        return np.diff(left).astype(np.int32)

    def choose(
        self,
        text: Sequence[Tensor],
        image: Sequence[Tensor],
        step: Tensor,
        masks: list[Tensor] | None = None,
    ) -> list[Tensor]:
        """The merged gradient (eq. 8), by the current masks or those of `refreshed`."""
        masks = masks or [ops.convert_to_tensor(mask.value) for mask in self.masks]
        return [masked(*entry, self.softness) for entry in zip(masks, text, image, strict=True)]

    def refreshed(
        self, text: Sequence[Tensor], image: Sequence[Tensor], counts: Tensor
    ) -> list[Tensor]:
        """The masks after one update of Algorithm 1, from gradients summed over all replicas.

        `counts`, see there, are int32; all 0 leave the masks as they are, at no cost.
        """
        masks = [ops.convert_to_tensor(mask.value) for mask in self.masks]

        def updated() -> list[Tensor]:
            begin = masks if self.cumulative else [ops.ones_like(mask) for mask in masks]
            values = self._ranked(text, image)
            if self.scope == "global":
                marks = smallest(values, begin, counts[0])
            else:
                marks = [
                    smallest([value], [mask], counts[place])[0]
                    for place, (value, mask) in enumerate(zip(values, begin, strict=True))
                ]
            return [
                ops.logical_and(mask, ops.logical_not(mark))
                for mask, mark in zip(begin, marks, strict=True)
            ]

        return ops.cond(ops.any(counts > 0), updated, lambda: list(masks))

    def next_state(self, masks: list[Tensor], counts: Tensor) -> State:
        """The state after `refreshed` for these counts, for `Merge.keep`; all 0 are no update."""
        state: State = list(zip(self.masks, masks, strict=True))
        if self.updates is not None:
            one = ops.cast(ops.any(counts > 0), "int32")
            state.append((self.updates, self.updates.value + one))
        return state

    def _ranked(self, text: Sequence[Tensor], image: Sequence[Tensor]) -> Sequence[Tensor]:
        """The values that entries are ranked by; the smallest magnitudes are cleared."""
        # With a batch of unknown size some gradients have no static shape.
        text, image = (
            [ops.reshape(g, mask.shape) for g, mask in zip(gradients, self.masks, strict=True)]
            for gradients in (text, image)
        )
        if self.criterion == "text":
            return text
        if self.criterion == "image":
            # The reverse order of the bits; `1 / |i|` would make ties.
            return [ops.view(_INFINITY - magnitude_bits(i), "float32") for i in image]
        if self.updates is not None and self.criterion == "random":
            updates = self.updates.value
            return [uniform(self.seed, updates, place, t) for place, t in enumerate(text)]
        values = []
        for t, i in zip(text, image, strict=True):
            ratio = ops.divide_no_nan(ops.abs(t), ops.abs(t) + ops.abs(i))
            if self.criterion == "sign":
                # Entries that agree come after a ratio of 1; a sum of floats would make ties.
                bits, agree = magnitude_bits(ratio), ops.sign(t) * ops.sign(i) >= 0
                ratio = ops.view(ops.where(agree, bits + (_ONE + 1), bits), "float32")
            values.append(ratio)
        return values


def cleared_after(updates: int, size: int, mask_ratio: float, mask_ratio_per_update: float) -> int:
    """How many of `size` entries Algorithm 1 has cleared after a number of updates.

    The sparsity grows by `mask_ratio_per_update` per update, up to `mask_ratio`. Only the total is
    rounded, so rounding errors do not accumulate.
    """
    return round(min(updates * mask_ratio_per_update, mask_ratio) * size)


class MaskSchedule(keras.callbacks.Callback):
    """Algorithm 1's schedule: a refresh of the masks every `interval` steps.

    The refresh happens inside the next training step and uses that step's text gradient. If that
    step is not applied, or the masks go back to older ones, the step that follows clears what is
    missing. Once the final sparsity is reached, there are no more refreshes, unless the masks are
    drawn again at each refresh.

    Args:
        interval: `mask_update_interval`; None for 1 % of the steps of `fit`, as in the paper.
        mask_ratio: final sparsity.
        mask_ratio_per_update: growth of the sparsity per update.

    Raises:
        ValueError: a value is out of range; or, when training begins, `interval` is None and the
            number of steps is unknown.
    """

    model: Any
    params: Any

    def __init__(
        self,
        interval: int | None = None,
        mask_ratio: float = 0.5,
        mask_ratio_per_update: float = 0.1,
    ):
        super().__init__()
        self.interval = interval
        self.schedule = {"mask_ratio": mask_ratio, "mask_ratio_per_update": mask_ratio_per_update}
        merges.Merge(  # which knows the ranges
            mask_ratio=mask_ratio,
            mask_ratio_per_update=mask_ratio_per_update,
            mask_update_interval=1 if interval is None else interval,
        )
        self._every = interval or 1  # steps
        self._settled: int | None = (
            None  # the number of updates for which the masks need nothing more
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        self._settled = None
        if self.interval is None:
            if self.params["steps"] is None:
                raise ValueError("steps_per_epoch: is None, so MaskSchedule needs an interval")
            steps = self.params["epochs"] * self.params["steps"]
            self._every = max(1, round(_SHARE * steps))

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        updates = self.model.step // self._every
        if self._settled == updates and not self.model.bad_steps:
            return
        mask = self.model.merge.mask
        wanted = cleared_after(updates, mask.size, **self.schedule)
        counts = mask.counts(wanted, updates) if wanted else 0
        if np.any(counts):
            self.model.request_gradient_stats(counts)
        else:
            self._settled = updates
