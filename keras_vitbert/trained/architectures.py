"""A BERT or ViT of another project in the common form, and the network made from it.

The form is that of Hugging Face's transformers: the keys of a config, and tensors by name.
"""

import dataclasses
import re
from typing import Any

import numpy as np

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.trained import layout
from keras_vitbert.trained.tensors import account
from pipelines.command_line import say
from pipelines.text.wordpiece import check_tokens

# Hugging Face's names of activations to those of `keras_vitbert.model.activations`. Google's BERT
# and ViT approximate GELU by tanh, although BERT's own config calls that `gelu` too; see `google`.
ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh"),
    **dict.fromkeys(("silu", "swish"), "silu"),
    "relu": "relu",
    "tanh": "tanh",
}

# The heads of each architecture, by name, and their kinds, see `keras_vitbert.model.heads`.
BERTS = {
    "BertForPreTraining": {"mlm": "bert", "nsp": "bert"},
    "BertForMaskedLM": {"mlm": "bert"},
    "BertForNextSentencePrediction": {"nsp": "bert"},
    "BertForSequenceClassification": {"text": "bert"},
    "BertModel": {},
    # A BERT without segments and pooler (Sanh et al. 2019).
    "DistilBertForMaskedLM": {"mlm": "bert"},
    "DistilBertForSequenceClassification": {"text": "distilbert"},
    "DistilBertModel": {},
}
VITS = {
    "ViTForImageClassification": {"image": "vit"},
    "ViTModel": {},
    "DeiTForImageClassification": {"image": "vit"},
    "DeiTForImageClassificationWithTeacher": {"image": "deit"},
    "DeiTModel": {},
}

# The keys of a config that determine what a network computes, with transformers' defaults.
_OF_ALL = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}
_OF_BERT = {
    **_OF_ALL,
    "vocab_size": 30522,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_dropout_prob": 0.1,
}
_OF_VIT = {
    **_OF_ALL,
    "image_size": 224,
    "patch_size": 16,
    "qkv_bias": True,
    "hidden_dropout_prob": 0.0,
}
_DECODER, _DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
_EMBEDDING, _OUTPUT_BIAS = "bert.embeddings.word_embeddings.weight", "cls.predictions.bias"
_POOLER = "bert.pooler.dense.weight"
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of ViT


@dataclasses.dataclass(frozen=True)
class Weights:
    """A model of another project, checked.

    Attributes:
        config: dict, the keys of Hugging Face's config.json that determine what it computes, and
            `model_type`: `bert`, `vit` or `deit`. Images and patches are square.
        heads: dict of `image`, `mlm`, `nsp`, `text` and `pooler` to the kind of that head.
        tensors: dict of name to float32 array, those of `layout.tensors_of`.
        vocabulary: list of str; None for a ViT.
        lower_case: bool, whether its texts are lower-cased; None if it does not say.
        mean, std: three floats each, which normalise images in [0, 1].
        labels: list of str, the names of the classes in order, or None.
        central_crop: float, the fraction of an image's shorter side that it sees.
    """

    config: dict[str, Any]
    heads: dict[str, Any]
    tensors: dict[str, np.ndarray]
    vocabulary: list[str] | None = None
    lower_case: bool | None = None
    mean: tuple[float, ...] = HALF
    std: tuple[float, ...] = HALF
    labels: list[str] | None = None
    central_crop: float = 1.0

    @property
    def num_classes(self):
        """int, of its classifier; None without one."""
        names = ("classifier.weight", "cls_classifier.weight")
        return next((len(self.tensors[name]) for name in names if name in self.tensors), None)

    def network(self, dtype=None):
        """The network of this project that computes the same.

        Args:
            dtype: a Keras dtype policy.

        Returns:
            `Classifier` for a text classifier, else `PreTrainingNetwork`; with the same values.
        """
        backbone = ViTBertBackbone(**self._backbone_arguments(), dtype=dtype, name="backbone")
        if "text" in self.heads:
            kind = self.heads["text"]
            network = Classifier(backbone, self.num_classes, kind, name="classifier")
        else:
            classes = self.num_classes if "image" in self.heads else None
            network = PreTrainingNetwork(backbone, classes, self.heads, name="network")
        layout.assign(
            network,
            layout.tensors_of(self.config, self.heads, self.num_classes),
            self.tensors,
        )
        return network

    def _backbone_arguments(self):
        config = self.config
        arguments = {
            "num_layers": config["num_hidden_layers"],
            "num_heads": config["num_attention_heads"],
            "hidden_dim": config["hidden_size"],
            "intermediate_dim": config["intermediate_size"],
            "dropout": config["hidden_dropout_prob"],
            "layer_norm_epsilon": config["layer_norm_eps"],
            "activation": ACTIVATIONS[config["hidden_act"]],
        }
        if config["model_type"] == "bert":
            return {
                **arguments,
                "image_size": None,
                "norm": "post",
                "vocabulary_size": config["vocab_size"],
                "max_sequence_length": config["max_position_embeddings"],
                "num_segments": config["type_vocab_size"],
            }
        return {
            **arguments,
            "vocabulary_size": None,
            "image_size": config["image_size"],
            "patch_size": config["patch_size"],
            "patch_bias": True,
            "prefix_tokens": len(layout.special_tokens(config["model_type"])),
            "image_mean": self.mean,
            "image_std": self.std,
        }


