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

from keras_vitbert.model.heads import BertMaskedLMHead
from keras_vitbert.trained import weight_names
from keras_vitbert.trained.architectures import ARCHITECTURES, BERT_CONFIG, VIT_CONFIG
from keras_vitbert.trained.hugging_face import rules_of, type_of
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.text import wordpiece

_BILINEAR = 2  # Pillow's constant
_PATHS = {"text": "head", "image": "image_head", "mlm": "mlm_head", "nsp": "nsp_head"}


class HuggingFaceModel:
    """A trained model in the form of transformers.

    Raises:
        ValueError: transformers have no such architecture.
    """

    architecture: str  # such as `BertForPreTraining`
    left_out: list[str]  # what it cannot hold, in words

    def __init__(self, trained: TrainedModel):
        self._trained, backbone = trained, trained.backbone
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
        self.left_out = [] if sides[other] is None else [f"the {other} side"]
        self._type = "bert" if self._is_bert else "vit" if backbone.prefix_tokens == 1 else "deit"
        heads = {n: h for n, h in trained.heads.items() if (n != "image") == self._is_bert}
        nsp, pooler = (getattr(trained.network, name, None) for name in ("nsp_head", "pooler"))
        if self._is_bert and nsp is not None:
            heads["nsp"] = nsp
        # The architecture that has the most of the heads.
        kinds = {name: _base(head.kind) for name, head in heads.items() if self._fits(head)}
        fitting = {
            name: wanted
            for name, wanted in ARCHITECTURES.items()
            if type_of(name) == self._type and wanted.items() <= kinds.items()
        }
        self.architecture = max(fitting, key=lambda name: len(fitting[name]))
        self._heads = {name: heads.pop(name) for name in fitting[self.architecture]}
        if pooler is not None and self.architecture.endswith("Model"):
            self._heads["pooler"] = pooler
        elif pooler is not None:
            self.left_out.append("the pooler")
        self.left_out += [f"the {name} head ({_base(head.kind)})" for name, head in heads.items()]

    def _fits(self, head: Any) -> bool:
        """Whether transformers have this kind of head."""
        if isinstance(head, BertMaskedLMHead):
            names = ("activation", "layer_norm_epsilon")
            return all(getattr(head, n) == getattr(self._trained.backbone, n) for n in names)
        return head.kind in (("bert",) if self._is_bert else ("vit", "deit"))

    def write(self, folder: str) -> None:
        """Writes all files but the model card into an empty folder."""
        path = os.path.join(folder, "model.safetensors")
        safetensors.numpy.save_file(self._tensors(), path, {"format": "pt"})
        files = {"config.json": self._config()}
        if not self._is_bert:
            files["preprocessor_config.json"] = self._processor()
        elif self._trained.vocabulary is not None:
            files["tokenizer_config.json"] = self._tokenizer()
            path = os.path.join(folder, "vocab.txt")
            wordpiece.write_vocabulary(path, self._trained.vocabulary)
        for name, content in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def _tensors(self) -> dict[str, np.ndarray]:
        """The tensors to store, by the names of transformers."""
        backbone, width = self._trained.backbone, self._trained.backbone.hidden_dim
        other = "image_embedding/" if self._is_bert else "text_embedding/"
        variables = {v.path: v for v in backbone.weights if not v.path.startswith(other)}
        for name, head in self._heads.items():
            prefix = _PATHS.get(name, name)
            variables |= {f"{prefix}/{v.path.split('/', 1)[1]}": v for v in head.weights}
        values = {path: np.asarray(v.value, np.float32) for path, v in variables.items()}
        # What the backbone lacks is 0. A ViT has no factor of its positions.
        if self._is_bert and not backbone.num_segments:
            values["text_embedding/segment_embedding/embeddings"] = np.zeros((2, width), np.float32)
        if not self._is_bert:
            values["image_embedding/position_embedding"] *= np.float32(backbone.embedding_scale)
            values.setdefault("image_embedding/patch_projection/bias", np.zeros(width, np.float32))
        tensors = weight_names.name_tensors(values, rules_of(self.architecture))
        if "cls.predictions.decoder.weight" in tensors:  # the bias has two names then
            tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()
        if self.architecture.endswith("Model"):
            return {name.removeprefix(f"{self._type}."): value for name, value in tensors.items()}
        return tensors

    def _config(self) -> dict[str, Any]:
        trained, backbone = self._trained, self._trained.backbone
        table = BERT_CONFIG if self._is_bert else VIT_CONFIG
        config: dict[str, Any] = {
            "architectures": [self.architecture],
            "model_type": self._type,
            **{theirs: getattr(backbone, ours) for ours, (theirs, _) in table.items()},
            "attention_probs_dropout_prob": backbone.blocks[0].attention_dropout,
            "dtype": "float32",
            "torch_dtype": "float32",  # for transformers 4
        }
        if backbone.activation == "gelu_tanh":  # other activations have the same names
            config["hidden_act"] = "gelu_pytorch_tanh"
        if self._is_bert:
            vocabulary, mlm = trained.vocabulary or [wordpiece.PAD], self._heads.get("mlm")
            config |= {
                "type_vocab_size": backbone.num_segments or 2,
                "pad_token_id": vocabulary.index(wordpiece.PAD),
                "is_decoder": False,
                "tie_word_embeddings": mlm is None or mlm.tied,
            }
        else:
            config |= {"num_channels": 3, "qkv_bias": True}
        for name in self._heads.keys() & {"text", "image"}:
            count = self._heads[name].num_classes
            names = trained.classes or [f"LABEL_{number}" for number in range(count)]
            config["id2label"] = {str(number): name for number, name in enumerate(names)}
            config["label2id"] = {name: number for number, name in enumerate(names)}
        if "text" in self._heads:
            config["problem_type"] = "single_label_classification"
        return config

    def _tokenizer(self) -> dict[str, Any]:
        return {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self._trained.lower_case,
            "strip_accents": None,
            "tokenize_chinese_chars": True,
            "model_max_length": self._trained.backbone.max_sequence_length,
            "pad_token": wordpiece.PAD,
            "unk_token": wordpiece.UNKNOWN,
            "cls_token": wordpiece.CLS,
            "sep_token": wordpiece.SEP,
            "mask_token": wordpiece.MASK,
        }

    def _processor(self) -> dict[str, Any]:
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


def _base(kind: Any) -> str:
    """The kind of a head, as in the table of architectures."""
    kind = kind["kind"] if isinstance(kind, dict) else kind
    return "bert" if kind == "bert_untied" else kind
