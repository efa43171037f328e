"""Transfers weights between backbones: kept, interpolated or fresh."""

import math
from typing import Any

from keras import ops

_OF_ENCODER = ("num_layers", "norm", "activation", "layer_norm_epsilon", "embedding_scale")
_OF_EMBEDDINGS = {
    "image_embedding": ("patch_size", "patch_bias", "prefix_tokens", "image_mean", "image_std"),
    "text_embedding": ("num_segments",),
}


def transfer(source, target):
    """Copies the weights of one backbone into another.

    The encoder is always kept. A modality's embedding is kept if both have it, with image positions
    interpolated to the target's grid and text positions cut to its length. If the source has none
    (a `bert` backbone for images, a `vit` backbone for text), the target's stays fresh. Both must
    have the same architecture, as weights mean something else in another one.

    Args:
        source, target: `ViTBertBackbone`; the target's weights change.

    Returns:
        dict of the target's parts (`encoder`, `image_embedding`, `text_embedding`) to `kept`,
        `interpolated` or `fresh`.

    Raises:
        ValueError: the architectures, or the shapes of a part, differ.
    """
    _require_same(source, target)
    for ours, theirs in zip(target.shared_layers, source.shared_layers, strict=True):
        _copy(theirs, ours)
    done = {"encoder": "kept"}
    for part, copy in (
        ("image_embedding", _copy_image_embedding),
        ("text_embedding", _copy_text_embedding),
    ):
        ours, theirs = getattr(target, part), getattr(source, part)
        if ours is not None:
            done[part] = "fresh" if theirs is None else copy(theirs, ours)
    return done


def transfer_heads(source, target, names):
    """Copies the heads that two networks have in common: of the same kind and the same sizes.

    Args:
        source: `PreTrainingNetwork`.
        target: `PreTrainingNetwork`; its weights change.
        names: sequence of str, from `image_head`, `mlm_head` and `nsp_head`.

    Returns:
        list of str, the names of the heads that were copied.
    """
    done = []
    for name in names:
        ours, theirs = getattr(target, name), getattr(source, name)
        if ours is None or theirs is None or ours.kind != theirs.kind:
            continue
        shapes = [[tuple(weight.shape) for weight in head.weights] for head in (ours, theirs)]
        if shapes[0] == shapes[1]:
            _copy(theirs, ours)
            done.append(name)
    return done


def _require_same(source, target):
    """Refuses backbones whose weights differ in meaning."""
    names = [*_OF_ENCODER]
    for part, of_part in _OF_EMBEDDINGS.items():
        if getattr(source, part) is not None and getattr(target, part) is not None:
            names += of_part
    ours, theirs = ({name: getattr(x, name) for name in names} for x in (target, source))
    differing = [
        f"model.{name} is {ours[name]}, in the checkpoint {value}"
        for name, value in theirs.items()
        if value != ours[name]
    ]
    if differing:
        raise ValueError("; ".join(differing))


def interpolate_positions(positions: Any, grid: int, prefix: int = 1) -> Any:
    """Interpolates the position embeddings of images to another grid of patches.

    The interpolation is bilinear in two dimensions, like resizing an image of `D` channels with
    pixel centres as sample points. The class token keeps its embedding (ViT, section 3.2, which
    does not specify the kind of interpolation).

    Args:
        positions: `(1, prefix + old * old, D)`, the class token's first.
        grid: int, patches per side.
        prefix: int, tokens before the patches.

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


def _copy_image_embedding(source, target):
    def interpolated(positions):
        return ops.convert_to_numpy(
            interpolate_positions(positions, target.grid, target.prefix_tokens)
        )

    _copy(source, target, interpolated)
    return "kept" if source.grid == target.grid else "interpolated"


def _copy_text_embedding(source, target):
    longest, length = source.max_sequence_length, target.max_sequence_length
    if length > longest:
        raise ValueError(f"the checkpoint has positions for {longest} tokens, not {length}")

    _copy(source, target, lambda positions: positions[:, :length])  # texts use the first ones
    return "kept"


def _copy(source, target, fitted=lambda positions: positions):
    """Copies the weights of a layer; `fitted` is applied to its position embedding."""
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        value: Any = ops.convert_to_numpy(theirs.value)
        if theirs.name == "position_embedding":
            value = fitted(value)
        ours.assign(value)
