"""keras-hub's transformer block with a rate for attention weights and one for whole branches."""

from typing import Any

import keras
import keras_hub


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

    def get_config(self):
        return {
            **super().get_config(),
            "dropout": self._rate,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
        }


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
