"""The activations of a block's MLP, by name."""

from typing import Any

import keras

# With the types of these functions, pyright takes those of `keras.ops` to return None.
_activations: Any = keras.activations


def gelu_tanh(x):
    """GELU, approximated by tanh, as Google's BERT and ViT compute it.

    Args:
        x: float tensor.

    Returns:
        tensor of the same shape.
    """
    return _activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": _activations.gelu,
    "gelu_tanh": gelu_tanh,
    "relu": _activations.relu,
    "silu": _activations.silu,
    "tanh": _activations.tanh,
}
