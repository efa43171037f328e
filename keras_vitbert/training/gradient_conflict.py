"""How much the two tasks' gradients agree on the shared encoder, per block and overall.

This is measured in probing steps, from gradients that are summed over all replicas; see
`keras_vitbert.training.joint_trainer.JointTrainer.request_gradient_stats`.
"""

import itertools
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_vitbert.merging.weighting import products, square_sums
from keras_vitbert.model.shared_weights import block_of

ALL = "all"  # names the whole shared encoder, among the names of its blocks
BUCKETS = 30  # of a histogram, as in `tf.summary.histogram`


class GradientConflict(keras.layers.Layer):
    """Compares two gradients and keeps the result.

    Every replica computes the same values and keeps its own copy, as with masks.

    Args:
        shared_variables: those that both tasks reach, in order.
        histograms: whether to make histograms of both gradients, too.
    """

    def __init__(self, shared_variables: list, histograms: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.histograms = histograms
        self.blocks = list(dict.fromkeys(block_of(v.path) for v in shared_variables))
        self._places = [self.blocks.index(block_of(v.path)) for v in shared_variables]
        rows = len(self.blocks)

        def weight(name, *shape, dtype="float32"):
            return self.add_weight(
                name=name, shape=shape, dtype=dtype, initializer="zeros", trainable=False
            )

        # Columns: both norms, cosine, opposite signs. The last row is that of the whole encoder.
        self.numbers = weight("numbers", rows + 1, 4)
        if histograms:
            self.ends = weight("ends", rows, 2, 2)  # block, text or image, lowest and highest
            self.counts = weight("counts", rows, 2, BUCKETS, dtype="int32")

    def measure(self, text: list, image: list, good: Any = True):
        """Compares two gradients of the shared variables; unless `good`, the last results stay."""

        def keep(variable, value):
            variable.assign(ops.where(good, value, variable.value))

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
        keep(self.numbers, ops.stack([text_norm, image_norm, cosine, share], axis=1))
        if self.histograms:
            found = [histogram(gradients) for pair in grouped for gradients in pair]
            ends, counts = zip(*found, strict=True)
            keep(self.ends, ops.reshape(ops.stack(ends), self.ends.shape))
            keep(self.counts, ops.reshape(ops.stack(counts), self.counts.shape))

    def values(self) -> dict[str, dict[str, float]]:
        """The last results, by the name of a block, or `all`.

        They are `text_norm`, `image_norm`, `cosine`, `norm_ratio` (text to image) and
        `opposite_sign`, the fraction of entries whose gradients have opposite signs. Cosine and
        ratio are 0 where a norm is 0.
        """
        numbers = np.asarray(ops.convert_to_numpy(self.numbers.value), float)
        names = ("text_norm", "image_norm", "cosine", "opposite_sign")
        values = {}
        for block, row in zip([*self.blocks, ALL], numbers.tolist(), strict=True):
            found = dict(zip(names, row, strict=True))
            norms = found["text_norm"], found["image_norm"]
            values[block] = {**found, "norm_ratio": norms[0] / norms[1] if norms[1] else 0.0}
        return values

    def buckets(self) -> dict[tuple[str, str], np.ndarray]:
        """The last histograms, by block and `text` or `image`; empty without histograms.

        They are arrays `(BUCKETS, 3)` of left edges, right edges and counts.
        """
        if not self.histograms:
            return {}
        ends, counts = (np.asarray(ops.convert_to_numpy(v.value)) for v in (self.ends, self.counts))
        found = {}
        for block, side in itertools.product(range(len(self.blocks)), range(2)):
            lowest, highest = ends[block, side].astype(np.float64)
            edges = np.linspace(lowest, highest, BUCKETS + 1)
            rows = np.stack([edges[:-1], edges[1:], counts[block, side]], axis=1)
            found[self.blocks[block], ("text", "image")[side]] = rows
        return found


def _sums(text, image):
    """Sums over all entries: `square_sums`, opposite signs, and the number of entries."""
    # By the signs, as the product of two small numbers may be 0.
    opposite = [
        ops.count_nonzero(ops.sign(t) * ops.sign(i) < 0) for t, i in zip(text, image, strict=True)
    ]
    size = sum(ops.size(t) for t in text)
    return square_sums(text, image), ops.cast(sum(opposite), "int32"), ops.cast(size, "int32")


def histogram(tensors: list) -> tuple[Any, Any]:
    """A histogram of the entries of tensors: lowest and highest, and counts between them.

    There are `BUCKETS` counts, of equal width.
    """
    lowest = ops.min(ops.stack([ops.min(t) for t in tensors]))
    highest = ops.max(ops.stack([ops.max(t) for t in tensors]))
    scale = ops.divide_no_nan(float(BUCKETS), highest - lowest)
    counts = []
    for tensor in tensors:
        bucket = ops.cast(ops.reshape(tensor - lowest, (-1,)) * scale, "int32")
        bucket = ops.clip(bucket, 0, BUCKETS - 1)
        counts.append(ops.segment_sum(ops.ones_like(bucket), bucket, BUCKETS))
    return ops.stack([lowest, highest]), sum(counts[1:], counts[0])
