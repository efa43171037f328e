"""How much the two tasks' gradients agree on the shared encoder, per block and overall.

This is measured in probing steps, from gradients that are summed over all replicas; see
`keras_vitbert.training.multi_task_trainer.MultiTaskTrainer.request_gradient_stats`.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vitbert.merging.weighting import products, square_sums
from keras_vitbert.model.shared_weights import block_of
from keras_vitbert.model.tensors import Tensor, ops

ALL = "all"  # names the whole shared encoder, among the names of its blocks


class GradientConflict(keras.layers.Layer):
    """Compares two gradients of the shared variables, which are in order, and keeps the result.

    Every replica computes the same values and keeps its own copy, as with masks.
    """

    def __init__(self, shared_variables: Sequence[Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.blocks = list(dict.fromkeys(block_of(v.path) for v in shared_variables))
        self._places = [self.blocks.index(block_of(v.path)) for v in shared_variables]
        # Columns: both norms, cosine, opposite signs. The last row is that of the whole encoder.
        self.numbers = self.add_weight(
            name="numbers",
            shape=(len(self.blocks) + 1, 4),
            dtype="float32",
            initializer="zeros",
            trainable=False,
        )

    def measure(self, text: Sequence[Tensor], image: Sequence[Tensor], good: Tensor = True) -> None:
        """Compares two gradients of the shared variables; unless `good`, the last results stay."""
        grouped = [([], []) for _ in self.blocks]
        for place, t, i in zip(self._places, text, image, strict=True):
            grouped[place][0].append(t)
            grouped[place][1].append(i)
        columns = [ops.stack(column) for column in zip(*(_sums(*p) for p in grouped), strict=True)]
        # The last row is that of all blocks.
        sums, opposite, sizes = (
            ops.concatenate([column, ops.sum(column, axis=0, keepdims=True)]) for column in columns
        )
        text_norm, image_norm, cosine = products(sums)
        share = ops.cast(opposite, "float32") / ops.cast(sizes, "float32")
        numbers = ops.stack([text_norm, image_norm, cosine, share], axis=1)
        self.numbers.assign(ops.where(good, numbers, self.numbers.value))

    def values(self) -> dict[str, dict[str, float]]:
        """The last results, by the name of a block, or `all`.

        They are `text_norm`, `image_norm`, `cosine`, `norm_ratio` (text to image) and
        `opposite_sign`, the fraction of entries whose gradients have opposite signs. Cosine and
        ratio are 0 where a norm is 0.
        """
        numbers = np.asarray(ops.convert_to_numpy(self.numbers.value), float).tolist()
        return {
            block: {
                "text_norm": text,
                "image_norm": image,
                "cosine": cosine,
                "opposite_sign": opposite,
                "norm_ratio": text / image if image else 0.0,
            }
            for block, (text, image, cosine, opposite) in zip(
                [*self.blocks, ALL], numbers, strict=True
            )
        }


def _sums(text: list[Tensor], image: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over all entries: `square_sums`, opposite signs, and the number of entries."""
    # By the signs, as the product of two small numbers may be 0.
    opposite = [
        ops.count_nonzero(ops.sign(t) * ops.sign(i) < 0) for t, i in zip(text, image, strict=True)
    ]
    size = sum(ops.size(t) for t in text)
    return square_sums(text, image), ops.cast(sum(opposite), "int32"), ops.cast(size, "int32")
