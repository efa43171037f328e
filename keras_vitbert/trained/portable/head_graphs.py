"""The heads of a trained model as TensorFlow functions, in operations that converters know.

They compute what the Keras model does, from its weights, and differ in form:

- Attention's kernels are matrices `(D, D)`. As `(D, H, d)`, for texts of any length, they would be
  stored once for each use, and stay float32 where others are quantised.
- The caller gives GELU: the model's own has a custom gradient, which no converter takes.
- LayerNorm has the form that onnxruntime recognises and computes in one pass.
- In the last block, queries and MLP are computed only for the tokens that a head reads.

The names of operations begin with those of layers: `block_0/key`, `image_head/logits`.
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from keras_vitbert.model.encoder_block import gelu
from keras_vitbert.model.heads import BertMaskedLMHead, LinearHead
from keras_vitbert.trained.trained_model import TrainedModel

HEADS = ("image", "text", "mlm")
MASKED = -1e9  # added to the scores of padding

Layer = Any  # of Keras or keras-hub, whose parts have no public names
Activation = Callable[[tf.Tensor], tf.Tensor]


def head_graphs(trained: TrainedModel, own_gelu: Activation) -> dict[str, Any]:
    """`tf.function`s of a model's heads, by their names; `own_gelu` is what computes `gelu`.

    The model is in float32 and without separate LoRA updates, see `TrainedModel.in_dtype`.

    | head | inputs | output, float32 |
    | --- | --- | --- |
    | `image` | `images` uint8 `(batch, size, size, 3)` | `image_logits` `(batch, classes)` |
    | `text` | `token_ids`, `segment_ids`, `padding_mask`, int32 `(batch, length)` | `text_logits` |
    | `mlm` | the same | `mlm_logits` `(batch, length, vocabulary)` |
    """
    return {name: _function(trained, name, own_gelu) for name in HEADS if name in trained.heads}


def input_specs(trained: TrainedModel, head: str) -> list[tf.TensorSpec]:
    """The inputs of a head's function."""
    if head == "image":
        size = trained.backbone.image_size
        return [tf.TensorSpec((None, size, size, 3), tf.uint8, "images")]
    names = "token_ids", "segment_ids", "padding_mask"
    return [tf.TensorSpec((None, None), tf.int32, name) for name in names]


