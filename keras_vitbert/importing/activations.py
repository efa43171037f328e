"""Activations under the names of Hugging Face's configs.

There `gelu` is the exact one, as in Keras. Google's BERT and ViT approximate it by tanh, although
BERT's own config calls that `gelu` too; see `google`.
"""

import keras


def tanh_gelu(x):
    """GELU, approximated by tanh.

    Args:
        x: float tensor.

    Returns:
        tensor of the same shape.
    """
    return keras.activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": keras.activations.gelu,
    "gelu_python": keras.activations.gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
}
