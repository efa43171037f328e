"""A ViT's weights in our backbone: its blocks are the same, the rest folds into the patches."""

import numpy as np

from keras_vitbert.importing import google, hugging_face, keras_hub_presets, sources
from keras_vitbert.importing.activations import ACTIVATIONS, exact_gelu, tanh_gelu
from keras_vitbert.model.backbone import ViTBertBackbone
from pipelines.command_line import UserError, say

# The layers of a block: our name to Hugging Face's.
_LAYERS = {
    "self_attention_layer/query": "attention.attention.query",
    "self_attention_layer/key": "attention.attention.key",
    "self_attention_layer/value": "attention.attention.value",
    "self_attention_layer/attention_output": "attention.output.dense",
    "feedforward_intermediate_dense": "intermediate.dense",
    "feedforward_output_dense": "output.dense",
    "self_attention_layer_norm": "layernorm_before",
    "feedforward_layer_norm": "layernorm_after",
}


def import_backbone(source):
    """Loads the backbone of a ViT of another project.

    Args:
        source: `sources.Source`: a Hugging Face `ViTForImageClassification` or `ViTModel`, a
            keras-hub preset of a `ViTBackbone`, or a `.npz` of Google's ViT.

    Returns:
        `ViTBertBackbone` without a text side.

    Raises:
        UserError: it is another model, or damaged.
    """
    return build_backbone(read_vit(source), source.label)


def read_vit(source):
    """Reads the weights of a ViT of another project.

    Args:
        source: `sources.Source`, see `import_backbone`.

    Returns:
        `VitWeights`.

    Raises:
        UserError: it is another model, or damaged.
    """
    is_bert = source.config.get("model_type") == "bert" or source.kind == sources.GOOGLE_BERT
    if is_bert or source.config.get("class_name") == "BertBackbone":
        raise UserError(
            f"{source.label}: is a BERT, which normalises after its blocks; it cannot be loaded "
            "into an encoder that normalises before them: give it as --text_teacher"
        )
    if source.kind == sources.HUGGING_FACE:
        return hugging_face.read_vit(source, ("ViTForImageClassification", "ViTModel"))
    if source.kind == sources.PRESET:
        return keras_hub_presets.read_vit(source)
    if source.kind == sources.GOOGLE_VIT:
        return google.read_vit(source)
    raise UserError(
        f"{source.label}: is {source.kind}; give a ViT of Hugging Face, keras-hub or Google"
    )


def build_backbone(weights, label):
    """Builds our backbone with the weights of a ViT's encoder.

    A ViT normalises images by a mean and a standard deviation a channel, and adds a bias to its
    patches; ours scales to [-1, 1] and adds none. Both are linear before the positions are added,
    so they are folded, in float64, into the projection and the positions of the patches.

    Args:
        weights: `keras_vitbert.importing.vit_weights.VitWeights`.
        label: str, the model's name in messages.

    Returns:
        `ViTBertBackbone` without a text side.

    Raises:
        UserError: it has two class tokens (DeiT), or another activation than GELU.
    """
    config = weights.config
    if config["model_type"] != "vit":
        raise UserError(
            f"{label}: is a DeiT, which has two class tokens; ours has one: give it as "
            "--image_teacher"
        )
    activation = ACTIVATIONS[config["hidden_act"]]
    if activation not in (exact_gelu, tanh_gelu):
        raise UserError(
            f"{label}: its activation is {config['hidden_act']}, ours GELU: give it as "
            "--image_teacher"
        )
    if activation is tanh_gelu:
        say(f"{label}: approximates GELU by tanh; ours is exact, so its outputs differ slightly")
    backbone = ViTBertBackbone(
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        hidden_dim=config["hidden_size"],
        intermediate_dim=config["intermediate_size"],
        image_size=config["image_size"],
        patch_size=config["patch_size"],
        vocabulary_size=None,
        layer_norm_epsilon=config["layer_norm_eps"],
        name="backbone",
    )
    values = _values(weights)
    for variable in backbone.weights:
        variable.assign(np.reshape(values.pop(variable.path), variable.shape))
    assert not values, list(values)
    return backbone


def _values(weights):
    """Path of our variables to arrays with the same entries in the same order."""
    tensors = {name.removeprefix("vit."): value for name, value in weights.tensors.items()}
    values = _embedding(tensors, weights.mean, weights.std)
    layers = {"final_norm": "layernorm"}
    for index in range(weights.config["num_hidden_layers"]):
        for ours, theirs in _LAYERS.items():
            layers[f"block_{index}/{ours}"] = f"encoder.layer.{index}.{theirs}"
    for ours, theirs in layers.items():
        weight, bias = tensors[f"{theirs}.weight"], tensors[f"{theirs}.bias"]
        names = ("gamma", "beta") if weight.ndim == 1 else ("kernel", "bias")
        # Dense weights are (outputs, inputs) there; the heads and their size are one axis.
        values |= {f"{ours}/{names[0]}": weight.T, f"{ours}/{names[1]}": bias}
    return values


def _embedding(tensors, mean, std):
    mean, std = np.asarray(mean, np.float64), np.asarray(std, np.float64)
    kernel = tensors["embeddings.patch_embeddings.projection.weight"].astype(np.float64)
    kernel = kernel.transpose(2, 3, 1, 0)  # (P, P, 3, D)
    # Of u = 2 x - 1 a ViT sees (x - mean) / std = u / (2 std) + (0.5 - mean) / std.
    projection = kernel / (2 * std)[:, None]
    bias = tensors["embeddings.patch_embeddings.projection.bias"].astype(np.float64)
    bias = bias + np.einsum("pqcd,c->d", kernel, (0.5 - mean) / std)
    positions = tensors["embeddings.position_embeddings"].astype(np.float64)
    positions = np.concatenate([positions[:, :1], positions[:, 1:] + bias], axis=1)
    return {
        "image_embedding/class_token": tensors["embeddings.cls_token"],
        "image_embedding/position_embedding": positions,
        "image_embedding/patch_projection/kernel": projection,
    }