def _function(trained: TrainedModel, name: str, own_gelu: Activation) -> Any:
    def logits(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        forward = _Forward(own_gelu)
        head = trained.heads[name]
        tokens = None if name == "mlm" else head.tokens
        x = forward.backbone(trained.backbone, inputs, tokens)
        with tf.name_scope(f"{name}_head"):
            return {f"{name}_logits": forward.head(head, x if tokens != 1 else x[:, 0])}

    return tf.function(logits, input_signature=input_specs(trained, name), autograph=False)


class _Forward:
    """The forward passes of layers, on tokens `(batch, length, D)`."""

    def __init__(self, own_gelu: Activation):
        self._own_gelu = own_gelu

    def backbone(self, backbone: Layer, inputs: tuple, tokens: int | None) -> tf.Tensor:
        """The last states of the first `tokens` of images or texts; None for all."""
        scores_mask = None
        self._length = tf.shape(inputs[0])[1]  # of texts, which vary
        if len(inputs) == 1:
            x = backbone.embed("image", {"images": tf.cast(inputs[0], tf.float32) * (1 / 255)})
        else:
            token_ids, segment_ids, is_real = inputs
            x = backbone.embed("text", {"token_ids": token_ids, "segment_ids": segment_ids})
            # By `expand_dims`: LiteRT has no indexing that adds axes to a shape it does not know.
            is_padding = 1 - tf.cast(is_real, tf.float32)
            scores_mask = tf.expand_dims(tf.expand_dims(is_padding, 1), 1) * MASKED
        for block in backbone.blocks:
            with tf.name_scope(block.name):
                is_last = block is backbone.blocks[-1]
                x = self._block(block, x, scores_mask, tokens if is_last else None)
        return x if backbone.final_norm is None else _layer_norm(backbone.final_norm, x)

    def _block(
        self, block: Layer, x: tf.Tensor, scores_mask: tf.Tensor | None, tokens: int | None
    ) -> tf.Tensor:
        """Eq. 3 and 4, see `ViTBertBackbone` for `post`; for the first `tokens` alone, if given."""
        is_pre, attention_norm = block.normalize_first, block._self_attention_layer_norm
        inputs = _layer_norm(attention_norm, x) if is_pre else x
        layer = block._self_attention_layer
        attended = self._attention(layer, _first(inputs, tokens), inputs, scores_mask)
        x = _first(x, tokens) + attended
        x = x if is_pre else _layer_norm(attention_norm, x)
        hidden = _layer_norm(block._feedforward_layer_norm, x) if is_pre else x
        hidden = self._dense(block._feedforward_intermediate_dense, hidden)
        x = x + self._dense(block._feedforward_output_dense, hidden)
        return x if is_pre else _layer_norm(block._feedforward_layer_norm, x)

    def _attention(
        self, layer: Layer, queries: tf.Tensor, values: tf.Tensor, scores_mask: tf.Tensor | None
    ) -> tf.Tensor:
        def by_head(dense: Layer, x: tf.Tensor) -> tf.Tensor:
            shape = (-1, x.shape[1] or self._length, layer.num_heads, layer.key_dim)
            x = tf.reshape(self._dense(dense, x), shape)
            return tf.transpose(x, (0, 2, 1, 3))

        query, key = by_head(layer.query_dense, queries), by_head(layer.key_dense, values)
        scores = tf.matmul(query, key, transpose_b=True) * (1 / math.sqrt(layer.key_dim))
        scores = scores if scores_mask is None else scores + scores_mask
        x = tf.matmul(tf.nn.softmax(scores), by_head(layer.value_dense, values))
        shape = (-1, queries.shape[1] or self._length, layer.num_heads * layer.key_dim)
        x = tf.reshape(tf.transpose(x, (0, 2, 1, 3)), shape)
        return self._dense(layer.output_dense, x)

    def head(self, head: Layer, x: tf.Tensor) -> tf.Tensor:
        """The logits of the tokens that a head reads; of DeiT's, the mean of two."""
        if isinstance(head, LinearHead):
            if head.tokens == 1:
                return self._dense(head.logits, x)
            first, second = tf.unstack(x, axis=1)
            both = self._dense(head.logits, first) + self._dense(head.distillation_logits, second)
            return both / 2
        x = self._dense(head.hidden, x)
        if not isinstance(head, BertMaskedLMHead):
            return self._dense(head.logits, x)
        x = _layer_norm(head.layer_norm, x)
        if not head.tied:
            return self._dense(head.logits, x)
        with tf.name_scope(head.logits.name):
            words, bias = map(tf.convert_to_tensor, (head.logits._embedding(), head.logits.bias))
            return tf.matmul(x, words, transpose_b=True) + bias

    def _dense(self, layer: Layer, x: tf.Tensor) -> tf.Tensor:
        """A dense layer, of Keras' `Dense` or `EinsumDense`, as a product of matrices."""
        with tf.name_scope(layer.name):
            x = tf.matmul(x, tf.reshape(layer.kernel, (x.shape[-1], -1)))
            x = x if layer.bias is None else x + tf.reshape(layer.bias, (-1,))
            return self._own_gelu(x) if layer.activation is gelu else layer.activation(x)


def _first(x: tf.Tensor, tokens: int | None) -> tf.Tensor:
    """The first tokens; None for all."""
    if tokens is None:
        return x
    x = x[:, :tokens]
    x.set_shape((None, tokens, None))  # unknown where the length is
    return x


def _layer_norm(layer: Layer, x: tf.Tensor) -> tf.Tensor:
    with tf.name_scope(layer.name):
        centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        variance = tf.reduce_mean(tf.pow(centred, 2.0), axis=-1, keepdims=True)
        return centred / tf.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta
