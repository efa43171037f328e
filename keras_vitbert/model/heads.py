"""Heads on the class token: the paper's two-layer MLP (eq. 5 and 6), and those of published models.

| kind | logits | source |
| --- | --- | --- |
| `paper` | `W2 GELU(W1 z + b1) + b2` | Li et al. 2021 |
| `bert` | `W2 tanh(W1 z + b1) + b2`, pooler and classifier | Devlin et al. 2018 |
| `distilbert` | `W2 ReLU(W1 z + b1) + b2` | Sanh et al. 2019 |
| `vit` | `W z + b` | Dosovitskiy et al. 2020 |
| `deit` | the mean of two such layers, on class and distillation token | Touvron et al. 2020 |

Each head has a `kind`, from which `class_head` builds another head like it: a str, or a dict of
`kind` and arguments of the class. `masked_lm_heads` has the heads on masked tokens.
"""

import functools

import keras
from keras import ops

from keras_vitbert.model.activations import ACTIVATIONS


def logits_policy(policy):
    """The dtype policy of a layer whose outputs are logits.

    Under a mixed policy the logits are float32 products: bfloat16 keeps 8 bits, so it resolves
    logits from 8 to 16 in steps of 0.06 and larger ones in coarser steps, and a softmax over a
    vocabulary compares them.

    Args:
        policy: `keras.DTypePolicy` of the layers before it.

    Returns:
        `keras.DTypePolicy`; `policy` where the weights are not float32.
    """
    return keras.DTypePolicy("float32") if policy.variable_dtype == "float32" else policy


def dense(units, activation, policy, name):
    """A layer of a head.

    Args:
        units: int.
        activation: callable, or None.
        policy: `keras.DTypePolicy`.
        name: str.

    Returns:
        `keras.layers.Dense`, not built.
    """
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

    Attributes:
        tokens: int, how many tokens it reads, the class token first.
    """

    tokens = 1

    def __init__(self, num_classes, dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.dropout = dropout

    def of_sequence(self, sequence, **kwargs):
        """The logits of a whole sequence.

        Args:
            sequence: `(batch, length, D)`, the class token first; the first `tokens` are enough.
            **kwargs: arguments of the call.

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

    The softmax of eq. 6 is part of the loss. The softmax and the second layer are computed in
    float32, even under a mixed dtype policy, see `logits_policy`.

    Args:
        num_classes: int, `C`.
        dropout: float, rate between the two layers.
        activation: str, after the first layer, a key of `activations.ACTIVATIONS`.
        hidden_dim: int, units of the first layer; None for `D`.

    Input `(..., D)`, output logits `(..., num_classes)` in float32.
    """

    def __init__(self, num_classes, dropout=0.0, activation="gelu", hidden_dim=None, **kwargs):
        super().__init__(num_classes, dropout, **kwargs)
        self.activation = activation
        self.hidden_dim = hidden_dim

    @property
    def kind(self):
        """str or dict, see this module."""
        name = {"gelu": "paper", "tanh": "bert", "relu": "distilbert"}[self.activation]
        return {"kind": name, "hidden_dim": self.hidden_dim} if self.hidden_dim else name

    def build(self, input_shape):
        policy = self.dtype_policy
        units = self.hidden_dim or input_shape[-1]
        self.hidden = dense(units, ACTIVATIONS[self.activation], policy, "hidden")
        self.hidden.build(input_shape)
        self.dropout_layer = keras.layers.Dropout(self.dropout, dtype=policy, name="dropout")
        self.logits = dense(self.num_classes, None, logits_policy(policy), "logits")
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
    """One linear layer per token, and the mean of their logits: the head of ViT and of DeiT.

    Args:
        num_classes: int, `C`.
        dropout: float, rate before the layers.
        tokens: int, 1 for the class token alone; 2 to add DeiT's second token.

    Input `(..., D)`, or `(..., tokens, D)` where there are several; output logits
    `(..., num_classes)` in float32.
    """

    def __init__(self, num_classes, dropout=0.0, tokens=1, **kwargs):
        super().__init__(num_classes, dropout, **kwargs)
        self.tokens = tokens

    @property
    def kind(self):
        """str, see this module."""
        return "vit" if self.tokens == 1 else "deit"

    def of_sequence(self, sequence, **kwargs):
        return self(sequence[:, 0] if self.tokens == 1 else sequence[:, : self.tokens], **kwargs)

    def build(self, input_shape):
        policy = logits_policy(self.dtype_policy)
        self.dropout_layer = keras.layers.Dropout(
            self.dropout, dtype=self.dtype_policy, name="dropout"
        )
        self.logits = dense(self.num_classes, None, policy, "logits")
        self.distillation_logits = None
        if self.tokens == 2:
            self.distillation_logits = dense(self.num_classes, None, policy, "distillation_logits")
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


_CLASS_HEADS = {
    "paper": functools.partial(MLPHead, activation="gelu"),
    "bert": functools.partial(MLPHead, activation="tanh"),
    "distilbert": functools.partial(MLPHead, activation="relu"),
    "vit": functools.partial(LinearHead, tokens=1),
    "deit": functools.partial(LinearHead, tokens=2),
}
CLASS_HEADS = tuple(_CLASS_HEADS)


def class_head(kind, num_classes, backbone, name):
    """A head on the class token of a backbone, built.

    Args:
        kind: str, one of `CLASS_HEADS`, or a dict of `kind` and arguments of its class.
        num_classes: int.
        backbone: `ViTBertBackbone`.
        name: str.

    Returns:
        `MLPHead` or `LinearHead`.

    Raises:
        ValueError: the kind is unknown, or the backbone has too few tokens before its patches.
    """
    kind, options = parts_of(kind, CLASS_HEADS)
    options = {"dropout": backbone.dropout, "dtype": backbone.dtype_policy, **options}
    head = _CLASS_HEADS[kind](num_classes, name=name, **options)
    if head.tokens > backbone.prefix_tokens:
        raise ValueError(f"a {kind} head needs a backbone with prefix_tokens=2")
    head.build((None, backbone.hidden_dim))
    return head


def pooler(backbone, name="pooler"):
    """BERT's pooler, `tanh(W1 z + b1)`, the first layer of a head of the kind `bert`; built.

    Args:
        backbone: `ViTBertBackbone`.
        name: str.

    Returns:
        `keras.layers.Dense`.
    """
    layer = dense(backbone.hidden_dim, "tanh", backbone.dtype_policy, name)
    layer.build((None, backbone.hidden_dim))
    return layer


def parts_of(kind, known):
    """The name of a kind, and the arguments of its class.

    Args:
        kind: str, or dict with `kind`.
        known: collection of str, the names.

    Returns:
        (str, dict).

    Raises:
        ValueError: the kind is unknown.
    """
    options = dict(kind) if isinstance(kind, dict) else {"kind": kind}
    name = options.pop("kind")
    if name not in known:
        raise ValueError(f"unknown kind of head {name!r}; known are {', '.join(known)}")
    return name, options
