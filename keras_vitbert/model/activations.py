"""The activations of a block's MLP, by name."""

import math
from typing import Any

import keras

# `Any`, as pyright would otherwise infer that functions of `keras.ops` return None.
_activations: Any = keras.activations
ops: Any = keras.ops


@ops.custom_gradient
def gelu(x):
    """GELU, `x P(X <= x)` for a normal `X` (Hendrycks and Gimpel 2016), rounded once.

    The derivative is computed along with it, in float32 too, and only the derivative is kept for
    the backward pass. Where operations are not fused, this takes fewer passes over memory than
    TensorFlow's GELU.

    Args:
        x: float tensor.

    Returns:
        tensor of the same shape.
    """
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    below = 0.5 * ops.erfc(wide * -math.sqrt(0.5))
    density = ops.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    derivative = ops.cast(below + wide * density, x.dtype)

    def gradient(*args, upstream=None):
        return (args[0] if upstream is None else upstream) * derivative

    return ops.cast(wide * below, x.dtype), gradient


def gelu_tanh(x):
    """GELU, approximated by tanh, as Google's BERT and ViT compute it.

    Args:
        x: float tensor.

    Returns:
        tensor of the same shape.
    """
    return _activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": _activations.relu,
    "silu": _activations.silu,
    "tanh": _activations.tanh,
}
