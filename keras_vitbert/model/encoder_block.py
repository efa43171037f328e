"""keras-hub's transformer block with rates of its own, and for the tokens that are read alone."""

from typing import Any

import keras
import keras_hub
from keras import ops

from keras_vitbert.model.tokens import tokens_at


@keras.saving.register_keras_serializable(package="keras_vitbert")
class TransformerEncoder(keras_hub.layers.TransformerEncoder):
    """A `keras_hub.layers.TransformerEncoder` whose parts have rates of their own.

    Its name is that of its base, as Keras' files name layers in a list by their class: it reads and
    writes the files of keras-hub's.

    Args:
        dropout: float, rate after attention and MLP.
        attention_dropout: float, rate on attention weights. With 0, attention is
            `keras.ops.dot_product_attention`, which a backend may fuse.
        stochastic_depth: float, rate at which an example skips attention, and the MLP (Huang et al.
            2016, "Deep networks with stochastic depth", section 3). What is kept is divided by the
            rest, so that nothing changes in inference.
        **options: of keras-hub's.
    """

    def __init__(self, *, dropout=0.0, attention_dropout=0.0, stochastic_depth=0.0, **options):
        # It has one rate for all, and a layer that is built without dropout has no random numbers.
        most: Any = max(dropout, attention_dropout)
        super().__init__(dropout=most, **options)
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self._rate = dropout

    def build(self, inputs_shape):
        super().build(inputs_shape)
        self.dropout = self._rate
        attention = self._self_attention_layer
        attention._dropout = attention._dropout_layer.rate = self.attention_dropout
        for name in ("_self_attention_dropout", "_feedforward_dropout"):
            dropout = getattr(self, name)
            dropout.rate = self._rate
            if self.stochastic_depth:
                setattr(self, name, _Branch(dropout, self.stochastic_depth))

    def call(
        self,
        inputs,
        padding_mask=None,
        attention_mask=None,
        training=None,
        return_attention_scores=False,
        output_positions=None,
    ):
        """The block, see keras-hub's.

        Args:
            inputs: `(batch, length, D)`.
            padding_mask, attention_mask, training, return_attention_scores: see keras-hub's.
            output_positions: see `tokens_at`: the tokens whose outputs are wanted; by default all.
                Keys and values are still those of all tokens. What else the block computes, some
                five sixths of its products, it computes for these alone.

        Returns:
            `(batch, length, D)`, or as of `tokens_at`.
        """
        if output_positions is None:
            return super().call(
                inputs, padding_mask, attention_mask, training, return_attention_scores
            )
        if return_attention_scores:
            raise ValueError("attention scores are those of all tokens; leave output_positions out")
        # Where a mask tells apart texts in a row, there are more texts than rows, and each query is
        # one of its row.
        is_packed = attention_mask is not None
        x = self._self_attention_layer_norm(inputs) if self.normalize_first else inputs
        x = self._self_attention_layer(
            query=x if is_packed else tokens_at(x, output_positions),
            value=x,
            attention_mask=_merged(padding_mask, attention_mask),
            training=training,
        )
        if is_packed:
            x = tokens_at(x, output_positions)
        x = self._self_attention_dropout(x, training=training)
        x = x + tokens_at(inputs, output_positions)
        if not self.normalize_first:
            x = self._self_attention_layer_norm(x)
        residual = x
        if self.normalize_first:
            x = self._feedforward_layer_norm(x)
        x = self._feedforward_output_dense(self._feedforward_intermediate_dense(x))
        x = self._feedforward_dropout(x, training=training) + residual
        return x if self.normalize_first else self._feedforward_layer_norm(x)

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self._rate,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
        }


def _merged(padding_mask, attention_mask):
    """One mask `(batch, 1 or queries, length)` of those that are not None; None without any."""
    masks = []
    if padding_mask is not None:
        masks.append(ops.expand_dims(ops.cast(padding_mask, "int32"), 1))
    if attention_mask is not None:
        masks.append(ops.cast(attention_mask, "int32"))
    return ops.minimum(*masks) if len(masks) == 2 else next(iter(masks), None)


class _Branch(keras.layers.Layer):
    """Dropout, then that of all an example has."""

    def __init__(self, dropout, rate):
        super().__init__(dtype=dropout.dtype_policy, name=dropout.name)
        self.dropout = dropout
        self.whole = keras.layers.Dropout(
            rate, noise_shape=(None, 1, 1), dtype=dropout.dtype_policy, name="stochastic_depth"
        )

    def call(self, inputs, training=None):
        return self.whole(self.dropout(inputs, training=training), training=training)
