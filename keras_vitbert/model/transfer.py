"""From one backbone to another: what is kept, what is interpolated, what is fresh."""

import math
from typing import Any

from keras import ops

from pipelines.command_line import UserError


def transfer(source, target):
    """Copies the weights of one backbone into another.

    The encoder is always kept. The embedding of a modality is kept where both have it, image
    positions interpolated to the target's grid, text positions cut to its length; where the source
    has none (a `bert` backbone for images, a `vit` backbone for text) it stays as it is, fresh.

    Args:
        source, target: `ViTBertBackbone`; the target's weights change.

    Returns:
        dict of the target's parts, `encoder`, `image_embedding` and `text_embedding`, to what was
        done: `kept`, `interpolated`, `fresh`.

    Raises:
        UserError: a part has another shape than that of the source.
    """
    if len(source.blocks) != len(target.blocks):
        raise UserError(
            f"the checkpoint has {len(source.blocks)} blocks, the model {len(target.blocks)}; give "
            "the checkpoint of that architecture"
        )
    for ours, theirs in zip(
        [*target.blocks, target.final_norm], [*source.blocks, source.final_norm], strict=True
    ):
        _copy(theirs, ours)
    done = {"encoder": "kept"}
    if target.image_embedding is not None:
        done["image_embedding"] = "fresh"
        if source.image_embedding is not None:
            done["image_embedding"] = _copy_image_embedding(
                source.image_embedding, target.image_embedding
            )
    if target.text_embedding is not None:
        done["text_embedding"] = "fresh"
        if source.text_embedding is not None:
            _copy_text_embedding(source.text_embedding, target.text_embedding)
            done["text_embedding"] = "kept"
    return done


def interpolate_positions(positions: Any, grid: int) -> Any:
    """Position embeddings of images for another grid of patches.

    Bilinear in two dimensions, as an image of `D` channels is resized: the value for a patch is
    taken where its centre lies among the centres of the old patches, and those at the border are
    extended. The class token keeps its own (ViT, section 3.2, where the kind of interpolation is
    left open).

    Args:
        positions: `(1, old * old + 1, D)`, the class token's first.
        grid: int, patches a side.

    Returns:
        `(1, grid * grid + 1, D)` float32.
    """
    positions = ops.cast(positions, "float32")
    old, width = math.isqrt(positions.shape[1] - 1), positions.shape[2]
    if old == grid:
        return positions
    patches = ops.reshape(positions[:, 1:], (1, old, old, width))
    patches = ops.image.resize(
        patches, (grid, grid), interpolation="bilinear", data_format="channels_last"
    )
    patches = ops.reshape(patches, (1, grid * grid, width))
    return ops.concatenate([positions[:, :1], patches], axis=1)


def _copy_image_embedding(source, target):
    if source.patch_size != target.patch_size:
        raise UserError(
            f"the checkpoint has patches of {source.patch_size} pixels, not {target.patch_size}; "
            "give an --architecture with its patches, or another checkpoint"
        )

    def interpolated(name, value):
        if name != "position_embedding":
            return value
        return ops.convert_to_numpy(interpolate_positions(value, target.grid))

    _copy(source, target, interpolated)
    return "kept" if source.grid == target.grid else "interpolated"


def _copy_text_embedding(source, target):
    longest, length = source.max_sequence_length, target.max_sequence_length
    if length > longest:
        raise UserError(
            f"the checkpoint has positions for {longest} tokens, not {length}; set at most "
            "that, or give another checkpoint"
        )

    def cut(name, value):  # shorter texts use the first positions
        return value[:, :length] if name == "position_embedding" else value

    _copy(source, target, cut)


def _copy(source, target, convert=lambda name, value: value):
    """Copies the weights of a layer, each through `convert(name, value)`."""
    for ours, theirs in zip(target.weights, source.weights, strict=True):
        value = convert(theirs.name, ops.convert_to_numpy(theirs.value))
        if tuple(value.shape) != tuple(ours.shape):
            raise UserError(
                f"{ours.path} has the shape {tuple(ours.shape)}, in the checkpoint "
                f"{tuple(value.shape)}; give the checkpoint of that architecture"
            )
        ours.assign(value)
