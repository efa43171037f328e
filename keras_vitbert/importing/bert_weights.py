"""A BERT with heads in the common form: config and tensor names of Hugging Face's transformers."""

import dataclasses
from typing import Any

import numpy as np

from keras_vitbert.importing.configs import checked_config, require
from keras_vitbert.importing.tensors import account, block_weights, layer_shapes
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
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
_EMBEDDING, _OUTPUT_BIAS = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"


@dataclasses.dataclass(frozen=True)
class BertWeights:
    """A BERT with a masked-LM head, with or without a next-sentence head.

    Attributes:
        config: dict, the keys of Hugging Face's config.json that say what it computes.
        tensors: dict of name to float32 array. `cls.predictions.decoder.weight` is present if it
            is not tied to the token embedding, `bert.pooler` and `cls.seq_relationship` if there
            is a next-sentence head.
        vocabulary: list of str.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    vocabulary: list[str]

    @property
    def has_next_sentence(self):
        """Whether there is a next-sentence head."""
        return "cls.seq_relationship.weight" in self.tensors

    @property
    def has_own_decoder(self):
        """Whether the decoder is not tied to the token embedding."""
        return _DECODER in self.tensors

    @classmethod
    def checked(cls, config, tensors, vocabulary, label, architecture):
        """Checks a model that was read.

        Args:
            config: dict, the content of config.json.
            tensors: dict of name to array, the backbone's names beginning with `bert.`.
            vocabulary: list of str.
            label: str, where it comes from.
            architecture: str, of `BERT_ARCHITECTURES`.

        Returns:
            `BertWeights`.

        Raises:
            UserError: the tensors do not match (`tensors.account`), or it is a variant of BERT.
        """
        kept = checked_config(config, _DEFAULTS, label, tensors)
        position_type = config.get("position_embedding_type") or "absolute"
        require(position_type == "absolute", label, "position_embedding_type", position_type)
        for key in ("is_decoder", "add_cross_attention"):
            require(not config.get(key), label, key, config.get(key))
        segments = kept["type_vocab_size"]
        require(segments >= 2, label, "type_vocab_size", segments, "2 or more segments are needed")
        if len(vocabulary) > kept["vocab_size"]:
            raise UserError(
                f"{label}: its vocabulary has {len(vocabulary)} tokens, its config "
                f"vocab_size={kept['vocab_size']}; give the vocabulary that belongs to it"
            )
        wanted = _shapes(kept)
        tied = config.get("tie_word_embeddings", True)
        # As in transformers: a stored decoder that differs from the embedding is not tied.
        decoder, embedding = tensors.get(_DECODER), tensors.get(_EMBEDDING)
        if not tied or not (decoder is None or np.array_equal(decoder, embedding)):
            wanted[_DECODER] = wanted[_EMBEDDING]
        ignored = rf"bert\.embeddings\.position_ids|{_DECODER_BIAS}|{_DECODER}"
        hidden = kept["hidden_size"]
        next_sentence = layer_shapes(
            {"bert.pooler.dense": (hidden, hidden), "cls.seq_relationship": (2, hidden)}
        )
        # Checkpoints of masked-LM models often keep the next-sentence head of their pre-training.
        if architecture == "BertForPreTraining" or next_sentence.keys() <= tensors.keys():
            wanted |= next_sentence
        else:
            ignored += r"|bert\.pooler\..*|cls\.seq_relationship\..*"
        if _DECODER_BIAS in tensors:
            tensors = {**tensors, _OUTPUT_BIAS: tensors[_DECODER_BIAS]}
        return cls(kept, account(tensors, wanted, ignored, label, architecture), vocabulary)


def _shapes(config):
    """Name to shape of the tensors that every BERT with a masked-LM head has."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    weights = {
        "bert.embeddings.LayerNorm": (hidden,),
        **block_weights(config, "bert", "self", norms),
        "cls.predictions.transform.dense": (hidden, hidden),
        "cls.predictions.transform.LayerNorm": (hidden,),
    }
    return {
        _EMBEDDING: (vocabulary, hidden),
        "bert.embeddings.position_embeddings.weight": (config["max_position_embeddings"], hidden),
        "bert.embeddings.token_type_embeddings.weight": (config["type_vocab_size"], hidden),
        **layer_shapes(weights),
        _OUTPUT_BIAS: (vocabulary,),
    }
