"""Activations by the names that Hugging Face's configs give them.

`gelu` is the exact one there. Google's BERT and ViT compute the approximation by tanh, though
BERT's own config calls it `gelu` too; see `google`.
"""

import keras


def tanh_gelu(x):
    """GELU, approximated by tanh."""
    return keras.activations.gelu(x, approximate=True)


def exact_gelu(x):
    """GELU by the error function."""
    return keras.activations.gelu(x, approximate=False)


ACTIVATIONS = {
    "gelu": exact_gelu,
    "gelu_python": exact_gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "gelu_fast": tanh_gelu,
    "relu": keras.activations.relu,
    "silu": keras.activations.silu,
    "swish": keras.activations.silu,
    "tanh": keras.activations.tanh,
}