def checked_bert(config, tensors, architecture, vocabulary, kinds=None, **about):
    """Checks a BERT that was read.

    Args:
        config: dict, the content of config.json.
        tensors: dict of name to array; the backbone's names begin with `bert.`.
        architecture: str, a key of `BERTS`.
        vocabulary: list of str.
        kinds: dict, the kinds of heads where they differ from `BERTS`.
        **about: `lower_case` and `labels` of `Weights`.

    Returns:
        `Weights`.

    Raises:
        ValueError: the tensors do not match (`tensors.account`), it is a variant of BERT, or its
            vocabulary lacks BERT's special tokens.
    """
    kept = {**_kept(config, _OF_BERT), "model_type": "bert"}
    require(not config.get("is_decoder"), "is_decoder", True)
    segments = kept["type_vocab_size"]
    require(segments != 1, "type_vocab_size", segments, "2 or more segments are needed")
    if len(vocabulary) > kept["vocab_size"]:
        raise ValueError(
            f"its vocabulary has {len(vocabulary)} tokens, its config "
            f"vocab_size={kept['vocab_size']}"
        )
    check_tokens(vocabulary, "its vocabulary")
    heads = _classifying(architecture, {**BERTS[architecture], **(kinds or {})}, config, tensors)
    ignored = rf"bert\.embeddings\.position_ids|{_DECODER_BIAS}|{_DECODER}"
    # Checkpoints of masked-LM models often keep the next-sentence head of their pre-training.
    if {_POOLER, "cls.seq_relationship.weight"} <= tensors.keys() and "text" not in heads:
        heads["nsp"] = "bert"
    elif _POOLER in tensors and "text" not in heads and "nsp" not in heads:
        heads["pooler"] = "bert"
    ignored += r"|cls\..*" if "mlm" not in heads else r"|cls\.seq_relationship\..*"
    if heads.get("mlm") == "bert" and _is_untied(config, tensors):
        heads["mlm"] = "bert_untied"
    if _DECODER_BIAS in tensors:
        tensors = {**tensors, _OUTPUT_BIAS: tensors[_DECODER_BIAS]}
    about["vocabulary"] = vocabulary
    if "text" not in heads:
        about["labels"] = None
        ignored += r"|(pre_)?classifier\..*"
    return _checked(kept, heads, tensors, ignored, architecture, about)


