"""Blocks that differ only in their weights: one trace serves all of them.

A trace of a step contains each block's operations for each modality, in the forward and in the
backward pass, and again for the probing step. With 12 blocks this takes most of the time before a
first step computes anything. Here a block is a call of a function with its weights as arguments.
TensorFlow traces and differentiates the function once for all blocks, and expands it where it runs
the step.

This is for steps that no compiler sees as a whole, those on CPUs. XLA needs shapes as constants.
With dropout, the backward function takes some shapes that the forward function computes, so XLA
treats all arguments of the forward function as constants: weights and the number of the step become
part of the program, and each step is compiled anew. Besides, tracing takes little time next to XLA.
"""

import functools

import keras
import tensorflow as tf

from keras_vitbert.training import cpu_layers, pass_scope
from keras_vitbert.training.example_dropout import KeyedDropout

_OPTIONS = ("attention_mask", "padding_mask", "output_positions")


def share_trace(layers):
    """Makes equal layers of a model share a trace in training.

    Layers are equal if these are: their types, their configs apart from `name` and `trainable`, the
    shapes and dtypes of their weights, and the numbers of their dropout, counted from the first.
    Calls are traced one by one if they are outside `cpu_layers.for_cpu`, return more than the
    outputs, or have dropout that is not keyed (`keras_vitbert.training.example_dropout`).

    Args:
        layers: list of built Keras layers, each called on one tensor, masks and positions.
    """
    equal = {}
    for layer in layers:
        if not hasattr(layer.call, "shared"):
            equal.setdefault(_kind(layer), []).append(layer)
    for first, *others in equal.values():
        if others:
            function = _function_of(first)
            for layer in (first, *others):
                layer.call = _sharing(layer, function, _number(layer) - _number(first))


def _function_of(layer):
    """A function of the weights of any layer like this one."""
    call = layer.call

    @functools.partial(tf.function, autograph=False)
    def run(scope, weights, inputs, given):
        state = zip(layer.weights, weights, strict=True)
        # Names of operations do not include those of the layers around the block.
        with pass_scope.using(**scope), tf.name_scope("block"):
            with keras.StatelessScope(state_mapping=state):
                return call(inputs, training=True, **given)

    return run


def _sharing(layer, function, shift):
    call = layer.call

    def sharing(inputs, *args, training=None, **options):
        given = {name: value for name, value in options.items() if value is not None}
        own_trace = args or tf.executing_eagerly() or not cpu_layers.applies()
        own_trace = own_trace or pass_scope.present("keys") is None
        if own_trace or not training or {*given} - {*_OPTIONS}:
            return call(inputs, *args, training=training, **options)
        scope = {**pass_scope.everything(), "dropout_shift": tf.constant(shift, tf.uint32)}
        # As they are stored: each part of the layer casts its own weights.
        weights = [tf.convert_to_tensor(weight._value) for weight in layer.weights]
        return function(scope, weights, inputs, given)

    sharing.shared = True
    functools.update_wrapper(sharing, call)
    return sharing


def _number(layer):
    """The first of a layer's dropout numbers; 0 without dropout."""
    return min(_numbers(layer), default=0)


def _numbers(layer):
    return [part.number for part in layer._flatten_layers() if isinstance(part, KeyedDropout)]


def _kind(layer):
    """What layers that can share a trace have in common: hashable."""
    config = layer.get_config()
    del config["name"], config["trainable"]
    weights = [(tuple(weight.shape), weight.dtype) for weight in layer.weights]
    first = _number(layer)
    places = [number - first for number in _numbers(layer)]
    return type(layer), str(config), str(weights), str(places)
