"""BERTs and ViTs of keras-hub, from the folders of their presets."""

import os

import keras
import keras_hub
import numpy as np

from keras_vitbert.trained.architectures import checked_bert, checked_vit, require
from keras_vitbert.trained.sources import read_json
from keras_vitbert.trained.tensors import in_their_layout, renamed

_BLOCK = (
    (r"/query/", ".query/"),
    (r"/key/", ".key/"),
    (r"/value/", ".value/"),
    (r"/(kernel|gamma|embeddings)$", ".weight"),
    (r"/(bias|beta)$", ".bias"),
)
_BERT_NAMES = (
    (r"^token_embedding/", "bert.embeddings.word_embeddings/"),
    (r"^position_embedding/", "bert.embeddings.position_embeddings/"),
    (r"^segment_embedding/", "bert.embeddings.token_type_embeddings/"),
    (r"^embeddings_layer_norm/", "bert.embeddings.LayerNorm/"),
    (r"^transformer_layer_(\d+)/", r"bert.encoder.layer.\1."),
    (r"\.self_attention_layer/attention_output/", ".attention.output.dense/"),
    (r"\.self_attention_layer/", ".attention.self."),
    (r"\.self_attention_layer_norm/", ".attention.output.LayerNorm/"),
    (r"\.feedforward_intermediate_dense/", ".intermediate.dense/"),
    (r"\.feedforward_output_dense/", ".output.dense/"),
    (r"\.feedforward_layer_norm/", ".output.LayerNorm/"),
    (r"^pooled_dense/", "bert.pooler.dense/"),
    (r"^mlm_head/output_bias$", "cls.predictions.bias"),
    (r"^mlm_head/output_kernel$", "cls.predictions.decoder/kernel"),
    (r"^mlm_head/intermediate_dense/", "cls.predictions.transform.dense/"),
    (r"^mlm_head/intermediate_layer_norm/", "cls.predictions.transform.LayerNorm/"),
    (r"^logits/", "classifier/"),
    *_BLOCK,
)


def _vit_names(prefix):
    def block(match):  # keras-hub counts blocks from 1
        return f"{prefix}.encoder.layer.{int(match[1]) - 1}."

    return (
        (r"^\w+_patching_and_embedding/", f"{prefix}.embeddings."),
        (r"\.patch_embedding/", ".patch_embeddings.projection/"),
        (r"\.position_embedding(/embeddings)?$", ".position_embeddings"),
        (r"\.class_token$", ".cls_token"),
        (r"^\w+_encoder/transformer_block_(\d+)/", block),
        (r"^\w+_encoder/ln/", f"{prefix}.layernorm/"),
        (r"\.ln_1/", ".layernorm_before/"),
        (r"\.ln_2/", ".layernorm_after/"),
        (r"\.mha/attention_output/", ".attention.output.dense/"),
        (r"\.mha/", ".attention.attention."),
        (r"\.mlp/(dense_1|dense)/", ".intermediate.dense/"),
        (r"\.(mlp/dense_2|output_layer/output)/", ".output.dense/"),
        (r"^predictions/", "classifier/"),
        *_BLOCK,
    )


def read(source):
    """Reads a preset of a `BertBackbone`, `ViTBackbone` or `DeiTBackbone`, and its task's head.

    Args:
        source: `sources.Source`, a preset.

    Returns:
        `architectures.Weights`.
    """
    task = read_json(os.path.join(source.path, "task.json"))
    config = task or source.config
    held = keras.saving.get_registered_object(str(config.get("registered_name")))
    for cls, reader in _READERS.items():
        if held is cls:
            model = cls.from_preset(source.path)
            if task and not os.path.exists(os.path.join(source.path, "task.weights.h5")):
                raise ValueError("task.weights.h5 is missing")  # the head would be a random one
            return reader(source, model, getattr(model, "backbone", model))
    known = ", ".join(cls.__name__ for cls in _READERS)
    raise ValueError(f"it is the preset of a {config.get('class_name')}; known are {known}")


