"""From a pre-trained network to a classifier: what is kept, what is interpolated, what is fresh."""

import math

from keras import ops

from keras_vitbert.command_line import UserError


def transfer(network, classifier):
    """Copies a pre-trained network's weights into a classifier; heads are dropped.

    The encoder is always kept. The embedding of the classifier's modality is kept where the
    network has it, its image positions interpolated to the classifier's grid; across modalities (a
    `bert` network on images, a `vit` network on text) it stays as it is, fresh.

    Args:
        network: `PreTrainingNetwork`.
        classifier: `Classifier`, whose weights change.

    Returns:
        dict of a part of the classifier to what was done: `kept`, `interpolated`, `fresh`.

    Raises:
        UserError: a part has another shape than that of the network.
    """
    source, target = network.backbone, classifier.backbone
    if len(source.blocks) != len(target.blocks):
        raise UserError(
            f"the checkpoint has {len(source.blocks)} blocks, the model {len(target.blocks)}; give "
            "the checkpoint of that architecture"
        )
    for ours, theirs in zip(
        [*target.blocks, target.final_norm], [*source.blocks, source.final_norm], strict=True
    ):
        _copy(theirs, ours)
    done = {"encoder": "kept", "embedding": "fresh", "head": "fresh"}
    if classifier.kind == "images" and source.image_embedding is not None:
        done["embedding"] = _copy_image_embedding(source.image_embedding, target.image_embedding)
    if classifier.kind == "text" and source.text_embedding is not None:
        longest = source.max_sequence_length
        if target.max_sequence_length > longest:
            raise UserError(
                f"--config.max_length={target.max_sequence_length}: the checkpoint has positions "
                f"for {longest} tokens; set at most that"
            )

        def cut(name, value):  # shorter texts use the first positions
            length = target.max_sequence_length
            return value[:, :length] if name == "position_embedding" else value

        _copy(source.text_embedding, target.text_embedding, cut)
        done["embedding"] = "kept"
    return done


def interpolate_positions(positions, grid):
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
