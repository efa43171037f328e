"""BERTs and ViTs of Google's own checkpoints, and of keras-hub's presets.

Google's are BERT of google-research/bert and ViT of its vision_transformer. Both approximate GELU
by tanh: BERT in `modeling.gelu`, whatever its config calls it, and ViT by the default of
`flax.linen.gelu`. Their epsilons are 1e-12 and 1e-6. ViT's images are normalised to [-1, 1].
"""

import math
import os
import re
from typing import Any

import keras
import keras_hub
import numpy as np
import tensorflow as tf

from keras_vitbert.trained import weight_names
from keras_vitbert.trained.architectures import (
    BERT_CONFIG,
    HALF,
    Imported,
    arguments_of,
    require,
    square,
)
from keras_vitbert.trained.finding import Source, read_json
from keras_vitbert.trained.hugging_face import read_vocabulary

# Training state, which a checkpoint holds besides the weights.
_OPTIMIZER = r"global_step|good_steps|loss_scale|.*/adam_[mv]|.*AdamWeightDecay.*"


def read_google_bert(source: Source) -> Imported:
    """Reads a checkpoint, its path's prefix, with `bert_config.json` and `vocab.txt` beside it."""
    folder = os.path.dirname(source.path)
    config = read_json(os.path.join(folder, "bert_config.json"))
    if config is None:
        raise ValueError("there is no bert_config.json beside it")
    arguments = arguments_of({**config, "layer_norm_eps": 1e-12}, BERT_CONFIG)
    if config.get("hidden_act") == "gelu":
        arguments["activation"] = "gelu_tanh"
    reader = tf.train.load_checkpoint(source.path)
    names = [n for n in reader.get_variable_to_shape_map() if not re.fullmatch(_OPTIMIZER, n)]
    tensors = {name: reader.get_tensor(name) for name in names}
    for name in tensors.keys() & {"cls/seq_relationship/output_weights"}:
        tensors[name] = tensors[name].T  # unlike other kernels
    return Imported(
        *("BertForPreTraining", arguments, tensors, weight_names.GOOGLE_BERT),
        vocabulary=read_vocabulary(folder),
    )


def read_google_vit(source: Source) -> Imported:
    """Reads a `.npz` file."""
    with tf.io.gfile.GFile(source.path, "rb") as file:
        stored = np.load(file, allow_pickle=False)
        tensors = {name: np.asarray(value, np.float32) for name, value in stored.items()}
    patch, _, _, hidden = tensors["embedding/kernel"].shape
    block = "Transformer/encoderblock_0"
    positions = tensors["Transformer/posembed_input/pos_embedding"].shape[1]
    arguments = {
        "hidden_dim": hidden,
        "num_layers": sum(name.endswith("/LayerNorm_0/scale") for name in tensors),
        "num_heads": len(tensors[f"{block}/MultiHeadDotProductAttention_1/query/bias"]),
        "intermediate_dim": len(tensors[f"{block}/MlpBlock_3/Dense_0/bias"]),
        "activation": "gelu_tanh",
        "layer_norm_epsilon": 1e-6,
        "dropout": 0.0,
        "image_size": math.isqrt(positions - 1) * patch,  # beside the class token
        "patch_size": patch,
        "image_mean": HALF,
        "image_std": HALF,
    }
    return Imported("ViTForImageClassification", arguments, tensors, weight_names.GOOGLE_VIT)


