"""A forward pass of a training step: what its layers receive besides inputs; recomputation."""

import contextlib
import functools
import threading
from typing import Any

import keras

_scope = threading.local()  # each replica is traced in a thread of its own


def present(name: str) -> Any:
    """The value of a name in the innermost scope; None if there is none."""
    return _everything().get(name)


@contextlib.contextmanager
def using(**values: Any):
    """A scope with these values in addition to those of the scopes around it."""
    before = _everything()
    _scope.values = {**before, **values}
    try:
        yield
    finally:
        _scope.values = before


def _in_present_scope(function):
    """The same function, which always runs in the scopes that are present now."""
    values = _everything()

    @functools.wraps(function)
    def run(*args, **kwargs):
        with using(**values):
            return function(*args, **kwargs)

    return run


def _everything():
    return getattr(_scope, "values", {})


def recompute(layers: list):
    """Makes layers compute their inner values again in the backward pass of a training step.

    The step keeps the inputs of the layers, and the inner values of one at a time, at the cost of
    one more forward pass (Chen et al. 2016, "Training deep nets with sublinear memory cost"). Calls
    outside of training, weights, names and configs stay the same. Dropout draws the same numbers
    again, as it is keyed (`keras_vitbert.training.example_dropout`); Keras' own dropout would draw
    others, and the gradient would be that of another function.

    Args:
        layers: built Keras layers, whose first argument is a tensor.
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

        return keras.remat(_in_present_scope(again))(inputs)

    recomputing.recomputes = True
    functools.update_wrapper(recomputing, call)  # keeps its other attributes
    return recomputing
