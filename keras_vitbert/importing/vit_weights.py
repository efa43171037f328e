"""A ViT or DeiT in one form: Hugging Face's config and names, everything accounted for."""

import dataclasses
from typing import Any

import numpy as np

from keras_vitbert.importing.configs import checked_config, require
from keras_vitbert.importing.tensors import account
from pipelines.command_line import UserError

IMAGE_ARCHITECTURES = (
    "ViTForImageClassification",
    "DeiTForImageClassification",
    "DeiTForImageClassificationWithTeacher",
)
# The layers on top of the trunk's first tokens; their answers are averaged.
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
    """A ViT's encoder, and its classifier where there is one.

    Attributes:
        config: dict, the keys of Hugging Face's config.json that say what it computes, and
            `model_type` and `architectures`. Images and patches are square; `qkv_bias` is true,
            as biases that are missing are zeros in `tensors`.
        tensors: dict of name to float32 array, beginning with `vit.` (or `deit.`) or the name of a
            head; `pre_logits.weight` and `.bias` are those of Google's layer before the classifier.
        mean, std: tuples of three floats, by which images in [0, 1] are normalised.
        labels: list of str, the names of the classes in order, or None.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    labels: list[str] | None = None

    @property
    def heads(self):
        """The names of the classifiers; their logits are averaged."""
        return HEADS[self.config["architectures"][0]]

    @property
    def num_classes(self):
        """How many classes are told apart; None without a classifier."""
        return len(self.tensors[f"{self.heads[0]}.weight"]) if self.heads else None

    @classmethod
    def checked(cls, config, tensors, mean, std, labels, label):
        """The same from what was read, or a line that tells what is wrong with it.

        Args:
            config: dict, the content of config.json, with `model_type` and `architectures`.
            tensors: dict of name to array, the trunk's names beginning with `vit.` or `deit.`.
            mean, std, labels: see the class.
            label: str, where it comes from.

        Raises:
            UserError: see `tensors.account`; or it computes something else than a ViT.
        """
        sizes = {}
        for key in ("image_size", "patch_size"):
            value = config.get(key, _DEFAULTS[key])
            is_square = isinstance(value, list) and len(set(value)) == 1
            sizes[key] = value[0] if is_square else value
        kept = checked_config({**config, **sizes}, _DEFAULTS, label)
        channels, image, patch = (kept[k] for k in ("num_channels", "image_size", "patch_size"))
        require(channels == 3, label, "num_channels", channels)
        require(image % patch == 0, label, "patch_size", patch, f"image_size is {image}")
        architecture = config["architectures"][0]
        trunk = config["model_type"]
        wanted = _shapes(kept, trunk, HEADS[architecture])
        if "pre_logits.weight" in tensors:
            hidden = len(tensors["pre_logits.weight"])
            wanted["pre_logits.weight"] = (hidden, kept["hidden_size"])
            wanted["pre_logits.bias"] = (hidden,)
            wanted["classifier.weight"] = (None, hidden)
        if not kept["qkv_bias"]:
            tensors = {**tensors, **_zero_biases(wanted)}
        ignored = rf"{trunk}\.pooler\..*|{trunk}\.embeddings\.mask_token"
        if not HEADS[architecture]:
            ignored += r"|classifier\..*|pre_logits\..*"
        tensors = account(tensors, wanted, ignored, label, architecture)
        counts = {tensors[name].shape[0] for name in tensors if name.endswith("classifier.weight")}
        told = counts if labels is None else {len(labels)}
        if HEADS[architecture] and (counts != told or len(counts) > 1):
            raise UserError(
                f"{label}: its id2label names {' and '.join(map(str, sorted(told)))} classes, its "
                f"classifiers {' and '.join(map(str, sorted(counts)))}; bring the config that "
                "belongs to it"
            )
        kept |= {"model_type": trunk, "architectures": [architecture], "qkv_bias": True}
        return cls(kept, tensors, tuple(mean), tuple(std), labels)


def _shapes(config, trunk, heads):
    """Name to shape."""
    hidden, inner, patch = (
        config[key] for key in ("hidden_size", "intermediate_size", "patch_size")
    )
    special = 2 if trunk == "deit" else 1  # tokens besides the patches
    positions = (config["image_size"] // patch) ** 2 + special
    embeddings = f"{trunk}.embeddings"
    shapes = {f"{embeddings}.cls_token": (1, 1, hidden)}
    if trunk == "deit":
        shapes[f"{embeddings}.distillation_token"] = (1, 1, hidden)
    shapes |= {
        f"{embeddings}.patch_embeddings.projection.weight": (hidden, 3, patch, patch),
        f"{embeddings}.patch_embeddings.projection.bias": (hidden,),
        f"{embeddings}.position_embeddings": (1, positions, hidden),
    }

    def norm(name):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (hidden,)

    def dense(name, outputs, inputs):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (outputs, inputs), (outputs,)

    for index in range(config["num_hidden_layers"]):
        layer = f"{trunk}.encoder.layer.{index}"
        for part in ("query", "key", "value"):
            dense(f"{layer}.attention.attention.{part}", hidden, hidden)
        dense(f"{layer}.attention.output.dense", hidden, hidden)
        norm(f"{layer}.layernorm_before")
        norm(f"{layer}.layernorm_after")
        dense(f"{layer}.intermediate.dense", inner, hidden)
        dense(f"{layer}.output.dense", hidden, inner)
    norm(f"{trunk}.layernorm")
    for head in heads:
        dense(head, None, hidden)
    return shapes


def _zero_biases(wanted):
    """Biases of zeros for an attention that has none."""
    return {
        name: np.zeros(shape, np.float32)
        for name, shape in wanted.items()
        if ".attention.attention." in name and name.endswith(".bias")
    }
