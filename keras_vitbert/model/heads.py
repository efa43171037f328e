"""Task heads: the paper's two-layer MLP (eq. 5 and 6), and those of published BERTs and ViTs.

| kind | on the class token | on masked tokens |
| --- | --- | --- |
| `paper` | `W2 GELU(W1 z + b1) + b2` | the same |
| `bert` | `W2 tanh(W1 z + b1) + b2`, pooler and classifier | `E LN(f(W1 z + b1)) + b2` |
| `distilbert` | `W2 ReLU(W1 z + b1) + b2` | as `bert` |
| `vit` | `W z + b` | |
| `deit` | the mean of two such layers, on class and distillation token | |

`E` is the word embedding, `f` the activation of the blocks. Of `bert_untied` `E` is a kernel of its
own. Sources: Devlin et al. 2018, Sanh et al. 2019, Dosovitskiy et al. 2020, Touvron et al. 2020.
"""

import functools

import keras
from keras import ops

from keras_vitbert.model.activations import ACTIVATIONS


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


def _dense(units, activation, policy, name):
    return keras.layers.Dense(
        units,
        activation=activation,
        kernel_initializer="glorot_uniform",
        dtype=policy,
        name=name,
    )


class _ClassHead(keras.layers.Layer):
    """What heads on the first tokens of a sequence share.

    Args:
        num_classes: int, `C`.
        dropout: float.
    """

    def __init__(self, num_classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout

    def of_sequence(self, sequence, **kwargs):
        """The logits of a whole sequence.

        Args:
            sequence: `(batch, length, D)`, the class token first.
            **kwargs: of the call.

        Returns:
            `(batch, num_classes)` float32.
        """
        return self(sequence[:, 0], **kwargs)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "dropout": self.dropout,
        }


@keras.saving.register_keras_serializable(package="keras_vitbert")
class MLPHead(_ClassHead):
    """`W2 GELU(W1 z + b1) + b2` with `W1: (D, D)`, `W2: (D, classes)` (eq. 5 and 6).

    The softmax of eq. 6 is part of the loss. It and the second layer are computed in float32 under
    a mixed dtype policy too, see `logits_policy`.

    Args:
        num_classes: int, `C`.
        dropout: float, rate between the two layers.
        activation: str, of the first layer, a key of `activations.ACTIVATIONS`.
        hidden_dim: int, units of the first layer; None for `D`.

    Input `(..., D)`, output logits `(..., num_classes)` in float32.
    """

    def __init__(self, num_classes, dropout=0.0, activation="gelu", hidden_dim=None, **kwargs):
        super().__init__(num_classes, dropout, **kwargs)
        self.activation = activation
        self.hidden_dim = hidden_dim

    def build(self, input_shape):
        policy = self.dtype_policy
        units = self.hidden_dim or input_shape[-1]
        self.hidden = _dense(units, ACTIVATIONS[self.activation], policy, "hidden")
        self.hidden.build(input_shape)
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.logits = _dense(self.num_classes, None, logits_policy(policy), "logits")
        self.logits.build((*input_shape[:-1], units))

    def call(self, z):
        return ops.cast(self.logits(self.dropout_layer(self.hidden(z))), "float32")

    def get_config(self):
        return {
            **super().get_config(),
            "activation": self.activation,
            "hidden_dim": self.hidden_dim,
        }


