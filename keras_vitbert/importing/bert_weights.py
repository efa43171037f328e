"""A BERT with heads, in one form: Hugging Face's config and names, everything accounted for."""

import dataclasses
from typing import Any

import numpy as np

from keras_vitbert.importing.configs import checked_config, require
from keras_vitbert.importing.tensors import account
from pipelines.command_line import UserError

BERT_ARCHITECTURES = ("BertForPreTraining", "BertForMaskedLM")

_DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
_POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
_NEXT_SENTENCE = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
_WORDS, _OUTPUT_BIAS = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"


@dataclasses.dataclass(frozen=True)
class BertWeights:
    """A BERT for masked words, and perhaps for next sentences.

    Attributes:
        config: dict, the keys of Hugging Face's config.json that say what it computes.
        tensors: dict of name to float32 array. `cls.predictions.decoder.weight` is there where it
            is not that of the word embeddings, `bert.pooler` and `cls.seq_relationship` where
            there is a next-sentence head.
        vocabulary: list of str.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    vocabulary: list[str]

    @property
    def has_next_sentence(self):
        """Whether there is a next-sentence head."""
        return _NEXT_SENTENCE[0] in self.tensors

    @property
    def has_own_decoder(self):
        """Whether words are decoded by another matrix than that of their embeddings."""
        return _DECODER in self.tensors

    @classmethod
    def checked(cls, config, tensors, vocabulary, label, architecture):
        """The same from what was read, or a line that tells what is wrong with it.

        Args:
            config: dict, the content of config.json.
            tensors: dict of name to array, the trunk's names beginning with `bert.`.
            vocabulary: list of str.
            label: str, where it comes from.
            architecture: str, of `BERT_ARCHITECTURES`.

        Raises:
            UserError: see `tensors.account`; or it computes something else than BERT.
        """
        kept = checked_config(config, _DEFAULTS, label)
        position_type = config.get("position_embedding_type") or "absolute"
        require(position_type == "absolute", label, "position_embedding_type", position_type)
        for key in ("is_decoder", "add_cross_attention"):
            require(not config.get(key), label, key, config.get(key))
        segments = kept["type_vocab_size"]
        require(segments >= 2, label, "type_vocab_size", segments, "2 or more segments are wanted")
        if len(vocabulary) > kept["vocab_size"]:
            raise UserError(
                f"{label}: its vocabulary has {len(vocabulary)} tokens, its config "
                f"vocab_size={kept['vocab_size']}; bring the vocabulary that belongs to it"
            )
        wanted = _shapes(kept)
        tied = config.get("tie_word_embeddings", True)
        # As transformers do: a decoder that is there, and another, is not tied.
        if not tied or _differ(tensors.get(_DECODER), tensors.get(_WORDS)):
            wanted[_DECODER] = wanted[_WORDS]
        # Files of masked-LM models often keep the other head of their pre-training.
        whole = all(name in tensors for name in (*_POOLER, *_NEXT_SENTENCE))
        ignored = rf"bert\.embeddings\.position_ids|{_DECODER_BIAS}|{_DECODER}"
        hidden = kept["hidden_size"]
        if architecture == "BertForPreTraining" or whole:
            shapes = ((hidden, hidden), (hidden,), (2, hidden), (2,))
            wanted |= dict(zip((*_POOLER, *_NEXT_SENTENCE), shapes, strict=True))
        else:
            ignored += r"|bert\.pooler\..*|cls\.seq_relationship\..*"
        if _DECODER_BIAS in tensors:
            tensors = {**tensors, _OUTPUT_BIAS: tensors[_DECODER_BIAS]}
        return cls(kept, account(tensors, wanted, ignored, label, architecture), vocabulary)


def _differ(first, second):
    if first is None or second is None or first.shape != second.shape:
        return first is not None
    return not np.array_equal(first, second)


def _shapes(config):
    """Name to shape of what every BERT for masked words has."""
    hidden, inner, words = (
        config[key] for key in ("hidden_size", "intermediate_size", "vocab_size")
    )
    shapes = {
        _WORDS: (words, hidden),
        "bert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "bert.embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
    }

    def norm(name):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)

    def dense(name, outputs, inputs):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    norm("bert.embeddings.LayerNorm")
    for index in range(config["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.self.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.attention.output.LayerNorm")
        dense(f"{layer}.intermediate.dense", inner, hidden)
        dense(f"{layer}.output.dense", hidden, inner)
        norm(f"{layer}.output.LayerNorm")
    dense("cls.predictions.transform.dense", hidden, hidden)
    norm("cls.predictions.transform.LayerNorm")
    shapes[_OUTPUT_BIAS] = (words,)
    return shapes
