"""Counts the floating-point operations of a network's matrix products, forward.

These are nearly all of a transformer's work. A product of `(m, k)` and `(k, n)` counts `2 m k n`.
Training counts each product of the forward pass three times: the backward pass computes one more
for each of its operands.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_vitbert.model.backbone import ViTBertBackbone

TRAINING = 3  # the cost of a training step, in forward passes


def encoder_flops(backbone: "ViTBertBackbone", length: float, read: float) -> float:
    """The operations of the blocks for one sequence.

    Args:
        length: tokens, including padding and the class token of an image.
        read: the tokens that heads read; of the others, the last block needs keys and values.
    """
    hidden, intermediate = backbone.hidden_dim, backbone.intermediate_dim
    keys_values = 2 * hidden**2  # per token
    others = 2 * hidden**2 + 2 * hidden * intermediate  # query, output; MLP
    others += 2 * length * hidden  # scores, and the sum of values
    tokens = backbone.num_layers * length
    return 2 * (tokens * (keys_values + others) - (length - read) * others)


def image_flops(backbone: "ViTBertBackbone", num_classes: int, head: str | dict = "paper") -> float:
    """The operations for one image, with a head of a kind of `heads`."""
    projection = 2 * backbone.patches * 3 * backbone.patch_size**2 * backbone.hidden_dim
    read = 2 if head == "deit" else 1
    encoder = encoder_flops(backbone, backbone.prefix_tokens + backbone.patches, read)
    return encoder + projection + head_flops(backbone, num_classes, head)


def text_flops(backbone: "ViTBertBackbone", length: int, predictions: int) -> float:
    """The operations for one text, with the heads of masked-LM and next sentence.

    `length` counts tokens and `predictions` masked positions, padding included.
    """
    words = backbone.vocabulary_size or 0
    heads = predictions * head_flops(backbone, words) + head_flops(backbone, 2)
    return encoder_flops(backbone, length, 1 + predictions) + heads


def classified_text_flops(
    backbone: "ViTBertBackbone", num_classes: int, length: float, head: str | dict = "paper"
) -> float:
    """The operations of a `Classifier` for one text of `length` tokens."""
    return encoder_flops(backbone, length, 1) + head_flops(backbone, num_classes, head)


def head_flops(backbone: "ViTBertBackbone", num_classes: int, kind: str | dict = "paper") -> float:
    """The operations of a head of a kind of `heads` for one vector."""
    hidden = backbone.hidden_dim
    if kind in ("vit", "deit"):
        return 2 * hidden * num_classes * (1 if kind == "vit" else 2)
    return 2 * hidden * (hidden + num_classes)
