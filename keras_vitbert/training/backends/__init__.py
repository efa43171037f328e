"""What a training step cannot express in `keras.ops`, for each backend of Keras.

The method (losses, merges, masks, optimisers, checks) is written once. A backend is what remains:
gradients, sums over the replicas, micro-batches one after another, draws of dropout, updates of
variables, and the loop around the step. `tensorflow` and `jax` have the same functions, in the same
order; `backend` is the one that Keras has (`KERAS_BACKEND`).
"""

import keras

if keras.backend.backend() == "jax":
    from keras_vitbert.training.backends import jax as backend
else:
    from keras_vitbert.training.backends import tensorflow as backend

__all__ = ["backend"]
