"""A BERT or ViT that was read from another project's files, and the network made from it."""

import dataclasses
import os
from typing import Any

import numpy as np

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.pretraining_network import PreTrainingNetwork
from keras_vitbert.trained.finding import Source
from keras_vitbert.trained.trained_model import TrainedModel
from keras_vitbert.trained.weight_names import NOTHING, Rules, assign, name_of
from pipelines.command_line import say
from pipelines.text.casing import AUTO, is_lower
from pipelines.text.wordpiece import check_tokens

# Hugging Face's names of activations to those of `keras_vitbert.model.encoder_block`. Google's BERT
# and ViT approximate GELU by tanh, although BERT's own config calls that `gelu` too.
ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_pytorch_tanh", "gelu_fast"), "gelu_tanh"),
    **dict.fromkeys(("silu", "swish"), "silu"),
    "relu": "relu",
    "tanh": "tanh",
}

# The heads of each architecture, by name, and their kinds, see `keras_vitbert.model.heads`.
ARCHITECTURES = {
    "BertForPreTraining": {"mlm": "bert", "nsp": "bert"},
    "BertForMaskedLM": {"mlm": "bert"},
    "BertForNextSentencePrediction": {"nsp": "bert"},
    "BertForSequenceClassification": {"text": "bert"},
    "BertModel": {},
    # A BERT without segments and pooler (Sanh et al. 2019).
    "DistilBertForMaskedLM": {"mlm": "bert"},
    "DistilBertForSequenceClassification": {"text": "distilbert"},
    "DistilBertModel": {},
    "ViTForImageClassification": {"image": "vit"},
    "ViTModel": {},
    "DeiTForImageClassification": {"image": "vit"},
    "DeiTForImageClassificationWithTeacher": {"image": "deit"},
    "DeiTModel": {},
}

# Arguments of our backbone, and the keys of transformers' configs with their defaults.
_CONFIG = {
    "num_layers": ("num_hidden_layers", 12),
    "num_heads": ("num_attention_heads", 12),
    "hidden_dim": ("hidden_size", 768),
    "intermediate_dim": ("intermediate_size", 3072),
    "activation": ("hidden_act", "gelu"),
    "layer_norm_epsilon": ("layer_norm_eps", 1e-12),
}
BERT_CONFIG = {
    **_CONFIG,
    "vocabulary_size": ("vocab_size", 30522),
    "max_sequence_length": ("max_position_embeddings", 512),
    "num_segments": ("type_vocab_size", 2),
    "dropout": ("hidden_dropout_prob", 0.1),
}
VIT_CONFIG = {
    **_CONFIG,
    "image_size": ("image_size", 224),
    "patch_size": ("patch_size", 16),
    "dropout": ("hidden_dropout_prob", 0.0),
}
HALF = (0.5, 0.5, 0.5)  # mean and standard deviation of ViT
_CLASSIFICATION = "single_label_classification"