def read_keras_hub(source: Source) -> Imported:
    """Reads a preset of a `BertBackbone`, `ViTBackbone` or `DeiTBackbone`, and its task's head."""
    task = read_json(os.path.join(source.path, "task.json"))
    config = task or source.config
    held: Any = keras.saving.get_registered_object(str(config.get("registered_name")))
    if held not in _KERAS_HUB:
        known = ", ".join(cls.__name__ for cls in _KERAS_HUB)
        raise ValueError(f"it is the preset of a {config.get('class_name')}; known are {known}")
    model = held.from_preset(source.path)
    if task and not os.path.exists(os.path.join(source.path, "task.weights.h5")):
        raise ValueError("task.weights.h5 is missing")  # the head would be a random one
    architecture = _KERAS_HUB[held]
    backbone, preprocessor = getattr(model, "backbone", model), getattr(model, "preprocessor", None)
    names = ("num_layers", "num_heads", "hidden_dim")
    arguments = {name: getattr(backbone, name) for name in names}
    tensors: dict[str, Any] = {
        weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights
    }
    if architecture.startswith("Bert"):
        return _keras_hub_bert(source, model, preprocessor, architecture, arguments, tensors)
    is_deit = architecture.startswith("DeiT")
    pooling = getattr(model, "pooling", "token")
    require(pooling == "token", "pooling", pooling)
    mean, std = _mean_and_std(source, model, preprocessor)
    arguments |= {
        "intermediate_dim": backbone.intermediate_dim if is_deit else backbone.mlp_dim,
        "image_size": square("image_size", backbone.image_shape[:2]),
        "patch_size": square("patch_size", backbone.patch_size),
        "dropout": backbone.dropout_rate,
        "activation": "gelu",
        "layer_norm_epsilon": backbone.layer_norm_epsilon,
        "image_mean": mean,
        "image_std": std,
    }
    rules = weight_names.KERAS_HUB_DEIT if is_deit else weight_names.KERAS_HUB_VIT
    # Without biases of attention, its output projection has none, either.
    without = weight_names.NOTHING if backbone.use_mha_bias else r"/self_attention_layer/\w+/bias$"
    return Imported(
        *(architecture, arguments, tensors, rules),
        lacking=without,
        labels=getattr(preprocessor, "class_names", None),
    )


def _keras_hub_bert(
    source: Source,
    model: Any,
    preprocessor: Any,
    architecture: str,
    arguments: dict[str, Any],
    tensors: dict[str, Any],
) -> Imported:
    backbone = getattr(model, "backbone", model)
    arguments |= {
        "intermediate_dim": backbone.intermediate_dim,
        "vocabulary_size": backbone.vocabulary_size,
        "max_sequence_length": backbone.max_sequence_length,
        "num_segments": backbone.num_segments,
        "dropout": backbone.dropout,
        "activation": "gelu_tanh",  # keras-hub approximates GELU by tanh
        "layer_norm_epsilon": 1e-12,
    }
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if tokenizer is None and os.path.exists(os.path.join(source.path, "tokenizer.json")):
        tokenizer = keras_hub.tokenizers.BertTokenizer.from_preset(source.path)
    if tokenizer is None:
        raise ValueError("it has no tokenizer with a vocabulary; save it with its preprocessor")
    kinds = {}
    if architecture == "BertForMaskedLM":
        head, exact = model.masked_lm_head, keras.activations.get("gelu")
        kinds["mlm"] = {  # unlike the blocks
            "kind": "bert",
            "activation": "gelu" if head.intermediate_activation is exact else "gelu_tanh",
            "layer_norm_epsilon": head.layer_norm_epsilon,
        }
    return Imported(
        *(architecture, arguments, tensors, weight_names.KERAS_HUB_BERT),
        kinds=kinds,
        vocabulary=list(tokenizer.get_vocabulary()),
        lower_case=tokenizer.lowercase,
    )


def _mean_and_std(source: Source, model: Any, preprocessor: Any) -> tuple[Any, Any]:
    """The mean and std that normalise images in [0, 1].

    The converter of a preset scales and shifts values in 0 to 255. A task without a converter takes
    images in [0, 1] as they are; a backbone alone takes those of ViT, in [-1, 1].
    """
    converter = getattr(preprocessor, "image_converter", None)
    if converter is None and os.path.exists(os.path.join(source.path, "image_converter.json")):
        converter = keras_hub.layers.ImageConverter.from_preset(source.path)
    if converter is None:
        is_task = isinstance(model, keras_hub.models.Task)
        return ((0.0,) * 3, (1.0,) * 3) if is_task else (HALF, HALF)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    std = 1 / np.broadcast_to(255 * np.asarray(scale, np.float64), 3)
    mean = -np.asarray(offset, np.float64) * std
    return tuple(mean.tolist()), tuple(std.tolist())


_KERAS_HUB = {  # classes to architectures
    keras_hub.models.BertBackbone: "BertModel",
    keras_hub.models.BertMaskedLM: "BertForMaskedLM",
    keras_hub.models.BertTextClassifier: "BertForSequenceClassification",
    keras_hub.models.ViTBackbone: "ViTModel",
    keras_hub.models.ViTImageClassifier: "ViTForImageClassification",
    keras_hub.models.DeiTBackbone: "DeiTModel",
    keras_hub.models.DeiTImageClassifier: "DeiTForImageClassification",
}
