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
base model in mixed bfloat16 (0.91 to 0.94, see `benchmarks/NOTES.md`), most of it by
dropout; without dropout's form, 0.96 of the processor's time with the sample's encoder in float32.
A TPU's compiler fuses by itself, and makes copies where the tokens of all examples become one axis.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from keras_vitbert.merging.random_numbers import example_words, unsigned
from keras_vitbert.model.encoder_block import gelu
from keras_vitbert.model.tensors import Tensor
from keras_vitbert.training import step_context

if TYPE_CHECKING:
    from keras_vitbert.training.step_context import Keys


def adapt(model: keras.Model) -> None:
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


def for_cpu(on: bool = True) -> contextlib.AbstractContextManager[None]:
    """A scope for a forward pass of a training step, which may run on a CPU."""
    return step_context.scope(on_cpu=on)


def applies() -> bool:
    """Whether this is inside `for_cpu`."""
    return bool(step_context.value_of("on_cpu"))


# The function compiled by XLA, one program for each combination of shapes.
_compiled: Any = functools.partial(tf.function, autograph=False, jit_compile=True)


def dropout(inputs: tf.Tensor, keys: Keys, layer: int, rate: float) -> tf.Tensor:
    """A batch after dropout by Threefry, as one program; see `step_context.Keys`."""

    @tf.custom_gradient
    def apply(inputs: tf.Tensor) -> tuple[tf.Tensor, Callable]:
        with tf.control_dependencies([inputs]):  # else the draws of all layers happen at once
            # As in `_fused_gelu`, the tape must not look into the program.
            outputs, mask = _dropout(tf.stop_gradient(inputs), keys, layer, rate)
        scale = tf.constant(1 / (1 - rate), inputs.dtype)
        return outputs, lambda upstream: _selected(mask, upstream, scale)

    return apply(inputs)  # pyright: ignore[reportReturnType]


def keep_mask(inputs: tf.Tensor, keys: Keys, layer: int, rate: float) -> tf.Tensor:
    """Which entries of a batch `dropout` keeps, bool."""
    return _dropout(inputs, keys, layer, rate)[1]


def _dropout(inputs: tf.Tensor, keys: Keys, layer: int, rate: float) -> tuple[tf.Tensor, tf.Tensor]:
    both = _dropout_program(inputs.shape.rank, inputs.dtype)(
        inputs,
        tf.stack(keys.words(layer)),
        keys.first(tf.shape(inputs)[0]),
        unsigned(keys.hosts),
        tf.constant(round(rate * 2**32), tf.uint32),
        tf.constant(1 / (1 - rate), inputs.dtype),
    )
    for tensor in both:
        tensor.set_shape(inputs.shape)
    return both


@functools.cache
def _dropout_program(rank: int, dtype: tf.DType) -> Callable:
    """The program for dropout, whose 330 operations are traced once for all shapes of a rank."""

    def program(
        x: tf.Tensor,
        words: tf.Tensor,
        first: tf.Tensor,
        every: tf.Tensor,
        limit: tf.Tensor,
        scale: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shape = tf.shape(x)
        count, entries = shape[0], tf.reduce_prod(shape[1:])
        drawn = example_words(tf.unstack(words), first, every, (count, entries))
        mask = tf.reshape(drawn >= limit, shape)
        return _selected(mask, x, scale), mask

    batch, four = tf.TensorSpec([None] * rank, dtype), tf.TensorSpec((4,), tf.uint32)
    scalars = [tf.TensorSpec((), of) for of in (tf.uint32, tf.uint32, tf.uint32, dtype)]
    return _compiled(program, (batch, four, *scalars))  # traced once, for all shapes


@_compiled
def _selected(mask: tf.Tensor, x: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    return tf.where(mask, x * scale, tf.zeros((), x.dtype))


@_compiled
def _gelu(x: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(x, tf.float32)
    return tf.cast(wide * _below(wide, x.dtype), x.dtype)


@_compiled
def _gelu_gradient(x: tf.Tensor, upstream: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(x, tf.float32)
    density = tf.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    derivative = _below(wide, x.dtype) + wide * density
    return tf.cast(derivative * tf.cast(upstream, tf.float32), x.dtype)


def _below(x: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The probability that a normal variable is below `x`, for a result of a dtype."""
    if dtype == tf.float32:
        return 0.5 * tf.math.erfc(x * -math.sqrt(0.5))
    # This takes half the time, with an error of at most 1e-7.
    return 0.5 + 0.5 * tf.math.erf(x * math.sqrt(0.5))


@tf.custom_gradient
def _fused_gelu(x: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    # Otherwise the tape would make the program return all that its own derivative needs.
    x = tf.stop_gradient(x)
    return _gelu(x), lambda upstream: _gelu_gradient(x, upstream)


@tf.custom_gradient
def _biased(rows: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Callable]:
    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ones = tf.ones((1, tf.shape(upstream)[0]), upstream.dtype)
        return upstream, tf.reshape(ones @ upstream, (-1,))

    return tf.nn.bias_add(rows, bias), gradient


def _projected(layer: keras.layers.Layer, inputs: tf.Tensor, lead: int) -> tf.Tensor:
    """The product of the input axes from `lead` on and the first axes of the layer's kernel."""
    kernel: Tensor = tf.convert_to_tensor(layer.kernel)
    inner: Tensor = inputs.shape[lead:]
    own = kernel.shape[len(inner) :]
    rows = tf.reshape(inputs, (-1, math.prod(inner)))
    outputs: Tensor = rows @ tf.reshape(kernel, (math.prod(inner), math.prod(own)))
    if layer.bias is not None:
        outputs = _biased(outputs, tf.reshape(layer.bias, (-1,)))
    outputs = tf.reshape(outputs, tf.concat([tf.shape(inputs)[:lead], own], 0))
    return tf.ensure_shape(outputs, (*inputs.shape[:lead], *own))


class _Dense(keras.layers.Dense):
    """A dense layer."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not applies():
            return super().call(inputs, training=training)
        activation = _fused_gelu if self.activation is gelu else self.activation
        outputs = _projected(self, inputs, inputs.shape.rank - 1)
        return outputs if activation is None else activation(outputs)


class _Projection(keras.layers.EinsumDense):
    """A projection of attention: to heads, or from them."""

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        if not applies():
            return super().call(inputs, training=training)
        return _projected(self, inputs, 2)


class _Attention(keras.layers.MultiHeadAttention):
    """Attention between the tokens of a sequence."""

    def _compute_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        use_causal_mask: bool = False,
    ) -> tuple[Tensor, Tensor]:
        # Without dropout Keras has one function for attention, with its softmax in float32.
        if use_causal_mask or not (applies() and self._dropout):
            return super()._compute_attention(
                *(query, key, value, attention_mask),
                *(training, return_attention_scores, use_causal_mask),
            )
        # (batch, heads, length, size)
        query, key, value = (tf.transpose(x, (0, 2, 1, 3)) for x in (query, key, value))
        query = query * tf.cast(self._inverse_sqrt_key_dim, query.dtype)
        weights = self._masked_softmax(tf.matmul(query, key, transpose_b=True), attention_mask)
        dropped = self._dropout_layer(weights, training=training)
        return tf.transpose(dropped @ value, (0, 2, 1, 3)), weights
