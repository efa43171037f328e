"""The engine of the backend that Keras has (`KERAS_BACKEND`), and its loop."""

import keras

if keras.backend.backend() == "jax":
    from keras_vitbert.training.engines import jax as engine
    from keras_vitbert.training.engines.jax_fitting import Fitting
else:
    from keras_vitbert.training.engines import tensorflow as engine
    from keras_vitbert.training.engines.tensorflow_fitting import Fitting

__all__ = ["Fitting", "engine"]
