"""Task heads: one two-layer MLP per task (eq. 5 and 6)."""

import keras
from keras import ops


def logits_policy(policy):
    """The dtype policy of a layer whose outputs are logits.

    Under a mixed policy they are float32 products: bfloat16 keeps 8 bits, so that of logits about
    16 it tells apart steps of 0.06, which a softmax over a vocabulary compares.

    Args:
        policy: `keras.DTypePolicy` of the layers before it.

    Returns:
        `keras.DTypePolicy`; `policy` where the weights are not float32.
    """
    return keras.DTypePolicy("float32") if policy.variable_dtype == "float32" else policy


@keras.saving.register_keras_serializable(package="keras_vitbert")
class MLPHead(keras.layers.Layer):
    """`W2 GELU(W1 z + b1) + b2` with `W1: (D, D)`, `W2: (D, classes)` (eq. 5 and 6).

    The softmax of eq. 6 is part of the loss. It and the second layer are computed in float32 under
    a mixed dtype policy too, see `logits_policy`.

    Args:
        num_classes: int, `C`.
        dropout: float, rate between the two layers.

    Input `(..., D)`, output logits `(..., num_classes)` in float32.
    """

    def __init__(self, num_classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout

    def build(self, input_shape):
        def dense(units, activation, policy, name):
            return keras.layers.Dense(
                units,
                activation=activation,
                kernel_initializer="glorot_uniform",
                dtype=policy,
                name=name,
            )

        policy = self.dtype_policy
        self.hidden = dense(input_shape[-1], "gelu", policy, "hidden")
        self.hidden.build(input_shape)
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.logits = dense(self.num_classes, None, logits_policy(policy), "logits")
        self.logits.build(input_shape)

    def call(self, z):
        return ops.cast(self.logits(self.dropout_layer(self.hidden(z))), "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_vitbert")
class MaskedLMHead(MLPHead):
    """The same MLP with the vocabulary as classes, at the masked positions only.

    With 15 % of the positions masked, that is about a sixth of the logits of the whole sequence.

    Inputs `sequence` `(batch, length, D)` and `masked_positions` `(batch, predictions)` integers;
    output logits `(batch, predictions, num_classes)` in float32.
    """

    def build(self, sequence_shape, masked_positions_shape=None):
        super().build(sequence_shape)

    def call(self, sequence, masked_positions):
        index = ops.expand_dims(ops.cast(masked_positions, "int32"), axis=-1)
        return super().call(ops.take_along_axis(sequence, index, axis=1))

    def compute_output_shape(self, sequence_shape, masked_positions_shape):
        return (*masked_positions_shape, self.num_classes)