def _is_untied(config, tensors):
    """As in transformers: a stored decoder that differs from the embedding is not tied."""
    decoder, embedding = tensors.get(_DECODER), tensors.get(_EMBEDDING)
    tied = config.get("tie_word_embeddings", True)
    return not tied or not (decoder is None or np.array_equal(decoder, embedding))


def checked_vit(config, tensors, architecture, mean=HALF, std=HALF, **about):
    """Checks a ViT or DeiT that was read.

    Args:
        config: dict, the content of config.json.
        tensors: dict of name to array; the backbone's names begin with `vit.` or `deit.`.
        architecture: str, a key of `VITS`.
        mean, std: three floats each, which normalise images in [0, 1].
        **about: `labels` and `central_crop` of `Weights`.

    Returns:
        `Weights`.

    Raises:
        ValueError: the tensors do not match (`tensors.account`), or it is a variant of ViT.
    """
    model_type = "deit" if architecture.startswith("DeiT") else "vit"
    kept = {**_kept(config, _OF_VIT), "model_type": model_type}
    for key in ("image_size", "patch_size"):  # one number, or two
        sides = np.ravel(kept[key]).tolist()
        require(len(set(sides)) == 1, key, kept[key], "only squares are supported")
        kept[key] = sides[0]
    heads = _classifying(architecture, VITS[architecture], config, tensors)
    if "pre_logits.weight" in tensors and heads:
        heads["image"] = {"kind": "bert", "hidden_dim": len(tensors["pre_logits.weight"])}
    if not heads and f"{model_type}.pooler.dense.weight" in tensors:
        heads["pooler"] = "bert"
        pooler_act = config.get("pooler_act", "tanh")  # of transformers 5
        require(pooler_act == "tanh", "pooler_act", pooler_act)
    ignored = rf"{model_type}\.pooler\..*|{model_type}\.embeddings\.mask_token"
    if "image" not in heads:
        ignored += r"|classifier\..*|pre_logits\..*"
        about["labels"] = None
    if not kept["qkv_bias"]:
        missing = {
            tensor.theirs: np.zeros(tensor.shape)
            for tensor in layout.tensors_of(kept, {})
            if re.search(r"\.attention\.attention\.\w+\.bias$", tensor.theirs)
        }
        tensors = {**tensors, **missing}
    about |= {"mean": tuple(mean), "std": tuple(std)}
    return _checked(kept, heads, tensors, ignored, architecture, about)


def _kept(config, defaults):
    """The values of the keys in `defaults`; other keys determine nothing."""
    kept = {key: config.get(key, default) for key, default in defaults.items()}
    activation = kept["hidden_act"]
    known = ", ".join(sorted(ACTIVATIONS))
    require(activation in ACTIVATIONS, "hidden_act", activation, f"known are {known}")
    return kept


def require(condition: bool, key: str, value: Any, why: str = "which is not supported") -> None:
    """Refuses the value of a key of a config, unless the condition holds."""
    if not condition:
        raise ValueError(f"its config has {key}={value!r}; {why}")


def _classifying(architecture, heads, config, tensors):
    """The heads, without a classifier unless it chooses one of several classes."""
    problem = config.get("problem_type") or "single_label_classification"
    if len(tensors.get("classifier.weight", "ab")) == 1:
        problem = "regression"
    classifiers = heads.keys() & {"text", "image"}
    if not classifiers or problem == "single_label_classification":
        return dict(heads)
    say(f"{architecture}: its head is for {problem!r}; only the encoder is used")
    return {name: kind for name, kind in heads.items() if name not in classifiers}


def _checked(config, heads, tensors, ignored, architecture, about):
    labels = about.get("labels")
    classes = None if labels is None else len(labels)
    wanted = {t.theirs: t.shape for t in layout.tensors_of(config, heads, classes)}
    tensors = account(tensors, wanted, ignored, architecture)
    return Weights(config, heads, tensors, **about)
