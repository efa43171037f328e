"""How strongly hidden units and tokens respond in every block, and which units both streams use."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops
from scipy import stats

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.pretraining_network import image_inputs
from keras_vitbert.model.tensors import Tensor
from keras_vitbert.model.whole_batches import on_whole_batches
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP

LEFT_OUT = (PAD, CLS, SEP, MASK)  # tokens that are not part of the text
TOP = 0.1  # of the units


class MeanActivations:
    """Mean absolute activation of every hidden unit at the output of every block.

    The mean is over the tokens of all examples: the patches of an image, without the class token
    and DeiT's second token; the word pieces of a text, without padding and `LEFT_OUT`. Where
    masking has replaced a piece, its replacement counts. Examples whose `image_weights` or
    `text_weights` are 0 only fill up a batch and do not count.

    Args:
        backbone: with one or both modalities.
        strategy: the backbone's.
        vocabulary: by token id; None without text.
    """

    def __init__(
        self,
        backbone: ViTBertBackbone,
        strategy: tf.distribute.Strategy,
        vocabulary: list[str] | None = None,
    ):
        self._backbone = backbone
        inputs = {"image": "images", "text": "token_ids"}
        self._modalities = [kind for kind, name in inputs.items() if name in backbone.input]
        self._left_out = [vocabulary.index(token) for token in LEFT_OUT] if vocabulary else []
        self._sums = on_whole_batches(self.step, backbone, strategy, sums=True)

    def __call__(self, batches: Iterable[dict]) -> dict[str, np.ndarray]:
        """Averages over batches as `JointStream.validation` yields them, distributed.

        Returns:
            A modality to float32 `(blocks, D)`; 0 where no token counts.
        """
        sums, counts = 0.0, 0.0
        for batch in batches:
            more = self._sums(batch)
            sums += more[0].astype(np.float64)
            counts += more[1].astype(np.float64)
        means = sums / np.maximum(np.reshape(counts, (-1, 1, 1)), 1)
        return dict(zip(self._modalities, means.astype(np.float32), strict=True))

    def step(self, batch: dict) -> tuple[Tensor, Tensor]:
        """One replica's float32 sums `(modalities, blocks, D)` and token counts `(modalities,)`."""
        sums, counts = [], []
        for modality in self._modalities:
            is_image = modality == "image"
            inputs = image_inputs(batch) if is_image else batch
            counted = self._counted_patches(batch) if is_image else self._counted_words(batch)
            of_blocks = []
            for x in _block_outputs(self._backbone, modality, inputs):
                values = ops.abs(ops.cast(x, "float32"))
                # Not a matrix product, which a TPU would round to bfloat16.
                of_blocks.append(ops.sum(ops.where(counted[..., None], values, 0.0), axis=(0, 1)))
            sums.append(ops.stack(of_blocks))
            counts.append(ops.sum(ops.cast(counted, "float32")))
        return ops.stack(sums), ops.stack(counts)

    def _counted_patches(self, batch: dict) -> Tensor:
        """Bool `(images, length)`."""
        backbone: Any = self._backbone  # Keras' properties are badly typed
        length = backbone.prefix_tokens + (backbone.image_size // backbone.patch_size) ** 2
        is_patch = np.arange(length)[None] >= backbone.prefix_tokens
        return is_patch & (batch["image_weights"][:, None] > 0)

    def _counted_words(self, batch: dict) -> Tensor:
        """Bool `(texts, length)`."""
        counted: Tensor = ops.cast(batch["padding_mask"], "bool")
        for token in self._left_out:
            counted &= batch["token_ids"] != token
        return counted & (batch["text_weights"][:, None] > 0)


def look_inside(backbone: ViTBertBackbone, inputs: dict) -> tuple[Tensor, Tensor]:
    """What the blocks do with `images`, or with `token_ids`, `segment_ids` and `padding_mask`.

    Returns:
        float32 attention weights `(batch, blocks, heads, length, length)`, each row, what one token
        attends to, summing to 1; and the activations `(batch, blocks, length)` at the output of
        every block, absolute and averaged over the hidden units.
    """
    modality = "image" if "images" in inputs else "text"
    attention, activation = [], []
    for x, weights in _block_outputs(backbone, modality, inputs, return_attention_scores=True):
        attention.append(ops.cast(weights, "float32"))
        activation.append(ops.mean(ops.abs(ops.cast(x, "float32")), axis=-1))
    return ops.stack(attention, axis=1), ops.stack(activation, axis=1)


def _block_outputs(
    backbone: ViTBertBackbone, modality: str, inputs: dict, **options: bool
) -> Iterator[Tensor]:
    x = backbone.embed(modality, inputs, training=False)
    mask = inputs["padding_mask"] if modality == "text" else None
    for block in backbone.blocks:
        output = block(x, padding_mask=mask, training=False, **options)
        yield output
        x = output[0] if options else output


# --- which units images and text use, in NumPy ---------------------------------------------------


def co_activation(image: np.ndarray, text: np.ndarray) -> dict[str, np.ndarray]:
    """The `overlap` and rank `correlation`, `(blocks,)`, of mean activations `(blocks, D)`."""
    pairs = list(zip(image, text, strict=True))
    return {
        "overlap": np.array([overlap(*pair) for pair in pairs]),
        "correlation": np.array([rank_correlation(*pair) for pair in pairs]),
    }


def top_units(activations: np.ndarray) -> np.ndarray:
    """The units that respond most, of activations `(D,)`, at least 0.

    Returns:
        bool `(D,)`: the `k = max(1, round(TOP * D))` units with the largest activations; of equal
        units, those with the smaller index. A unit whose activation is 0 does not respond and is
        never among them, so there may be fewer than `k`, or none.
    """
    top = np.zeros(len(activations), bool)
    top[np.argsort(-activations, kind="stable")[: max(1, round(TOP * len(top)))]] = True
    return top & (activations > 0)


def overlap(image: np.ndarray, text: np.ndarray) -> float:
    """The share of the top units that images and text, `(D,)`, have in common: `|A & B| / k`.

    `k` is the size of the larger set; the overlap is 0 where both are empty. Two independent sets
    of `k` units have `k / D` in common on average.
    """
    a, b = top_units(image), top_units(text)
    larger = max(a.sum(), b.sum())
    return float((a & b).sum() / larger) if larger else 0.0


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Spearman's rank correlation; 0 if all values of one side are equal: it is not defined."""
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    result: Any = stats.spearmanr(first, second)
    return float(result.statistic)


def by_preference(image: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Indices of units `(D,)`, from those that prefer images to those that prefer text.

    The order is that of `(image - text) / (image + text)`, which is the order of their ratio: it
    stays the same if one modality is stronger in all units. Of equal units, the one with the
    smaller index comes first.
    """
    image, text = np.asarray(image, np.float64), np.asarray(text, np.float64)
    total = image + text
    preference = np.divide(image - text, total, out=np.zeros_like(total), where=total > 0)
    return np.argsort(-preference, kind="stable")


def scale_top(values: np.ndarray | tuple[np.ndarray, np.ndarray]) -> float:
    """The value of the brightest colour: the 99th percentile, or the largest where that is 0.

    It leaves out the few units far above all others. Values that are not finite count as 0.
    """
    values = np.where(np.isfinite(values), values, 0)
    return float(np.percentile(values, 99)) or float(np.max(values))
