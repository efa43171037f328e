"""keras-hub's transformer block with separate rates, and for only the tokens that are read."""

import math
from typing import Any

import keras
import keras_hub

from keras_vitbert.model.tensors import Tensor, ops

# --- activations ---------------------------------------------------------------------------------

# `Any`, as pyright would otherwise infer that these functions return None.
_activations: Any = keras.activations


@ops.custom_gradient
def gelu(x: Tensor) -> Tensor:
    """GELU, `x P(X <= x)` for a normal `X` (Hendrycks and Gimpel 2016), rounded once.

    The derivative is computed along with it, in float32 too, and only the derivative is kept for
    the backward pass. Unfused, this takes fewer passes over memory than TensorFlow's GELU.
    """
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    below = 0.5 * ops.erfc(wide * -math.sqrt(0.5))
    density = ops.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    derivative = ops.cast(below + wide * density, x.dtype)

    def gradient(*args: Tensor, upstream: Tensor = None) -> Tensor:
        return (args[0] if upstream is None else upstream) * derivative

    return ops.cast(wide * below, x.dtype), gradient


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU, approximated by tanh, as Google's BERT and ViT compute it."""
    return _activations.gelu(x, approximate=True)


ACTIVATIONS = {
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "relu": _activations.relu,
    "silu": _activations.silu,
    "tanh": _activations.tanh,
}


# --- tokens --------------------------------------------------------------------------------------


def tokens_at(sequence: Tensor, positions: Tensor | int) -> Tensor:
    """Some tokens of sequences `(batch, length, D)`.

    `positions` is the number of first tokens, for `(batch, positions, D)`; or integers
    `(texts, count)` counted over all sequences, see `counted_over_all`, for `(texts, count, D)`.
    """
    if isinstance(positions, int):
        # Not sliced: a TPU's compiler gives a slice of one token its own layout, then gives all
        # sequences before it the same layout, which the products of attention must transpose.
        place = ops.expand_dims(ops.arange(ops.shape(sequence)[1]), 1)
        tokens = [ops.sum(ops.where(place == n, sequence, 0), 1) for n in range(positions)]
        return ops.stack(tokens, 1)
    # Whole rows: `take_along_axis` gathers single values, on a TPU a tile of memory for each.
    return ops.take(ops.reshape(sequence, (-1, sequence.shape[-1])), positions, axis=0)


def shape_at(shape: tuple, positions: Tensor | int | None) -> tuple:
    """The shape of what `tokens_at` returns; None for the positions of all tokens."""
    if positions is None:
        return shape
    taken = (shape[0], positions) if isinstance(positions, int) else positions.shape
    return (*taken, shape[-1])


def starts_of(sequences: Tensor) -> Tensor:
    """Where each of some sequences `(batch, length, ...)` begins, one after another: int32."""
    shape = ops.shape(sequences)
    return ops.arange(shape[0], dtype="int32") * shape[1]


def counted_over_all(positions: Tensor, starts: Tensor) -> Tensor:
    """Positions `(texts, count)` in texts as positions in all sequences, see `starts_of`."""
    return ops.expand_dims(starts, 1) + ops.cast(positions, starts.dtype)


# --- the block -----------------------------------------------------------------------------------


@keras.saving.register_keras_serializable(package="keras_vitbert")
class TransformerEncoder(keras_hub.layers.TransformerEncoder):
    """A `keras_hub.layers.TransformerEncoder` with a separate rate for each part.

    It has the name of its base class, because Keras' files name the layers of a list by their
    class: it reads and writes the files of keras-hub's layer.

    Args:
        dropout: rate after attention and MLP.
        attention_dropout: rate on attention weights. With 0, attention is
            `keras.ops.dot_product_attention`, which a backend may fuse.
        stochastic_depth: rate at which an example skips attention, and the MLP (Huang et al.
            2016, "Deep networks with stochastic depth", section 3). What is kept is divided by
            `1 - stochastic_depth`, so that nothing changes in inference.
        **options: arguments of keras-hub's layer.
    """

    def __init__(
        self,
        *,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        **options: Any,
    ):
        # The base has one rate for all; a layer built without dropout has no random numbers.
        most: Any = max(dropout, attention_dropout)
        super().__init__(dropout=most, **options)
        self.attention_dropout = attention_dropout
        self.stochastic_depth = stochastic_depth
        self._rate = dropout

    def build(self, inputs_shape: Any) -> None:
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
        inputs: Tensor,
        padding_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        training: bool | None = None,
        return_attention_scores: bool = False,
        output_positions: Tensor | int | None = None,
    ) -> Any:
        """Runs the block on `(batch, length, D)`, see keras-hub's layer.

        With `output_positions` it returns only those tokens, see `tokens_at`, and no attention
        scores. Keys and values are still computed for all tokens; the rest of the block, some five
        sixths of its products, is computed for these tokens alone.
        """
        if output_positions is None:
            return super().call(
                inputs, padding_mask, attention_mask, training, return_attention_scores
            )
        # Where a mask separates texts in a row, there are more texts than rows, and each query must
        # stay in its row.
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

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dropout": self._rate,
            "attention_dropout": self.attention_dropout,
            "stochastic_depth": self.stochastic_depth,
        }


def _merged(padding_mask: Tensor | None, attention_mask: Tensor | None) -> Tensor | None:
    """The given masks as one, `(batch, 1 or queries, length)`; None if both are None."""
    masks = []
    if padding_mask is not None:
        masks.append(ops.expand_dims(ops.cast(padding_mask, "int32"), 1))
    if attention_mask is not None:
        masks.append(ops.cast(attention_mask, "int32"))
    return ops.minimum(*masks) if len(masks) == 2 else next(iter(masks), None)


class _Branch(keras.layers.Layer):
    """Dropout of entries, then of an example's whole branch."""

    def __init__(self, dropout: keras.layers.Dropout, rate: float):
        super().__init__(dtype=dropout.dtype_policy, name=dropout.name)
        self.dropout = dropout
        self.whole = keras.layers.Dropout(
            rate, noise_shape=(None, 1, 1), dtype=dropout.dtype_policy, name="stochastic_depth"
        )

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        return self.whole(self.dropout(inputs, training=training), training=training)
