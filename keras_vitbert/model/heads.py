"""Heads on the class token and on masked tokens: the paper's, and those of published models.

| kind | logits | source |
| --- | --- | --- |
| `paper` | `W2 GELU(W1 z + b1) + b2` (eq. 5 and 6) | Li et al. 2021 |
| `bert` | `W2 tanh(W1 z + b1) + b2`, pooler and classifier | Devlin et al. 2018 |
| `distilbert` | `W2 ReLU(W1 z + b1) + b2` | Sanh et al. 2019 |
| `vit` | `W z + b` | Dosovitskiy et al. 2020 |
| `deit` | the mean of two such layers, on class and distillation token | Touvron et al. 2020 |

On masked tokens, with the activation `f` of the blocks:

| kind | logits | source |
| --- | --- | --- |
| `paper` | `W2 GELU(W1 z + b1) + b2` (eq. 5 and 6) | Li et al. 2021 |
| `bert` | `E LN(f(W1 z + b1)) + b2`, with the word embedding `E` | Devlin et al. 2018 |
| `bert_untied` | the same, with its own kernel `E` | |

Each head has a `kind`, from which `class_head` or `masked_lm_head` builds another head like it: a
str, or a dict of `kind` and arguments of the class. The softmax of eq. 6 is part of the losses.
"""

import functools
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

import keras

from keras_vitbert.model.backbone_inputs import require_below
from keras_vitbert.model.encoder_block import ACTIVATIONS, counted_over_all, starts_of, tokens_at
from keras_vitbert.model.tensors import Tensor, ops

if TYPE_CHECKING:
    from keras_vitbert.model.backbone import ViTBertBackbone


def _logits_policy(policy: keras.DTypePolicy) -> keras.DTypePolicy:
    """The dtype policy of a layer whose outputs are logits, after layers with a policy.

    Under a mixed policy the logits are float32 products: bfloat16 keeps 8 bits, so it resolves
    logits from 8 to 16 in steps of 0.06 and larger ones in coarser steps, and a softmax over a
    vocabulary compares them.
    """
    return keras.DTypePolicy("float32") if policy.variable_dtype == "float32" else policy


def _dense(
    units: int, activation: Callable | str | None, policy: keras.DTypePolicy, name: str
) -> keras.layers.Dense:
    return keras.layers.Dense(
        units, activation=activation, kernel_initializer="glorot_uniform", dtype=policy, name=name
    )


class _Head(keras.layers.Layer):
    """What heads share; `arguments` are the names of a head's own."""

    arguments = ("num_classes", "dropout")
    tokens = 1  # that a head on the first tokens reads, the class token first

    def __init__(self, num_classes: int, dropout: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout

    def of_sequence(self, sequence: Tensor, **kwargs: Any) -> Tensor:
        """The logits `(batch, num_classes)` of sequences `(batch, length, D)`.

        The first `tokens` are enough. Further arguments are those of the call.
        """
        return self(sequence[:, 0], **kwargs)

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[:-1], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **{name: getattr(self, name) for name in self.arguments}}


