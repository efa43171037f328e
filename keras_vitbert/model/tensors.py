"""Tensors of either Keras backend, and the operations on them, for type checkers."""

from typing import Any

import keras

Tensor = Any  # the backends' tensors have no type in common
Tensors = dict[str, Tensor]  # by their names, such as a batch or logits

# Pyright infers from the sources of Keras' backends that most operations return None.
ops: Any = keras.ops
