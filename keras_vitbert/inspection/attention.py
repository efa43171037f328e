"""What each block attends to, and how strongly it responds, token by token, for given inputs."""

from keras import ops


def look_inside(backbone, inputs):
    """Runs a backbone on inputs of one modality and records what its blocks do.

    Args:
        backbone: `ViTBertBackbone`.
        inputs: dict of its inputs, `images` or `token_ids`, `segment_ids` and `padding_mask`.

    Returns:
        float32 tensors. The attention weights are `(batch, blocks, heads, length, length)`; each
        row, what one token attends to, adds up to 1. The mean absolute activation at the output of
        every block is `(batch, blocks, length)`, the mean over the hidden units.
    """
    stream = "image" if "images" in inputs else "text"
    x = backbone.embed(stream, inputs, training=False)
    mask = inputs.get("padding_mask") if stream == "text" else None
    attention, activation = [], []
    for block in backbone.blocks:
        x, weights = block(x, padding_mask=mask, training=False, return_attention_scores=True)
        attention.append(ops.cast(weights, "float32"))
        activation.append(ops.mean(ops.abs(ops.cast(x, "float32")), axis=-1))
    return ops.stack(attention, axis=1), ops.stack(activation, axis=1)