@keras.saving.register_keras_serializable(package="keras_vitbert")
class MLPHead(_Head):
    """`W2 GELU(W1 z + b1) + b2` with `W1: (D, D)`, `W2: (D, classes)` (eq. 5 and 6).

    The second layer is computed in float32, even under a mixed dtype policy.

    Args:
        num_classes: `C`.
        dropout: rate between the two layers.
        activation: after the first layer, a key of `ACTIVATIONS`.
        hidden_dim: units of the first layer; None for `D`.

    Input `(..., D)`, output logits `(..., num_classes)` in float32.
    """

    arguments = (*_Head.arguments, "activation", "hidden_dim")

    def __init__(
        self,
        num_classes: int,
        dropout: float = 0.0,
        activation: str = "gelu",
        hidden_dim: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(num_classes, dropout, **kwargs)
        self.activation = activation
        self.hidden_dim = hidden_dim

    @property
    def kind(self) -> str | dict:
        """See this module."""
        name = {"gelu": "paper", "tanh": "bert", "relu": "distilbert"}[self.activation]
        return {"kind": name, "hidden_dim": self.hidden_dim} if self.hidden_dim else name

    def build(self, input_shape: Any) -> None:
        policy = self.dtype_policy
        units = self.hidden_dim or input_shape[-1]
        self.hidden = _dense(units, ACTIVATIONS[self.activation], policy, "hidden")
        self.hidden.build(input_shape)
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.logits = _dense(self.num_classes, None, _logits_policy(policy), "logits")
        self.logits.build((*input_shape[:-1], units))

    def call(self, z: Tensor) -> Tensor:
        return ops.cast(self.logits(self.dropout_layer(self.hidden(z))), "float32")


@keras.saving.register_keras_serializable(package="keras_vitbert")
class LinearHead(_Head):
    """One linear layer per token, and the mean of their logits: the head of ViT and of DeiT.

    Args:
        num_classes: `C`.
        dropout: rate before the layers.
        tokens: 1 for the class token alone; 2 to add DeiT's second token.

    Input `(..., D)`, or `(..., tokens, D)` where there are several; output logits
    `(..., num_classes)` in float32.
    """

    arguments = (*_Head.arguments, "tokens")

    def __init__(self, num_classes: int, dropout: float = 0.0, tokens: int = 1, **kwargs: Any):
        super().__init__(num_classes, dropout, **kwargs)
        self.tokens = tokens

    @property
    def kind(self) -> str:
        """See this module."""
        return "vit" if self.tokens == 1 else "deit"

    def of_sequence(self, sequence: Tensor, **kwargs: Any) -> Tensor:
        return self(sequence[:, 0] if self.tokens == 1 else sequence[:, : self.tokens], **kwargs)

    def build(self, input_shape: Any) -> None:
        policy = self.dtype_policy
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.logits = _dense(self.num_classes, None, _logits_policy(policy), "logits")
        self.logits.build((None, input_shape[-1]))
        self.distillation_logits = None
        if self.tokens == 2:
            self.distillation_logits = _dense(
                self.num_classes, None, _logits_policy(policy), "distillation_logits"
            )
            self.distillation_logits.build((None, input_shape[-1]))

    def call(self, z: Tensor) -> Tensor:
        z = self.dropout_layer(z)
        if self.distillation_logits is None:
            return ops.cast(self.logits(z), "float32")
        both = self.logits(z[..., 0, :]) + self.distillation_logits(z[..., 1, :])
        return ops.cast(both / 2, "float32")

    def compute_output_shape(self, input_shape: Any) -> tuple:
        return (*input_shape[: -1 if self.tokens == 1 else -2], self.num_classes)


_CLASS_HEADS = {
    "paper": functools.partial(MLPHead, activation="gelu"),
    "bert": functools.partial(MLPHead, activation="tanh"),
    "distilbert": functools.partial(MLPHead, activation="relu"),
    "vit": functools.partial(LinearHead, tokens=1),
    "deit": functools.partial(LinearHead, tokens=2),
}
CLASS_HEADS = tuple(_CLASS_HEADS)
MASKED_LM_HEADS = ("paper", "bert", "bert_untied")


def class_head(
    kind: str | dict, num_classes: int, backbone: "ViTBertBackbone", name: str
) -> MLPHead | LinearHead:
    """A head on the class token of a backbone, of one of `CLASS_HEADS`; built.

    Raises:
        ValueError: the kind is unknown, or the backbone has too few tokens before its patches.
    """
    kind, options = _name_and_options(kind, CLASS_HEADS)
    options = {"dropout": backbone.dropout, "dtype": backbone.dtype_policy, **options}
    head = _CLASS_HEADS[kind](num_classes, name=name, **options)
    if head.tokens > backbone.prefix_tokens:
        raise ValueError(f"a {kind} head needs a backbone with prefix_tokens=2")
    head.build((None, backbone.hidden_dim))
    return head


def pooler(backbone: "ViTBertBackbone") -> keras.layers.Dense:
    """BERT's pooler, `tanh(W1 z + b1)`, the first layer of a head of the kind `bert`; built."""
    layer = _dense(backbone.hidden_dim, "tanh", backbone.dtype_policy, "pooler")
    layer.build((None, backbone.hidden_dim))
    return layer


def _name_and_options(kind: str | dict, known: Collection[str]) -> tuple[str, dict]:
    """The name of a kind, and the arguments of its class."""
    options = dict(kind) if isinstance(kind, dict) else {"kind": kind}
    name = options.pop("kind")
    if name not in known:
        raise ValueError(f"unknown kind of head {name!r}; known are {', '.join(known)}")
    return name, options


# --- masked tokens -------------------------------------------------------------------------------


def _at(sequence: Tensor, positions: Tensor | None) -> Tensor:
    """The tokens `(batch, predictions, D)` of a sequence at integer positions; None for all."""
    if positions is None:
        return sequence
    require_below(sequence.shape[1], positions, "masked_positions")
    return tokens_at(sequence, counted_over_all(positions, starts_of(sequence)))


@keras.saving.register_keras_serializable(package="keras_vitbert")
class MaskedLMHead(MLPHead):
    """The paper's MLP with the vocabulary as classes, at the masked positions only.

    With 15 % of the positions masked, that is about a sixth of the logits of the whole sequence.

    Inputs `sequence` `(batch, length, D)` and `masked_positions` `(batch, predictions)` integers;
    without positions, `sequence` is the masked tokens alone. Output logits
    `(batch, predictions, num_classes)` in float32.
    """

    # Keras names the shapes by the arguments of `call`.
    def build(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sequence_shape: Any, masked_positions_shape: Any = None
    ) -> None:
        super().build(sequence_shape)

    def call(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sequence: Tensor, masked_positions: Tensor | None = None
    ) -> Tensor:
        return super().call(_at(sequence, masked_positions))

    def compute_output_shape(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sequence_shape: Any, masked_positions_shape: Any = None
    ) -> tuple:
        return (*(masked_positions_shape or sequence_shape[:-1]), self.num_classes)


class _TiedDecoder(keras.layers.Layer):
    """`E x + b` with the word embedding `E`, which stays a layer of the backbone."""

    def __init__(self, num_classes: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self._embedding: Any = None

    def tie(self, embedding: keras.layers.Embedding) -> None:
        self._embedding = lambda: embedding.embeddings  # not tracked: not a weight of this layer

    def build(self, input_shape: Any) -> None:
        self.bias = self.add_weight(name="bias", shape=(self.num_classes,), initializer="zeros")

    def call(self, x: Tensor) -> Tensor:
        # The layer whose call is running decides the dtype of the values that it reads.
        return ops.matmul(x, ops.transpose(self._embedding().value)) + self.bias


@keras.saving.register_keras_serializable(package="keras_vitbert")
class BertMaskedLMHead(_Head):
    """BERT's head: a dense layer, LayerNorm, and the word embedding as decoder, on masked tokens.

    Args:
        num_classes: the size of the vocabulary.
        activation: after the dense layer, a key of `ACTIVATIONS`.
        tied: whether the decoder is the word embedding, see `tie`; else it has its own kernel.

    Inputs and output are those of `MaskedLMHead`; the decoder is also computed in float32.
    """

    arguments = ("num_classes", "activation", "layer_norm_epsilon", "tied")

    def __init__(
        self,
        num_classes: int,
        activation: str = "gelu",
        layer_norm_epsilon: float = 1e-12,
        tied: bool = True,
        **kwargs: Any,
    ):
        super().__init__(num_classes, **kwargs)
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon
        self.tied = tied

    def tie(self, embedding: keras.layers.Embedding) -> None:
        """Makes a `keras.layers.Embedding` of `num_classes` words the decoder of a tied head."""
        if isinstance(self.logits, _TiedDecoder):
            self.logits.tie(embedding)

    @property
    def kind(self) -> dict:
        """See this module."""
        options = {name: getattr(self, name) for name in ("activation", "layer_norm_epsilon")}
        return {"kind": "bert" if self.tied else "bert_untied", **options}

    # Keras names the shapes by the arguments of `call`.
    def build(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sequence_shape: Any, masked_positions_shape: Any = None
    ) -> None:
        policy = self.dtype_policy
        self.hidden = _dense(sequence_shape[-1], ACTIVATIONS[self.activation], policy, "hidden")
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=policy, name="layer_norm"
        )
        policy = _logits_policy(policy)
        if self.tied:
            self.logits = _TiedDecoder(self.num_classes, dtype=policy, name="logits")
        else:
            self.logits = _dense(self.num_classes, None, policy, "logits")
        for layer in (self.hidden, self.layer_norm, self.logits):
            layer.build(sequence_shape)

    def call(self, sequence: Tensor, masked_positions: Tensor | None = None) -> Tensor:
        x = self.layer_norm(self.hidden(_at(sequence, masked_positions)))
        return ops.cast(self.logits(x), "float32")

    def compute_output_shape(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, sequence_shape: Any, masked_positions_shape: Any = None
    ) -> tuple:
        return (*(masked_positions_shape or sequence_shape[:-1]), self.num_classes)


def masked_lm_head(
    kind: str | dict, backbone: "ViTBertBackbone", name: str
) -> MaskedLMHead | BertMaskedLMHead:
    """A head on the masked tokens of a backbone, of one of `MASKED_LM_HEADS`; built.

    Without arguments, `BertMaskedLMHead` takes activation and epsilon from the backbone.

    Raises:
        ValueError: the kind is unknown.
    """
    kind, options = _name_and_options(kind, MASKED_LM_HEADS)
    options = {"dtype": backbone.dtype_policy, "name": name, **options}
    words = backbone.vocabulary_size or 0
    if kind == "paper":
        head = MaskedLMHead(words, dropout=backbone.dropout, **options)
    else:
        defaults = {name: getattr(backbone, name) for name in ("activation", "layer_norm_epsilon")}
        options = {**defaults, "tied": kind == "bert", **options}
        head = BertMaskedLMHead(words, **options)
    head.build((None, None, backbone.hidden_dim))
    if kind == "bert":
        head.tie(backbone.text_embedding.word_embedding)
    return head
