"""Writes a model as a folder that Hugging Face's transformers read, by `save_pretrained`'s rules.

The text side of a backbone that normalises last is written as a BERT. The image side of one that
normalises first is written as a ViT, or as a DeiT if two tokens precede its patches. A head is
written only if transformers have that kind.
"""

import json
import os
from typing import Any

import numpy as np
import safetensors.numpy

from keras_vitbert.model.masked_lm_heads import BertMaskedLMHead
from keras_vitbert.trained import layout
from keras_vitbert.trained.architectures import BERTS, VITS
from pipelines.text.wordpiece import CLS, MASK, PAD, SEP, UNKNOWN

_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # the others have the same names
_BILINEAR = 2  # Pillow's constant
_PARTS = {"text": "head", "image": "image_head", "mlm": "mlm_head", "nsp": "nsp_head"}


class HuggingFaceModel:
    """A trained model in the form of transformers.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`.

    Attributes:
        architecture: str, such as `BertForPreTraining`.
        left_out: list of str, what it cannot hold, in words.

    Raises:
        ValueError: transformers have no such architecture.
    """

    def __init__(self, trained):
        self._trained = trained
        backbone = trained.backbone
        self.left_out = []
        self._is_bert = backbone.norm == "post"
        if self._is_bert and backbone.embedding_scale != 1:
            raise ValueError(
                f"{trained.path}: multiplies its embeddings by {backbone.embedding_scale:g}, which "
                "no BERT of transformers does; write a preset of keras-hub"
            )
        sides = {"image": backbone.image_size, "text": backbone.vocabulary_size}
        kept, other = ("text", "image") if self._is_bert else ("image", "text")
        if sides[kept] is None:
            raise ValueError(
                f"{trained.path}: norm={backbone.norm} with the {other} side only, which no model "
                "of transformers has; write a preset of keras-hub"
            )
        if sides[other] is not None:
            self.left_out.append(f"the {other} side")
        self._heads = self._fitting()
        kinds = {name: head.kind for name, head in self._heads.items() if name != "pooler"}
        self.architecture = self._named(kinds)
        self._config = self._sizes()
        if "pooler" in self._heads:
            kinds["pooler"] = "bert"
        classes = next(
            (self._heads[name].num_classes for name in ("text", "image") if name in self._heads),
            None,
        )
        self._tensors = layout.tensors_of(self._config, kinds, classes)

    def write(self, folder):
        """Writes all files but the model card.

        Args:
            folder: str, an empty folder.
        """
        values = self.tensors()
        safetensors.numpy.save_file(
            values, os.path.join(folder, "model.safetensors"), {"format": "pt"}
        )
        self._json(folder, "config.json", self._full_config())
        if self._is_bert:
            self._write_tokenizer(folder)
        else:
            self._json(folder, "preprocessor_config.json", self._processor())

    @staticmethod
    def _json(folder, name, content):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2, ensure_ascii=False)
            file.write("\n")

    def _fitting(self):
        """The heads that transformers can hold, by name."""
        trained, network = self._trained, self._trained.network
        heads = {n: head for n, head in trained.heads.items() if (n == "image") != self._is_bert}
        for name in ("nsp", "pooler"):
            head = getattr(network, f"{name}_head" if name == "nsp" else name, None)
            if head is not None and (self._is_bert or name == "pooler"):
                heads[name] = head
        fitting = {}
        for name, head in heads.items():
            if name == "pooler" or self._fits(head):
                fitting[name] = head
            else:
                self.left_out.append(f"the {name} head, which is {_described(head)}")
        return fitting

    def _fits(self, head):
        kind, backbone = head.kind, self._trained.backbone
        if isinstance(head, BertMaskedLMHead):
            return (head.activation, head.layer_norm_epsilon) == (
                backbone.activation,
                backbone.layer_norm_epsilon,
            )
        return kind == "bert" if self._is_bert else kind in ("vit", "deit")

    def _named(self, kinds):
        """The architecture that has the most of the model's heads; drops the other heads."""
        known = BERTS if self._is_bert else VITS
        prefix = self._prefix()
        found = {
            name: heads
            for name, heads in known.items()
            if name.lower().startswith(prefix)
            and all(_base(kinds.get(head)) == kind for head, kind in heads.items())
        }
        name = max(found, key=lambda name: len(found[name]))
        for head in [*kinds]:
            if head not in found[name]:
                self.left_out.append(f"the {head} head")
                del kinds[head], self._heads[head]
        if not name.endswith("Model") and self._heads.pop("pooler", None) is not None:
            self.left_out.append("the pooler")
        return name

    def _prefix(self):
        if self._is_bert:
            return "bert"
        return "vit" if self._trained.backbone.prefix_tokens == 1 else "deit"

    def _sizes(self):
        backbone = self._trained.backbone
        config = {
            "model_type": self._prefix(),
            "hidden_size": backbone.hidden_dim,
            "num_hidden_layers": backbone.num_layers,
            "num_attention_heads": backbone.num_heads,
            "intermediate_size": backbone.intermediate_dim,
            "hidden_act": _ACTIVATIONS.get(backbone.activation, backbone.activation),
            "layer_norm_eps": backbone.layer_norm_epsilon,
            "hidden_dropout_prob": backbone.dropout,
            "attention_probs_dropout_prob": backbone.blocks[0].attention_dropout,
        }
        if self._is_bert:
            vocabulary = self._trained.vocabulary or []
            return config | {
                "vocab_size": backbone.vocabulary_size,
                "max_position_embeddings": backbone.max_sequence_length,
                "type_vocab_size": backbone.num_segments or 2,  # zeros if there are none
                "pad_token_id": vocabulary.index(PAD) if PAD in vocabulary else 0,
                "is_decoder": False,
            }
        return config | {
            "image_size": backbone.image_size,
            "patch_size": backbone.patch_size,
            "num_channels": 3,
            "qkv_bias": True,
        }

    def _full_config(self):
        config: dict[str, Any] = {"architectures": [self.architecture], **self._config}
        config["dtype"] = config["torch_dtype"] = "float32"  # the latter for transformers 4
        if self._is_bert:
            mlm = self._heads.get("mlm")
            config["tie_word_embeddings"] = mlm is None or mlm.tied
        classifiers = [self._heads[name] for name in ("text", "image") if name in self._heads]
        if classifiers:
            count = classifiers[0].num_classes
            names = self._trained.classes or [f"LABEL_{number}" for number in range(count)]
            config["id2label"] = {str(number): name for number, name in enumerate(names)}
            config["label2id"] = {name: number for number, name in enumerate(names)}
        if "text" in self._heads:
            config["problem_type"] = "single_label_classification"
        return config

    def tensors(self):
        """The tensors to store: dict of a name of transformers to a float32 array."""
        backbone = self._trained.backbone
        found = {v.path: np.asarray(v.value, np.float32) for v in backbone.variables}
        if not self._is_bert:  # a ViT has no such factor; it applies to the positions alone
            found["image_embedding/position_embedding"] *= np.float32(backbone.embedding_scale)
        for name, head in self._heads.items():
            for variable in head.weights:
                rest = variable.path.split("/", 1)[1]
                found[f"{_PARTS.get(name, name)}/{rest}"] = np.asarray(variable.value, np.float32)
        # Tensors that the backbone lacks are zeros.
        for tensor in self._tensors:
            if tensor.ours not in found:
                found[tensor.ours] = np.zeros(tensor.shape, np.float32)
        values = layout.read(found, self._tensors)
        if "mlm" in self._heads and not self._heads["mlm"].tied:  # the bias has two names then
            values["cls.predictions.decoder.bias"] = values["cls.predictions.bias"].copy()
        if self.architecture.endswith("Model"):
            prefix = f"{self._prefix()}."
            return {name.removeprefix(prefix): value for name, value in values.items()}
        return values

    def _write_tokenizer(self, folder):
        trained = self._trained
        if trained.vocabulary is None:
            return
        text = "".join(f"{token}\n" for token in trained.vocabulary)
        with open(os.path.join(folder, "vocab.txt"), "w", encoding="utf-8") as file:
            file.write(text)
        special = dict(zip(("pad", "unk", "cls", "sep", "mask"), (PAD, UNKNOWN, CLS, SEP, MASK)))  # noqa: B905
        content = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": trained.lower_case,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": trained.backbone.max_sequence_length,
            **{f"{name}_token": token for name, token in special.items()},
        }
        self._json(folder, "tokenizer_config.json", content)

    def _processor(self):
        """The config of an image processor that sees what `image_decoding.central_crop` does.

        ViT's and DeiT's own processors squash a picture into a square; CLIP's keeps its aspect.
        """
        backbone = self._trained.backbone
        size = backbone.image_size
        return {
            "image_processor_type": "CLIPImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": round(size / self._trained.central_crop)},
            "resample": _BILINEAR,
            "do_center_crop": True,
            "crop_size": {"height": size, "width": size},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(backbone.image_mean),
            "image_std": list(backbone.image_std),
        }


def _base(kind):
    """The kind of a head, as in the tables of architectures."""
    kind = kind["kind"] if isinstance(kind, dict) else kind
    return "bert" if kind == "bert_untied" else kind


def _described(head):
    kind = _base(head.kind)
    return "the paper's" if kind == "paper" else f"of the kind {kind}"
