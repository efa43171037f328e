"""BERTs and ViTs of keras-hub, from the folders of their presets."""

import os

import keras
import keras_hub
import numpy as np

from keras_vitbert.trained import weight_names
from keras_vitbert.trained.architectures import HALF, Imported, require, square
from keras_vitbert.trained.finding import Source, read_json


def read(source: Source) -> Imported:
    """Reads a preset of a `BertBackbone`, `ViTBackbone` or `DeiTBackbone`, and its task's head."""
    task = read_json(os.path.join(source.path, "task.json"))
    config = task or source.config
    held = keras.saving.get_registered_object(str(config.get("registered_name")))
    if held not in _READERS:
        known = ", ".join(cls.__name__ for cls in _READERS)
        raise ValueError(f"it is the preset of a {config.get('class_name')}; known are {known}")
    model = held.from_preset(source.path)
    if task and not os.path.exists(os.path.join(source.path, "task.weights.h5")):
        raise ValueError("task.weights.h5 is missing")  # the head would be a random one
    return _READERS[held](source, model, getattr(model, "backbone", model))


def _read_bert(source, model, backbone):
    arguments = {
        **_sizes(backbone, backbone.intermediate_dim),
        "vocabulary_size": backbone.vocabulary_size,
        "max_sequence_length": backbone.max_sequence_length,
        "num_segments": backbone.num_segments,
        "dropout": backbone.dropout,
        "activation": "gelu_tanh",  # keras-hub approximates GELU by tanh
        "layer_norm_epsilon": 1e-12,
    }
    tokenizer = getattr(model.preprocessor, "tokenizer", None) if model is not backbone else None
    if tokenizer is None and os.path.exists(os.path.join(source.path, "tokenizer.json")):
        tokenizer = keras_hub.tokenizers.BertTokenizer.from_preset(source.path)
    if not hasattr(tokenizer, "get_vocabulary"):
        raise ValueError("it has no tokenizer with a vocabulary; save it with its preprocessor")
    architecture, kinds = "BertModel", {}
    if isinstance(model, keras_hub.models.BertMaskedLM):
        architecture, head = "BertForMaskedLM", model.masked_lm_head
        exact = keras.activations.get("gelu")
        kinds["mlm"] = {  # unlike the blocks
            "kind": "bert",
            "activation": "gelu" if head.intermediate_activation is exact else "gelu_tanh",
            "layer_norm_epsilon": head.layer_norm_epsilon,
        }
    elif isinstance(model, keras_hub.models.BertTextClassifier):
        architecture = "BertForSequenceClassification"
    return Imported(
        *(architecture, arguments, _tensors(model), weight_names.KERAS_HUB_BERT),
        kinds=kinds,
        vocabulary=list(tokenizer.get_vocabulary()),
        lower_case=tokenizer.lowercase,
    )


def _read_vit(source, model, backbone):
    is_deit = isinstance(backbone, keras_hub.models.DeiTBackbone)
    rules = weight_names.KERAS_HUB_DEIT if is_deit else weight_names.KERAS_HUB_VIT
    pooling = getattr(model, "pooling", "token")
    require(pooling == "token", "pooling", pooling)
    preprocessor = getattr(model, "preprocessor", None)
    converter = getattr(preprocessor, "image_converter", None)
    if converter is None and os.path.exists(os.path.join(source.path, "image_converter.json")):
        converter = keras_hub.layers.ImageConverter.from_preset(source.path)
    mean, std = _mean_and_std(converter, model, backbone)
    arguments = {
        **_sizes(backbone, backbone.intermediate_dim if is_deit else backbone.mlp_dim),
        "image_size": square("image_size", backbone.image_shape[:2]),
        "patch_size": square("patch_size", backbone.patch_size),
        "dropout": backbone.dropout_rate,
        "activation": "gelu",
        "layer_norm_epsilon": backbone.layer_norm_epsilon,
        "image_mean": mean,
        "image_std": std,
    }
    architecture = "Model" if model is backbone else "ForImageClassification"
    return Imported(
        *(("DeiT" if is_deit else "ViT") + architecture, arguments, _tensors(model), rules),
        # The output projection of attention has no bias then, either.
        lacking="(?!)" if backbone.use_mha_bias else r"/self_attention_layer/\w+/bias$",
        labels=getattr(preprocessor, "class_names", None),
    )


_READERS = {
    keras_hub.models.BertBackbone: _read_bert,
    keras_hub.models.BertMaskedLM: _read_bert,
    keras_hub.models.BertTextClassifier: _read_bert,
    keras_hub.models.ViTBackbone: _read_vit,
    keras_hub.models.ViTImageClassifier: _read_vit,
    keras_hub.models.DeiTBackbone: _read_vit,
    keras_hub.models.DeiTImageClassifier: _read_vit,
}


def _sizes(backbone, intermediate_dim):
    names = ("num_layers", "num_heads", "hidden_dim")
    return {name: getattr(backbone, name) for name in names} | {
        "intermediate_dim": intermediate_dim
    }


def _tensors(model):
    return {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}


def _mean_and_std(converter, model, backbone):
    """The mean and std that normalise images in [0, 1].

    The converter of a preset scales and shifts values in 0 to 255. A task without a converter takes
    images in [0, 1] as they are; a backbone alone takes those of ViT, in [-1, 1].
    """
    if converter is None:
        return (HALF, HALF) if model is backbone else ((0.0,) * 3, (1.0,) * 3)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    std = 1 / np.broadcast_to(255 * np.asarray(scale, np.float64), 3)
    mean = -np.asarray(offset, np.float64) * std
    return tuple(mean.tolist()), tuple(std.tolist())