@keras.saving.register_keras_serializable(package="keras_vitbert")
class LinearHead(_ClassHead):
    """One linear layer a token, and the mean of their logits: the head of ViT, and of DeiT.

    Args:
        num_classes: int, `C`.
        dropout: float, rate before the layers.
        tokens: int, 1 for the class token alone; 2 for DeiT's second one, too.

    Input `(..., D)`, or `(..., tokens, D)` where there are several; output logits
    `(..., num_classes)` in float32.
    """

    def __init__(self, num_classes, dropout=0.0, tokens=1, **kwargs):
        super().__init__(num_classes, dropout, **kwargs)
        self.tokens = tokens

    def of_sequence(self, sequence, **kwargs):
        return self(sequence[:, 0] if self.tokens == 1 else sequence[:, : self.tokens], **kwargs)

    def build(self, input_shape):
        policy = logits_policy(self.dtype_policy)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.logits = _dense(self.num_classes, None, policy, "logits")
        self.distillation_logits = None
        if self.tokens == 2:
            self.distillation_logits = _dense(self.num_classes, None, policy, "distillation_logits")
        for layer in filter(None, (self.logits, self.distillation_logits)):
            layer.build((None, input_shape[-1]))

    def call(self, z):
        z = self.dropout_layer(z)
        if self.distillation_logits is None:
            return ops.cast(self.logits(z), "float32")
        both = self.logits(z[..., 0, :]) + self.distillation_logits(z[..., 1, :])
        return ops.cast(both / 2, "float32")

    def compute_output_shape(self, input_shape):
        return (*input_shape[: -1 if self.tokens == 1 else -2], self.num_classes)

    def get_config(self):
        return {**super().get_config(), "tokens": self.tokens}


def _at(sequence, positions):
    """The tokens `(batch, predictions, D)` of a sequence at integer positions."""
    index = ops.expand_dims(ops.cast(positions, "int32"), axis=-1)
    return ops.take_along_axis(sequence, index, axis=1)


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
        return super().call(_at(sequence, masked_positions))

    def compute_output_shape(self, sequence_shape, masked_positions_shape):
        return (*masked_positions_shape, self.num_classes)


class _TiedDecoder(keras.layers.Layer):
    """`E x + b` with the word embedding `E`, which stays a layer of the backbone."""

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self._embedding = None

    def tie(self, embedding):
        self._embedding = lambda: embedding.embeddings  # not tracked: not a weight of this layer

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(self.num_classes,), initializer="zeros")

    def call(self, x):
        if self._embedding is None:
            raise ValueError("the decoder is the word embedding; call `tie` of the head first")
        # A layer's own call decides on the dtype of the values that it reads.
        return ops.matmul(x, ops.transpose(self._embedding().value)) + self.bias


@keras.saving.register_keras_serializable(package="keras_vitbert")
class BertMaskedLMHead(keras.layers.Layer):
    """BERT's: a dense layer, LayerNorm, and the word embedding as the decoder, at masked positions.

    Args:
        num_classes: int, the size of the vocabulary.
        activation: str, of the dense layer, a key of `activations.ACTIVATIONS`.
        layer_norm_epsilon: float.
        tied: bool, whether the decoder is the word embedding, see `tie`; else it is a kernel of its
            own.

    Inputs and output as of `MaskedLMHead`; the decoder is computed in float32 likewise.
    """

    def __init__(
        self, num_classes, activation="gelu", layer_norm_epsilon=1e-12, tied=True, **kwargs
    ):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.activation = activation
        self.layer_norm_epsilon = layer_norm_epsilon
        self.tied = tied

    def tie(self, embedding):
        """Sets the decoder of a tied head.

        Args:
            embedding: `keras.layers.Embedding` of `num_classes` words.
        """
        if self.tied:
            self.logits.tie(embedding)

    def build(self, sequence_shape, masked_positions_shape=None):
        hidden, policy = sequence_shape[-1], self.dtype_policy
        self.hidden = _dense(hidden, ACTIVATIONS[self.activation], policy, "hidden")
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=policy, name="layer_norm"
        )
        if self.tied:
            self.logits = _TiedDecoder(self.num_classes, dtype=logits_policy(policy), name="logits")
        else:
            self.logits = _dense(self.num_classes, None, logits_policy(policy), "logits")
        for layer in (self.hidden, self.layer_norm, self.logits):
            layer.build(sequence_shape)

    def call(self, sequence, masked_positions):
        x = self.layer_norm(self.hidden(_at(sequence, masked_positions)))
        return ops.cast(self.logits(x), "float32")

    def compute_output_shape(self, sequence_shape, masked_positions_shape):
        return (*masked_positions_shape, self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "tied": self.tied,
        }


