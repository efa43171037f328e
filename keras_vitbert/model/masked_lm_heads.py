"""Heads on the masked tokens of a text.

| kind | logits | source |
| --- | --- | --- |
| `paper` | `W2 GELU(W1 z + b1) + b2` | Li et al. 2021, eq. 5 and 6 |
| `bert` | `E LN(f(W1 z + b1)) + b2`, with the word embedding `E` | Devlin et al. 2018 |
| `bert_untied` | the same, with its own kernel `E` | |

`f` is the activation of the blocks. Each head has a `kind`, from which `masked_lm_head` builds
another head like it: a str, or a dict of `kind` and arguments of the class.
"""

import keras
from keras import ops

from keras_vitbert.model.activations import ACTIVATIONS
from keras_vitbert.model.backbone_inputs import require_below
from keras_vitbert.model.heads import MLPHead, dense, logits_policy, parts_of
from keras_vitbert.model.tokens import counted_over_all, starts_of, tokens_at

MASKED_LM_HEADS = ("paper", "bert", "bert_untied")


def _at(sequence, positions):
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

    def build(self, sequence_shape, masked_positions_shape=None):
        super().build(sequence_shape)

    def call(self, sequence, masked_positions=None):
        return super().call(_at(sequence, masked_positions))

    def compute_output_shape(self, sequence_shape, masked_positions_shape=None):
        return (*(masked_positions_shape or sequence_shape[:-1]), self.num_classes)


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
        assert self._embedding is not None, "the decoder is tied to no embedding, see `tie`"
        # The layer whose call is running decides the dtype of the values that it reads.
        return ops.matmul(x, ops.transpose(self._embedding().value)) + self.bias


@keras.saving.register_keras_serializable(package="keras_vitbert")
class BertMaskedLMHead(keras.layers.Layer):
    """BERT's head: a dense layer, LayerNorm, and the word embedding as decoder, on masked tokens.

    Args:
        num_classes: int, the size of the vocabulary.
        activation: str, after the dense layer, a key of `activations.ACTIVATIONS`.
        layer_norm_epsilon: float.
        tied: bool, whether the decoder is the word embedding, see `tie`; else it has its own
            kernel.

    Inputs and output are those of `MaskedLMHead`; the decoder is also computed in float32.
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

    @property
    def kind(self):
        """dict, see this module."""
        options = {name: getattr(self, name) for name in ("activation", "layer_norm_epsilon")}
        return {"kind": "bert" if self.tied else "bert_untied", **options}

    def build(self, sequence_shape, masked_positions_shape=None):
        hidden, policy = sequence_shape[-1], self.dtype_policy
        self.hidden = dense(hidden, ACTIVATIONS[self.activation], policy, "hidden")
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=self.layer_norm_epsilon, dtype=policy, name="layer_norm"
        )
        if self.tied:
            self.logits = _TiedDecoder(self.num_classes, dtype=logits_policy(policy), name="logits")
        else:
            self.logits = dense(self.num_classes, None, logits_policy(policy), "logits")
        for layer in (self.hidden, self.layer_norm, self.logits):
            layer.build(sequence_shape)

    def call(self, sequence, masked_positions=None):
        x = self.layer_norm(self.hidden(_at(sequence, masked_positions)))
        return ops.cast(self.logits(x), "float32")

    def compute_output_shape(self, sequence_shape, masked_positions_shape=None):
        return (*(masked_positions_shape or sequence_shape[:-1]), self.num_classes)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": self.activation,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "tied": self.tied,
        }


def masked_lm_head(kind, backbone, name):
    """A head on the masked tokens of a backbone, built.

    Args:
        kind: str, one of `MASKED_LM_HEADS`, or a dict of `kind` and arguments of its class; without
            these, `BertMaskedLMHead` takes activation and epsilon from the backbone.
        backbone: `ViTBertBackbone` with a text side.
        name: str.

    Returns:
        `MaskedLMHead` or `BertMaskedLMHead`.

    Raises:
        ValueError: the kind is unknown.
    """
    kind, options = parts_of(kind, MASKED_LM_HEADS)
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
