"""A ViT's weights in our backbone: its blocks are the same, the rest folds into the patches."""

import keras
import numpy as np

from keras_vitbert.importing import google, hugging_face, keras_hub_presets, sources
from keras_vitbert.importing.activations import ACTIVATIONS, tanh_gelu
from keras_vitbert.importing.keras_hub_backbones import build_vit
from keras_vitbert.model.backbone import ViTBertBackbone
from pipelines.command_line import UserError, say


def import_backbone(source):
    """Loads the backbone of a ViT of another project.

    Args:
        source: `sources.Source`: a Hugging Face `ViTForImageClassification` or `ViTModel`, a
            keras-hub preset of a `ViTBackbone`, or a `.npz` of Google's ViT.

    Returns:
        `ViTBertBackbone` without a text side.

    Raises:
        UserError: it is another model, its activation is not GELU, or it is damaged.
    """
    label = source.label
    is_bert = source.config.get("model_type") == "bert" or source.kind == sources.GOOGLE_BERT
    if is_bert or source.config.get("class_name") == "BertBackbone":
        raise UserError(
            f"{label}: is a BERT, which normalises after its blocks; it cannot be loaded into an "
            "encoder that normalises before them: give it as --text_teacher"
        )
    if source.kind == sources.PRESET:
        return build_backbone(*keras_hub_presets.load_vit(source))
    if source.kind == sources.HUGGING_FACE:
        weights = hugging_face.read_vit(source, ("ViTForImageClassification", "ViTModel"))
    else:
        weights = google.read_vit(source)
    name = weights.config["hidden_act"]
    if ACTIVATIONS[name] not in (keras.activations.gelu, tanh_gelu):
        raise UserError(f"{label}: its activation is {name}, ours GELU: give it as --image_teacher")
    if ACTIVATIONS[name] is tanh_gelu:
        say(f"{label}: approximates GELU by tanh; ours is exact, so its outputs differ slightly")
    return build_backbone(build_vit(weights), weights.scale, weights.offset)


def build_backbone(vit, scale, offset):
    """Builds our backbone with the weights of a ViT.

    A ViT takes images in [0, 1] as `scale * image + offset`, and adds a bias to its patches; ours
    scales to [-1, 1] and adds none. Both are linear before the positions are added, so they are
    folded, in float64, into the projection and the positions of the patches.

    Args:
        vit: `keras_hub.models.ViTBackbone` of square images and patches.
        scale, offset: floats, or arrays of three, one a channel.

    Returns:
        `ViTBertBackbone` without a text side.
    """
    embedding, encoder = vit.layers[1:3]
    backbone = ViTBertBackbone(
        num_layers=vit.num_layers,
        num_heads=vit.num_heads,
        hidden_dim=vit.hidden_dim,
        intermediate_dim=vit.mlp_dim,
        image_size=vit.image_shape[0],
        patch_size=vit.patch_size[0],
        vocabulary_size=None,
        layer_norm_epsilon=encoder.layer_norm.epsilon,
        name="backbone",
    )
    layers = [(backbone.final_norm, encoder.layer_norm)]
    for ours, theirs in zip(backbone.blocks, encoder.encoder_layers, strict=True):
        layers += [
            (ours._self_attention_layer_norm, theirs.layer_norm_1),
            (ours._feedforward_layer_norm, theirs.layer_norm_2),
            (ours._feedforward_intermediate_dense, theirs.mlp.dense_1),
            (ours._feedforward_output_dense, theirs.mlp.dense_2),
        ]
        for name in ("query_dense", "key_dense", "value_dense", "output_dense"):
            layers.append((getattr(ours._self_attention_layer, name), getattr(theirs.mha, name)))
    for ours, theirs in layers:
        # An attention may lack its biases; ours begin as zeros.
        for variable, value in zip(ours.weights, theirs.weights, strict=False):
            variable.assign(value)
    _fold(embedding, scale, offset, backbone.image_embedding)
    return backbone


def _fold(embedding, scale, offset, ours):
    """Sets our image embedding from a ViT's, its scale and its offset."""
    kernel, bias, positions = (
        keras.ops.convert_to_numpy(variable).astype(np.float64)
        for variable in (*embedding.patch_embedding.weights, *embedding.position_embedding.weights)
    )
    scale, offset = (np.reshape(x, (-1, 1)) for x in (scale, offset))  # beside (P, P, 3, D)
    # Of u = 2 x - 1 a ViT sees scale * x + offset = scale / 2 * u + scale / 2 + offset.
    bias += (kernel * (scale / 2 + offset)).sum(axis=(0, 1, 2))
    projection = ours.patch_projection.kernel
    projection.assign(np.reshape(kernel * (scale / 2), projection.shape))
    ours.position_embedding.assign(np.vstack([positions[:1], positions[1:] + bias])[None])
    ours.class_token.assign(embedding.class_token)
