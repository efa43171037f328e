"""Counts the floating-point operations of a network's matrix products.

These are nearly all of a transformer's work. A product of `(m, k)` and `(k, n)` counts `2 m k n`.
Training counts each product of the forward pass three times: the backward pass makes one more for
each of its operands.
"""

TRAINING = 3  # passes of a training step, in forward passes


def encoder_flops(backbone, length):
    """The operations that the blocks take for one sequence, forward.

    Args:
        backbone: `ViTBertBackbone`.
        length: int, tokens, padding and the class token of an image included.
    """
    hidden, intermediate = backbone.hidden_dim, backbone.intermediate_dim
    kernels = 4 * hidden**2 + 2 * hidden * intermediate  # of a token: q, k, v, output; MLP
    attention = 2 * length * hidden  # of a token: scores, and the sum of values
    return 2 * length * backbone.num_layers * (kernels + attention)


def image_flops(backbone, num_classes):
    """The operations for one image, forward, with the head.

    Args:
        backbone: `ViTBertBackbone` with images.
        num_classes: int.
    """
    patches = (backbone.image_size // backbone.patch_size) ** 2
    projection = 2 * patches * 3 * backbone.patch_size**2 * backbone.hidden_dim
    head = head_flops(backbone, num_classes)
    return encoder_flops(backbone, patches + 1) + projection + head


def text_flops(backbone, length, predictions):
    """The operations for one text, forward, with the heads of masked-LM and next sentence.

    Args:
        backbone: `ViTBertBackbone` with text.
        length: int, tokens, padding included.
        predictions: int, masked positions, padding included.
    """
    heads = predictions * head_flops(backbone, backbone.vocabulary_size) + head_flops(backbone, 2)
    return encoder_flops(backbone, length) + heads


def classifier_flops(backbone, num_classes, length=0):
    """The operations of a `Classifier` for one image or one text, forward.

    Args:
        backbone: `ViTBertBackbone` with one modality.
        num_classes: int.
        length: float, tokens of a text, padding included.
    """
    if backbone.image_size is not None:
        return image_flops(backbone, num_classes)
    return encoder_flops(backbone, length) + head_flops(backbone, num_classes)


def head_flops(backbone, num_classes):
    """The operations of an `MLPHead` for one vector, forward.

    Args:
        backbone: `ViTBertBackbone`.
        num_classes: int.
    """
    return 2 * backbone.hidden_dim * (backbone.hidden_dim + num_classes)
