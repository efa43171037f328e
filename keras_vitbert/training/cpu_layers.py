"""Layers in the forms that CPUs compute fastest, in training.

TensorFlow's CPU kernels multiply matrices well, better than XLA does in bfloat16, but each other
operation is a separate pass over memory. Here XLA compiles chains of such operations into one
program, and attention has as few products and transpositions as possible:

- projections are one product over all tokens. `keras.layers.EinsumDense` computes one per example
  and, in the backward pass, a kernel gradient per example; these are rounded and then summed;
- gradients of biases are products, too, which sum in float32. TensorFlow's `BiasAddGrad` sums
  bfloat16 in bfloat16, with an error of 5 % over 1,576 tokens;
- queries, keys and values are transposed once, so that both products of attention are plain ones;
- GELU is one pass, and its derivative another, from the input alone;
- dropout (`keras_vitbert.training.example_dropout`) draws, compares and selects in one pass.

They stay because they pay on the whole step, on two cores: 0.93 of the time of a joint step of the
base model in mixed bfloat16 (0.91 to 0.94, by `python -m benchmarks.cpu_layers`), most of it by
dropout; without dropout's form, 0.96 of the processor's time with the sample's encoder in float32.
A TPU's compiler fuses by itself, and makes copies where the tokens of all examples become one axis.
"""

import functools
import math
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.merging.random_numbers import of_examples, unsigned
from keras_vitbert.model.encoder_block import gelu
from keras_vitbert.training import step_context


def adapt(model: keras.Model):
    """Makes the layers of a built model take these forms inside `for_cpu`.

    Only their classes change, so that weights, names and configs stay the same.
    """
    for layer in model._flatten_layers():
        if type(layer) is keras.layers.EinsumDense:
            layer.__class__ = _Projection
        elif type(layer) is keras.layers.MultiHeadAttention:
            layer.__class__ = _Attention
        elif type(layer) is keras.layers.Dense:
            layer.__class__ = _Dense


def for_cpu(on: bool = True):
    """A scope for a forward pass of a training step, which may run on a CPU."""
    return step_context.using(on_cpu=on)


def applies() -> bool:
    """Whether this is inside `for_cpu`."""
    return bool(step_context.present("on_cpu"))


def compiled(function, signature: tuple | None = None):
    """The function compiled by XLA, one program for each combination of shapes.

    With a signature of any shapes it is traced once, else for each combination of shapes.
    """
    return tf.function(function, signature, autograph=False, jit_compile=True)


def dropped(inputs: Any, keys: Any, layer: int, rate: float) -> Any:
    """A batch after dropout by Threefry, as one program; see `example_dropout.Keys`."""

    @tf.custom_gradient
    def apply(inputs):
        with tf.control_dependencies([inputs]):  # else the draws of all layers happen at once
            outputs, kept = _dropped(tf.stop_gradient(inputs), keys, layer, rate)  # see `gelu`
        scale = tf.constant(1 / (1 - rate), inputs.dtype)
        return outputs, lambda upstream: _selected(kept, upstream, scale)

    return apply(inputs)


def kept(inputs: Any, keys: Any, layer: int, rate: float) -> Any:
    """Which entries of a batch `dropped` keeps: bool tensor."""
    return _dropped(inputs, keys, layer, rate)[1]


def _dropped(inputs, keys, layer, rate):
    both = _dropout_program(inputs.shape.rank, inputs.dtype)(
        inputs,
        tf.stack(keys.words(layer)),
        keys.first(tf.shape(inputs)[0]),
        unsigned(keys.hosts),
        tf.constant(round(rate * 2**32), tf.uint32),
        tf.constant(1 / (1 - rate), inputs.dtype),
    )
    for of_entries in both:
        of_entries.set_shape(inputs.shape)
    return both


