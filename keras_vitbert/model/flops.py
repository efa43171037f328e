"""Counts the floating-point operations of a network's matrix products.

These are nearly all of a transformer's work. A product of `(m, k)` and `(k, n)` counts `2 m k n`.
Training counts each product of the forward pass three times: the backward pass computes one more
for each of its operands.
"""

TRAINING = 3  # the cost of a training step, in forward passes


def encoder_flops(backbone, length, read):
    """The operations that the blocks take for one sequence, forward.

    Args:
        backbone: `ViTBertBackbone`.
        length: int, tokens, including padding and the class token of an image.
        read: int, the tokens that heads read; of the others, the last block needs keys and values.
    """
    hidden, intermediate = backbone.hidden_dim, backbone.intermediate_dim
    keys_values = 2 * hidden**2  # per token
    others = 2 * hidden**2 + 2 * hidden * intermediate  # query, output; MLP
    others += 2 * length * hidden  # scores, and the sum of values
    tokens = backbone.num_layers * length
    return 2 * (tokens * (keys_values + others) - (length - read) * others)


def image_flops(backbone, num_classes, head="paper"):
    """The operations for one image, forward, with the head.

    Args:
        backbone: `ViTBertBackbone` with images.
        num_classes: int.
        head: str, the kind of its head, see `heads`.
    """
    patches = (backbone.image_size // backbone.patch_size) ** 2
    projection = 2 * patches * 3 * backbone.patch_size**2 * backbone.hidden_dim
    read = 2 if head == "deit" else 1
    encoder = encoder_flops(backbone, backbone.prefix_tokens + patches, read)
    return encoder + projection + head_flops(backbone, num_classes, head)


def text_flops(backbone, length, predictions):
    """The operations for one text, forward, with the heads of masked-LM and next sentence.

    Args:
        backbone: `ViTBertBackbone` with text.
        length: int, tokens, padding included.
        predictions: int, masked positions, padding included.
    """
    heads = predictions * head_flops(backbone, backbone.vocabulary_size) + head_flops(backbone, 2)
    return encoder_flops(backbone, length, 1 + predictions) + heads


def classifier_flops(backbone, num_classes, length=0, head="paper"):
    """The operations of a `Classifier` for one image or one text, forward.

    Args:
        backbone: `ViTBertBackbone` with one modality.
        num_classes: int.
        length: float, tokens of a text, padding included.
        head: str, the kind of its head, see `heads`.
    """
    if backbone.image_size is not None:
        return image_flops(backbone, num_classes, head)
    return encoder_flops(backbone, length, 1) + head_flops(backbone, num_classes, head)


def head_flops(backbone, num_classes, kind="paper"):
    """The operations of a head for one vector, forward.

    Args:
        backbone: `ViTBertBackbone`.
        num_classes: int.
        kind: str, of the head, see `heads`.
    """
    hidden = backbone.hidden_dim
    if kind in ("vit", "deit"):
        return 2 * hidden * num_classes * (1 if kind == "vit" else 2)
    return 2 * hidden * (hidden + num_classes)
