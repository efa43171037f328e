"""A ViT or DeiT in the common form: config and tensor names of Hugging Face's transformers."""

import dataclasses
import re
from typing import Any

import numpy as np

from keras_vitbert.importing.configs import checked_config, require
from keras_vitbert.importing.tensors import account, block_weights, layer_shapes

IMAGE_ARCHITECTURES = (
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
)
# The classifiers on the backbone's first tokens, one a token; their logits are averaged.
HEADS = {
    "ViTModel": (),
    "ViTForImageClassification": ("classifier",),
    "DeiTForImageClassification": ("classifier",),
    "DeiTForImageClassificationWithTeacher": ("cls_classifier", "distillation_classifier"),
}

_DEFAULTS = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
    "num_channels": 3,
    "qkv_bias": True,
}


@dataclasses.dataclass(frozen=True)
class VitWeights:
    """A ViT's encoder, and its classifier if it has one.

    Attributes:
        config: dict, the keys of Hugging Face's config.json that say what it computes, and
            `model_type` and `architectures`. Images and patches are square; `qkv_bias` is true:
            `tensors` holds zeros for missing biases.
        tensors: dict of name to float32 array. Names begin with `vit.`, `deit.` or a head's name;
            `pre_logits` is Google's layer before the classifier.
        scale, offset: float64 arrays `(3,)`; the network takes `image * scale + offset` of images
            in [0, 1].
        labels: list of str, the names of the classes in order, or None.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    scale: np.ndarray
    offset: np.ndarray
    labels: list[str] | None = None

    @property
    def heads(self):
        """The names of the classifiers; their logits are averaged."""
        return HEADS[self.config["architectures"][0]]

    @classmethod
    def checked(cls, config, tensors, mean, std, labels, label):
        """Checks a model that was read.

        Args:
            config: dict, the content of config.json, with `model_type` and `architectures`.
            tensors: dict of name to array, the backbone's names beginning with `vit.` or `deit.`.
            mean, std: three floats each, which normalise images in [0, 1].
            labels: see the class.
            label: str, where it comes from.

        Returns:
            `VitWeights`.

        Raises:
            UserError: the tensors do not match (`tensors.account`), or it is a variant of ViT.
        """
        sizes = {}
        for key in ("image_size", "patch_size"):
            value = config.get(key, _DEFAULTS[key])
            is_square = isinstance(value, list) and value and value == value[:1] * len(value)
            sizes[key] = value[0] if is_square else value
        kept = checked_config({**config, **sizes}, _DEFAULTS, label, tensors)
        channels, image, patch = (kept[k] for k in ("num_channels", "image_size", "patch_size"))
        require(channels == 3, label, "num_channels", channels)
        require(image % patch == 0, label, "patch_size", patch, f"image_size is {image}")
        architecture = config["architectures"][0]
        model_type = config["model_type"]
        classes = None if labels is None else len(labels)
        wanted = _shapes(kept, model_type, HEADS[architecture], classes)
        if "pre_logits.weight" in tensors:
            hidden = len(tensors["pre_logits.weight"])
            wanted |= layer_shapes({"pre_logits": (hidden, kept["hidden_size"])})
            wanted["classifier.weight"] = (None, hidden)
        if not kept["qkv_bias"]:
            biases = [name for name in wanted if re.search(r"\.attention\.\w+\.bias$", name)]
            tensors = {**tensors, **{name: np.zeros(wanted[name]) for name in biases}}
        ignored = rf"{model_type}\.pooler\..*|{model_type}\.embeddings\.mask_token"
        if not HEADS[architecture]:
            ignored += r"|classifier\..*|pre_logits\..*"
        tensors = account(tensors, wanted, ignored, label, architecture)
        kept |= {"model_type": model_type, "architectures": [architecture], "qkv_bias": True}
        mean, std = np.array(mean), np.array(std)
        return cls(kept, tensors, 1 / std, -mean / std, labels)


def _shapes(config, model_type, heads, classes):
    """Name to shape of the tensors of an encoder and its heads."""
    hidden, patch = config["hidden_size"], config["patch_size"]
    special = ["cls_token", "distillation_token"][: 2 if model_type == "deit" else 1]
    positions = (config["image_size"] // patch) ** 2 + len(special)
    embeddings = f"{model_type}.embeddings"
    weights = {
        f"{embeddings}.patch_embeddings.projection": (hidden, 3, patch, patch),
        **block_weights(config, model_type, "attention", ("layernorm_before", "layernorm_after")),
        f"{model_type}.layernorm": (hidden,),
        **dict.fromkeys(heads, (classes, hidden)),
    }
    return {
        **{f"{embeddings}.{token}": (1, 1, hidden) for token in special},
        f"{embeddings}.position_embeddings": (1, positions, hidden),
        **layer_shapes(weights),
    }