@functools.cache
def _dropout_program(rank, dtype):
    """The program for dropout, whose 330 operations are traced once for all shapes of a rank."""

    def program(x, words, first, every, limit, scale):
        shape = tf.shape(x)
        count, entries = shape[0], tf.reduce_prod(shape[1:])
        drawn = of_examples(tf.unstack(words), first, every, (count, entries))
        kept = tf.reshape(drawn >= limit, shape)
        return _selected(kept, x, scale), kept

    batch, four = tf.TensorSpec([None] * rank, dtype), tf.TensorSpec((4,), tf.uint32)
    scalars = [tf.TensorSpec((), of) for of in (tf.uint32, tf.uint32, tf.uint32, dtype)]
    return compiled(program, (batch, four, *scalars))


@compiled
def _selected(kept, x, scale):
    return tf.where(kept, x * scale, tf.zeros((), x.dtype))


@compiled
def _gelu(x):
    wide = tf.cast(x, tf.float32)
    return tf.cast(wide * _below(wide, x.dtype), x.dtype)


@compiled
def _gelu_gradient(x, upstream):
    wide = tf.cast(x, tf.float32)
    density = tf.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    derivative: Any = _below(wide, x.dtype) + wide * density
    return tf.cast(derivative * tf.cast(upstream, tf.float32), x.dtype)


def _below(x, dtype):
    """The probability that a normal variable is below `x`, for a result of a dtype."""
    if dtype == tf.float32:
        return 0.5 * tf.math.erfc(x * -math.sqrt(0.5))
    # This takes half the time, with an error of at most 1e-7.
    half: Any = 0.5 * tf.math.erf(x * math.sqrt(0.5))
    return 0.5 + half


@tf.custom_gradient
def _fused_gelu(x):
    # Otherwise the tape would make the program return all that its own derivative needs.
    x = tf.stop_gradient(x)
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


@tf.custom_gradient
def _biased(rows, bias):
    def gradient(upstream):
        ones = tf.ones((1, tf.shape(upstream)[0]), upstream.dtype)
        return upstream, tf.reshape(ones @ upstream, (-1,))

    return tf.nn.bias_add(rows, bias), gradient


def _projected(layer, inputs, lead):
    """The product of the input axes from `lead` on and the first axes of the layer's kernel."""
    kernel: Any = tf.convert_to_tensor(layer.kernel)
    inner = inputs.shape[lead:]
    own = kernel.shape[len(inner) :]
    rows = tf.reshape(inputs, (-1, math.prod(inner)))
    outputs: Any = rows @ tf.reshape(kernel, (math.prod(inner), math.prod(own)))
    if layer.bias is not None:
        outputs = _biased(outputs, tf.reshape(layer.bias, (-1,)))
    outputs = tf.reshape(outputs, tf.concat([tf.shape(inputs)[:lead], own], 0))
    return tf.ensure_shape(outputs, (*inputs.shape[:lead], *own))


class _Dense(keras.layers.Dense):
    """A dense layer."""

    def call(self, inputs, training=None):
        if not applies():
            return super().call(inputs, training=training)
        activation = _fused_gelu if self.activation is gelu else self.activation
        outputs = _projected(self, inputs, inputs.shape.rank - 1)
        return outputs if activation is None else activation(outputs)


class _Projection(keras.layers.EinsumDense):
    """A projection of attention: to heads, or from them."""

    def call(self, inputs, training=None):
        if not applies():
            return super().call(inputs, training=training)
        return _projected(self, inputs, 2)


class _Attention(keras.layers.MultiHeadAttention):
    """Attention between the tokens of a sequence."""

    def _compute_attention(
        self, query, key, value, attention_mask=None, training=None, return_attention_scores=False
    ):
        # Without dropout Keras has one function for attention, with its softmax in float32.
        if not (applies() and self._dropout):
            return super()._compute_attention(
                query, key, value, attention_mask, training, return_attention_scores
            )
        # (batch, heads, length, size)
        query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
        query = query * tf.cast(self._inverse_sqrt_key_dim, query.dtype)
        weights = self._masked_softmax(tf.matmul(query, key, transpose_b=True), attention_mask)
        kept: Any = self._dropout_layer(weights, training=training)
        return tf.transpose(kept @ value, (0, 2, 1, 3)), weights