_CLASS_HEADS = {
    "paper": functools.partial(MLPHead, activation="gelu"),
    "bert": functools.partial(MLPHead, activation="tanh"),
    "distilbert": functools.partial(MLPHead, activation="relu"),
    "vit": functools.partial(LinearHead, tokens=1),
    "deit": functools.partial(LinearHead, tokens=2),
}
CLASS_HEADS = tuple(_CLASS_HEADS)
MASKED_LM_HEADS = ("paper", "bert", "bert_untied")


def class_head(kind, num_classes, backbone, name):
    """A head on the class token of a backbone, built.

    Args:
        kind: str, of `CLASS_HEADS`, or a dict of `kind` and arguments of its class.
        num_classes: int.
        backbone: `ViTBertBackbone`.
        name: str.

    Returns:
        `MLPHead` or `LinearHead`.

    Raises:
        ValueError: an unknown kind, or the backbone has fewer tokens before its patches.
    """
    kind, options = _parts(kind, CLASS_HEADS)
    options = {"dropout": backbone.dropout, "dtype": backbone.dtype_policy, **options}
    head = _CLASS_HEADS[kind](num_classes, name=name, **options)
    if getattr(head, "tokens", 1) > backbone.prefix_tokens:
        raise ValueError(f"a {kind} head needs a backbone with prefix_tokens=2")
    head.build((None, backbone.hidden_dim))
    return head


def masked_lm_head(kind, backbone, name):
    """A head on the masked tokens of a backbone, built.

    Args:
        kind: str, of `MASKED_LM_HEADS`, or a dict of `kind` and arguments of its class; where these
            are left out, `BertMaskedLMHead` has activation and epsilon of the backbone.
        backbone: `ViTBertBackbone` with a text side.
        name: str.

    Returns:
        `MaskedLMHead` or `BertMaskedLMHead`.

    Raises:
        ValueError: an unknown kind.
    """
    kind, options = _parts(kind, MASKED_LM_HEADS)
    options = {"dtype": backbone.dtype_policy, "name": name, **options}
    if kind == "paper":
        head = MaskedLMHead(backbone.vocabulary_size, dropout=backbone.dropout, **options)
    else:
        defaults = {name: getattr(backbone, name) for name in ("activation", "layer_norm_epsilon")}
        options = {**defaults, "tied": kind == "bert", **options}
        head = BertMaskedLMHead(backbone.vocabulary_size, **options)
    head.build((None, None, backbone.hidden_dim))
    if kind == "bert":
        head.tie(backbone.text_embedding.word_embedding)
    return head


def pooler(backbone, name="pooler"):
    """BERT's pooler, `tanh(W1 z + b1)`: what a head of the kind `bert` begins with, built.

    Args:
        backbone: `ViTBertBackbone`.
        name: str.

    Returns:
        `keras.layers.Dense`.
    """
    layer = _dense(backbone.hidden_dim, "tanh", backbone.dtype_policy, name)
    layer.build((None, backbone.hidden_dim))
    return layer


def kind_of_head(head):
    """What `class_head` or `masked_lm_head` makes such a head of.

    Args:
        head: one of this module's layers.

    Returns:
        str, or a dict with `kind`.
    """
    if isinstance(head, BertMaskedLMHead):
        options = {name: getattr(head, name) for name in ("activation", "layer_norm_epsilon")}
        return {"kind": "bert" if head.tied else "bert_untied", **options}
    if isinstance(head, LinearHead):
        return "vit" if head.tokens == 1 else "deit"
    kind = {"gelu": "paper", "tanh": "bert", "relu": "distilbert"}[head.activation]
    return {"kind": kind, "hidden_dim": head.hidden_dim} if head.hidden_dim else kind


def _parts(kind, known):
    """The name of a kind, and arguments of its class."""
    options = dict(kind) if isinstance(kind, dict) else {"kind": kind}
    name = options.pop("kind")
    if name not in known:
        raise ValueError(f"unknown kind of head {name!r}; known are {', '.join(known)}")
    return name, options
