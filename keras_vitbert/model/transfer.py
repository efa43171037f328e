"""Transfers weights between backbones: kept, interpolated or fresh."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_vitbert.model.tensors import Tensor, ops

if TYPE_CHECKING:
    from keras_vitbert.model.backbone import ViTBertBackbone
    from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
    from keras_vitbert.model.pretraining_network import PreTrainingNetwork

_OF_ENCODER = ("num_layers", "norm", "activation", "layer_norm_epsilon", "embedding_scale")
_OF_EMBEDDINGS = {
    "image_embedding": ("patch_size", "patch_bias", "prefix_tokens", "image_mean", "image_std"),
    "text_embedding": ("num_segments",),
}


def transfer(source: "ViTBertBackbone", target: "ViTBertBackbone") -> dict[str, str]:
    """Copies the weights of one backbone into another.

    The encoder is always kept. A modality's embedding is kept if both have it, with image positions
    interpolated to the target's grid and text positions cut to its length. If the source has none
    (a `bert` backbone for images, a `vit` backbone for text), the target's stays fresh. Both must
    have the same architecture, as weights mean something else in another one.

    Returns:
        The target's `encoder`, `image_embedding` and `text_embedding`, each with `kept`,
        `interpolated` or `fresh`.

    Raises:
        ValueError: the architectures, or the shapes of a layer, differ.
    """
    _require_same(source, target)
    for ours, theirs in zip(target.shared_layers, source.shared_layers, strict=True):
        _copy(theirs, ours)
    done = {"encoder": "kept"}
    for name, copy in (
        ("image_embedding", _copy_image_embedding),
        ("text_embedding", _copy_text_embedding),
    ):
        ours, theirs = getattr(target, name), getattr(source, name)
        if ours is not None:
            done[name] = "fresh" if theirs is None else copy(theirs, ours)
    return done


def transfer_heads(
    source: "PreTrainingNetwork", target: "PreTrainingNetwork", names: Sequence[str]
) -> list[str]:
    """Copies those heads that are of the same kind and sizes in both networks; their names.

    `names` are from `image_head`, `mlm_head` and `nsp_head`.
    """
    done = []
    for name in names:
        ours, theirs = getattr(target, name), getattr(source, name)
        if ours is None or theirs is None or ours.kind != theirs.kind:
            continue
        if [tuple(w.shape) for w in ours.weights] == [tuple(w.shape) for w in theirs.weights]:
            _copy(theirs, ours)
            done.append(name)
    return done


def _require_same(source: "ViTBertBackbone", target: "ViTBertBackbone") -> None:
    """Refuses backbones whose weights differ in meaning."""
    names = [*_OF_ENCODER]
    for embedding, of_embedding in _OF_EMBEDDINGS.items():
        if getattr(source, embedding) is not None and getattr(target, embedding) is not None:
            names += of_embedding
    pairs = {name: (getattr(target, name), getattr(source, name)) for name in names}
    differing = [
        f"model.{name} is {ours}, in the checkpoint {theirs}"
        for name, (ours, theirs) in pairs.items()
        if ours != theirs
    ]
    if differing:
        raise ValueError("; ".join(differing))


def interpolate_positions(positions: Tensor, grid: int, prefix: int = 1) -> Tensor:
    """Interpolates the position embeddings of images to another grid of patches.

    The interpolation is bilinear in two dimensions, like resizing an image of `D` channels with
    pixel centres as sample points. The class token keeps its embedding (ViT, section 3.2, which
    does not specify the kind of interpolation).

    Args:
        positions: `(1, prefix + old * old, D)`, those of the `prefix` tokens first.
        grid: patches per side.

    Returns:
        `(1, prefix + grid * grid, D)` float32.
    """
    positions = ops.cast(positions, "float32")
    old, width = math.isqrt(positions.shape[1] - prefix), positions.shape[2]
    if old == grid:
        return positions
    patches = ops.reshape(positions[:, prefix:], (1, old, old, width))
    patches = ops.image.resize(
        patches, (grid, grid), interpolation="bilinear", data_format="channels_last"
    )
    patches = ops.reshape(patches, (1, grid * grid, width))
    return ops.concatenate([positions[:, :prefix], patches], axis=1)


def _copy_image_embedding(source: "ImageEmbedding", target: "ImageEmbedding") -> str:
    def interpolated(positions: np.ndarray) -> np.ndarray:
        return ops.convert_to_numpy(
            interpolate_positions(positions, target.grid, target.prefix_tokens)
        )

    _copy(source, target, interpolated)
    return "kept" if source.grid == target.grid else "interpolated"


def _copy_text_embedding(source: "TextEmbedding", target: "TextEmbedding") -> str:
    longest, length = source.max_sequence_length, target.max_sequence_length
    if length > longest:
        raise ValueError(f"the checkpoint has positions for {longest} tokens, not {length}")
    _copy(source, target, lambda positions: positions[:, :length])  # texts use the first ones
    return "kept"


def _copy(
    source: keras.layers.Layer,
    target: keras.layers.Layer,
    fit: Callable[[np.ndarray], np.ndarray] = lambda positions: positions,
) -> None:
    """Copies the weights of a layer; `fit` is applied to its position embedding."""
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        value = ops.convert_to_numpy(theirs.value)
        ours.assign(fit(value) if theirs.name == "position_embedding" else value)
