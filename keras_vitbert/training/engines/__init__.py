"""What a training step cannot express in `keras.ops`, for each backend of Keras.

The method (losses, merges, masks, optimisers, checks) is written once. An engine is what remains:
gradients, sums over the replicas, parts of a batch one after another, draws of dropout, updates of
variables, and the loop around the step. `tensorflow` and `jax` have the same functions, in the same
order; `engine` is that of the backend that Keras has (`KERAS_BACKEND`).
"""

import keras

if keras.backend.backend() == "jax":
    from keras_vitbert.training.engines import jax as engine
else:
    from keras_vitbert.training.engines import tensorflow as engine

__all__ = ["engine"]