def _read_bert(source, model, backbone):
    config = {
        **_sizes(backbone, backbone.intermediate_dim),
        "vocab_size": backbone.vocabulary_size,
        "max_position_embeddings": backbone.max_sequence_length,
        "type_vocab_size": backbone.num_segments,
        "hidden_dropout_prob": backbone.dropout,
        "hidden_act": "gelu_pytorch_tanh",  # keras-hub approximates GELU by tanh
        "layer_norm_eps": 1e-12,
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
        activation = "gelu" if head.intermediate_activation is exact else "gelu_tanh"
        kinds["mlm"] = {  # unlike the blocks
            "kind": "bert",
            "activation": activation,
            "layer_norm_epsilon": head.layer_norm_epsilon,
        }
    elif isinstance(model, keras_hub.models.BertTextClassifier):
        architecture = "BertForSequenceClassification"
    return checked_bert(
        *(config, _tensors(model, _BERT_NAMES, backbone.hidden_dim), architecture),
        list(tokenizer.get_vocabulary()),
        kinds=kinds,
        lower_case=tokenizer.lowercase,
        labels=None,
    )


def _read_vit(source, model, backbone):
    is_deit = isinstance(backbone, keras_hub.models.DeiTBackbone)
    prefix = "deit" if is_deit else "vit"
    pooling = getattr(model, "pooling", "token")
    require(pooling == "token", "pooling", pooling)
    intermediate = backbone.intermediate_dim if is_deit else backbone.mlp_dim
    config = {
        **_sizes(backbone, intermediate),
        "image_size": backbone.image_shape[:2],
        "patch_size": backbone.patch_size,
        "hidden_dropout_prob": backbone.dropout_rate,
        "layer_norm_eps": backbone.layer_norm_epsilon,
        "qkv_bias": backbone.use_mha_bias,
    }
    tensors = _tensors(model, _vit_names(prefix), backbone.hidden_dim)
    if not backbone.use_mha_bias:  # then the output projection has no bias either
        for index in range(backbone.num_layers):
            name = f"{prefix}.encoder.layer.{index}.attention.output.dense.bias"
            tensors[name] = np.zeros(backbone.hidden_dim)
    converter = getattr(getattr(model, "preprocessor", None), "image_converter", None)
    if converter is None and os.path.exists(os.path.join(source.path, "image_converter.json")):
        converter = keras_hub.layers.ImageConverter.from_preset(source.path)
    architecture = ("DeiT" if is_deit else "ViT") + (
        "Model" if model is backbone else "ForImageClassification"
    )
    return checked_vit(
        *(config, tensors, architecture, *_mean_and_std(converter, model, backbone)),
        labels=getattr(getattr(model, "preprocessor", None), "class_names", None),
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


def _sizes(backbone, intermediate):
    return {
        "hidden_size": backbone.hidden_dim,
        "num_hidden_layers": backbone.num_layers,
        "num_attention_heads": backbone.num_heads,
        "intermediate_size": intermediate,
    }


def _tensors(model, names, hidden):
    """The weights under the names and in the layout of transformers."""
    tensors = {}
    for weight in model.weights:
        value = keras.ops.convert_to_numpy(weight)
        if weight.path.endswith("patching_and_embedding/position_embedding/embeddings"):
            value = value[None]
        tensors[weight.path] = in_their_layout(weight.path, value, hidden)
    return renamed(tensors, names)


def _mean_and_std(converter, model, backbone):
    """The mean and std that normalise images in [0, 1].

    The converter of a preset scales and shifts values in 0 to 255. A task without a converter takes
    images in [0, 1] as they are; a backbone alone takes those of ViT, in [-1, 1].
    """
    if converter is None:
        return ((0.5,) * 3,) * 2 if model is backbone else ((0.0,) * 3, (1.0,) * 3)
    scale = 1.0 if converter.scale is None else converter.scale
    offset = 0.0 if converter.offset is None else converter.offset
    std = 1 / np.broadcast_to(255 * np.asarray(scale, np.float64), 3)
    mean = -np.asarray(offset, np.float64) * std
    return tuple(mean.tolist()), tuple(std.tolist())