@dataclasses.dataclass
class Imported:
    """A model as it was read from the files of another project."""

    architecture: str  # one of transformers, a key of `ARCHITECTURES`
    arguments: dict[str, Any]  # those of `ViTBertBackbone`
    tensors: dict[str, np.ndarray]  # by the names of the file
    rules: Rules  # of `weight_names`, how variables are called there
    in_torch: bool = False  # this and the next two: see `weight_names.assign`
    ignored: str = NOTHING
    lacking: str = NOTHING
    # Of heads, where they are not those of the architecture
    kinds: dict[str, Any] = dataclasses.field(default_factory=dict)
    problem: str | None = None  # what a classifier is for, as in transformers' configs
    vocabulary: list[str] | None = None  # of a BERT
    lower_case: bool | None = None  # None if the files do not say
    labels: list[str] | None = None  # the names of the classes in order
    central_crop: float = 1.0  # the fraction of an image's shorter side that it sees

    def open(self, source: Source, dtype: str) -> TrainedModel:
        """The model as a `Classifier` of texts or a `PreTrainingNetwork` that computes the same."""
        arguments, lower_case = dict(self.arguments), self.lower_case
        if self.vocabulary is not None:
            tokens, size = len(self.vocabulary), arguments["vocabulary_size"]
            if tokens > size:
                raise ValueError(f"its vocabulary has {tokens} tokens, its config {size}")
            check_tokens(self.vocabulary, "its vocabulary")
            arguments |= {"image_size": None, "norm": "post"}
            if lower_case is None:
                lower_case = is_lower(AUTO, self.vocabulary)
        else:
            arguments |= {"vocabulary_size": None, "patch_bias": True}
            arguments["prefix_tokens"] = 2 if self.architecture.startswith("DeiT") else 1
        backbone = ViTBertBackbone(**arguments, dtype=dtype, name="backbone")
        classes: Any  # a number if there is a head for classes
        heads, classes = self._heads()
        if "text" in heads:
            network = Classifier(backbone, classes, heads["text"], name="classifier")
            used = {"text": network.head}
        else:
            network = PreTrainingNetwork(backbone, classes, heads, name="network")
            used = {"image": network.image_head, "mlm": network.mlm_head}
        assign(network, self.tensors, self.rules, self.in_torch, self.ignored, self.lacking)
        name = os.path.basename(os.path.normpath(source.label))
        what = "BERT" if self.vocabulary else "ViT"
        return TrainedModel(
            source.label,
            name,
            backbone,
            {name: head for name, head in used.items() if head is not None},
            self.labels if classes else None,
            self.vocabulary,
            lower_case is not False,
            self.central_crop,
            origin=f"Those of the {what} `{name}` of another project, which states its data and "
            "licence. No run of this project has changed them.",
            network=network,
        )

    def _heads(self) -> tuple[dict[str, Any], int | None]:
        """The heads that the network has, with their kinds, and the number of its classes."""
        heads = {**ARCHITECTURES[self.architecture], **self.kinds}
        name, path = ("text", "head") if self.vocabulary is not None else ("image", "image_head")
        bias, classes = self._tensor(f"{path}/logits/bias", [0, 0]), None
        if name in heads:
            problem = "regression" if len(bias) == 1 else self.problem or _CLASSIFICATION
            if problem == _CLASSIFICATION:
                classes = len(self.labels or bias)
            else:
                say(f"{self.architecture}: its head is for {problem!r}; only the encoder is used")
                del heads[name]
        hidden = self._tensor("image_head/hidden/bias")
        if "image" in heads and hidden is not None:  # of Google's first ViTs
            heads["image"] = {"kind": "bert", "hidden_dim": len(hidden)}
        if name not in heads and self._tensor("pooler/kernel") is not None:
            # Checkpoints of masked-LM models often keep the next-sentence head of their training.
            if self._tensor("nsp_head/logits/kernel") is not None:
                heads["nsp"] = "bert"
            elif "nsp" not in heads:
                heads["pooler"] = "bert"
        return heads, classes

    def _tensor(self, path: str, default: Any = None) -> Any:
        return self.tensors.get(name_of(path, self.rules), default)


def arguments_of(config: dict[str, Any], table: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    """The arguments of our backbone from a config of transformers, by a table of this module."""
    arguments = {ours: config.get(theirs, default) for ours, (theirs, default) in table.items()}
    activation = arguments["activation"]
    known = ", ".join(sorted(ACTIVATIONS))
    require(activation in ACTIVATIONS, "hidden_act", activation, f"known are {known}")
    arguments["activation"] = ACTIVATIONS[activation]
    for key in arguments.keys() & {"image_size", "patch_size"}:
        arguments[key] = square(key, arguments[key])
    require(not config.get("is_decoder"), "is_decoder", True)
    require(arguments.get("num_segments") != 1, "type_vocab_size", 1, "2 or more are needed")
    return arguments


def square(key: str, value: Any) -> int:
    """The side of an image or a patch, which configs give as one number or two."""
    sides = np.ravel(value).tolist()
    require(len(set(sides)) == 1, key, value, "only squares are supported")
    return sides[0]


def require(condition: bool, key: str, value: Any, why: str = "which is not supported") -> None:
    """Refuses the value of a key of a config, unless the condition holds."""
    if not condition:
        raise ValueError(f"its config has {key}={value!r}; {why}")
