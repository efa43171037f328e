"""keras-hub's backbones with imported weights, by keras-hub's own converters.

The converters read a folder with config.json and model.safetensors, so one is written for them.
They ignore the activation and the epsilon of LayerNorm, which are set afterwards.
"""

import json
import os
import tempfile

import keras
import keras_hub
import numpy as np
import safetensors.numpy

from keras_vitbert.importing.activations import ACTIVATIONS

_CLASSES = {
    "bert": keras_hub.models.BertBackbone,
    "vit": keras_hub.models.ViTBackbone,
    "deit": keras_hub.models.DeiTBackbone,
}


def build_bert(weights, dtype=None):
    """A BERT with imported weights.

    Args:
        weights: `BertWeights`.
        dtype: a Keras dtype policy.

    Returns:
        `keras_hub.models.BertBackbone`.
    """
    config, tensors = weights.config, weights.tensors
    if "bert.pooler.dense.weight" not in tensors:  # the converter requires it
        hidden = config["hidden_size"]
        tensors = {
            **tensors,
            "bert.pooler.dense.weight": np.zeros((hidden, hidden), np.float32),
            "bert.pooler.dense.bias": np.zeros(hidden, np.float32),
        }
    return _build("bert", config, tensors, dtype, num_segments=config["type_vocab_size"])


def build_vit(weights, dtype=None):
    """A ViT or DeiT with imported weights.

    Args:
        weights: `VitWeights`.
        dtype: a Keras dtype policy.

    Returns:
        `keras_hub.models.ViTBackbone` or `DeiTBackbone`.
    """
    return _build(weights.config["model_type"], weights.config, weights.tensors, dtype)


def _build(model_type, config, tensors, dtype, **options):
    config = {
        **config,
        "model_type": model_type,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    backbone_tensors = {
        name: np.ascontiguousarray(value)
        for name, value in tensors.items()
        if name.startswith(f"{model_type}.")
    }
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "config.json"), "w") as file:
            json.dump(config, file)
        safetensors.numpy.save_file(backbone_tensors, os.path.join(folder, "model.safetensors"))
        backbone = _CLASSES[model_type].from_preset(folder, dtype=dtype, **options)
    _set_activation_and_epsilon(backbone, config)
    backbone.trainable = False
    return backbone


def _set_activation_and_epsilon(backbone, config):
    hidden_layers = norms = 0
    for layer in backbone._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.LayerNormalization):
            layer.epsilon = config["layer_norm_eps"]
            norms += 1
        is_dense = isinstance(layer, keras.layers.Dense)
        # The other dense layers are linear, except for BERT's pooler.
        if is_dense and layer.activation not in (keras.activations.linear, keras.activations.tanh):
            layer.activation = ACTIVATIONS[config["hidden_act"]]
            hidden_layers += 1
    blocks = config["num_hidden_layers"]
    if (hidden_layers, norms) != (blocks, 2 * blocks + 1):
        raise RuntimeError(
            f"{type(backbone).__name__} of {blocks} blocks has {hidden_layers} hidden layers and "
            f"{norms} LayerNorms: keras-hub has changed"
        )
