"""Blocks whose inner values are computed again in the backward pass, which saves their memory.

Chen et al. 2016, "Training deep nets with sublinear memory cost": the step keeps the inputs of the
blocks, and the inner values of one block at a time, at the cost of one more forward pass.
"""

import functools

import keras

from keras_vitbert.training.pass_scope import in_present_scope


def recompute(layers):
    """Makes layers compute their inner values again in the backward pass of a training step.

    Calls outside of training, weights, names and configs stay the same. Dropout draws the same
    numbers again, as it is keyed (`keras_vitbert.training.example_dropout`); Keras' own dropout
    would draw others, and the gradient would be that of another function.

    Args:
        layers: list of built Keras layers, whose first argument is a tensor.
    """
    for layer in layers:
        if not hasattr(layer.call, "recomputes"):
            layer.call = _recomputing(layer.call)


def _recomputing(call):
    def recomputing(inputs, *args, training=None, **options):
        if not training:
            return call(inputs, *args, training=training, **options)

        def again(inputs):
            return call(inputs, *args, training=True, **options)

        return keras.remat(in_present_scope(again))(inputs)

    recomputing.recomputes = True
    functools.update_wrapper(recomputing, call)  # keeps its other attributes
    return recomputing
