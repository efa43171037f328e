"""The engine of the backend that Keras has (`KERAS_BACKEND`)."""

import keras

if keras.backend.backend() == "jax":
    from keras_vitbert.training.engines import jax as engine
else:
    from keras_vitbert.training.engines import tensorflow as engine

__all__ = ["engine"]
