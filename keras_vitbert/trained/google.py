"""Google's own checkpoints: BERT from google-research/bert, ViT from its vision_transformer.

Both approximate GELU by tanh: BERT in `modeling.gelu`, whatever its config calls it, and ViT by the
default of `flax.linen.gelu`. Their epsilons are 1e-12 and 1e-6. ViT's images are normalised to
[-1, 1].
"""

import math
import os
import re

import numpy as np
import tensorflow as tf

from keras_vitbert.trained.architectures import checked_bert, checked_vit
from keras_vitbert.trained.hugging_face import read_vocabulary
from keras_vitbert.trained.sources import read_json
from keras_vitbert.trained.tensors import in_their_layout, renamed

# Training state, which a checkpoint holds besides the weights.
_OPTIMIZER = r"global_step|good_steps|loss_scale|.*/adam_[mv]|.*AdamWeightDecay.*"

_BERT_NAMES = (
    (r"/", "."),
    (r"\blayer_(\d+)\b", r"layer.\1"),
    (r"_embeddings$", "_embeddings.weight"),
    (r"\b(kernel|gamma|output_weights)$", "weight"),
    (r"\b(beta|output_bias)$", "bias"),
)
_VIT_NAMES = (
    (r"^cls$", "vit.embeddings.cls_token"),
    (r"^Transformer/posembed_input/pos_embedding$", "vit.embeddings.position_embeddings"),
    (r"^embedding/", "vit.embeddings.patch_embeddings.projection/"),
    (r"^Transformer/encoderblock_(\d+)/", r"vit.encoder.layer.\1."),
    (r"\.LayerNorm_0/", ".layernorm_before/"),
    (r"\.MultiHeadDotProductAttention_1/out/", ".attention.output.dense/"),
    (r"\.MultiHeadDotProductAttention_1/", ".attention.attention."),
    (r"\.LayerNorm_2/", ".layernorm_after/"),
    (r"\.MlpBlock_3/Dense_0/", ".intermediate.dense/"),
    (r"\.MlpBlock_3/Dense_1/", ".output.dense/"),
    (r"^Transformer/encoder_norm/", "vit.layernorm/"),
    (r"^head/", "classifier/"),
    (r"/(kernel|scale)$", ".weight"),
    (r"/bias$", ".bias"),
)


def read_bert(source):
    """Reads a checkpoint with `bert_config.json` and `vocab.txt` beside it.

    Args:
        source: `sources.Source`, whose path is the checkpoint's prefix.

    Returns:
        `architectures.Weights`.
    """
    folder = os.path.dirname(source.path)
    config = read_json(os.path.join(folder, "bert_config.json"))
    if config is None:
        raise ValueError("there is no bert_config.json beside it")
    if config.get("hidden_act") == "gelu":
        config = {**config, "hidden_act": "gelu_pytorch_tanh"}
    vocabulary = read_vocabulary(folder)
    tensors = {}
    reader = tf.train.load_checkpoint(source.path)
    for name in reader.get_variable_to_shape_map():
        if not re.fullmatch(_OPTIMIZER, name):
            value = reader.get_tensor(name)
            tensors[name] = value.T if name.endswith("/kernel") else value
    config = {**config, "layer_norm_eps": 1e-12}
    tensors = renamed(tensors, _BERT_NAMES)
    return checked_bert(config, tensors, "BertForPreTraining", vocabulary)


def read_vit(source):
    """Reads a `.npz` file.

    Args:
        source: `sources.Source`.

    Returns:
        `architectures.Weights`.
    """
    with tf.io.gfile.GFile(source.path, "rb") as file:
        stored = np.load(file, allow_pickle=False)
        arrays = {name: np.asarray(value, np.float32) for name, value in stored.items()}
    config = _vit_config(arrays)
    hidden = config["hidden_size"]
    arrays = {name: in_their_layout(name, x, hidden) for name, x in arrays.items()}
    return checked_vit(config, renamed(arrays, _VIT_NAMES), "ViTForImageClassification")


def _vit_config(arrays):
    """The Hugging Face config that the shapes imply."""
    patch, _, _, hidden = arrays["embedding/kernel"].shape
    first = "Transformer/encoderblock_0"
    positions = arrays["Transformer/posembed_input/pos_embedding"].shape[1]
    side = math.isqrt(positions - 1)  # beside the class token
    return {
        "hidden_size": hidden,
        "num_hidden_layers": sum(name.endswith("/LayerNorm_0/scale") for name in arrays),
        "num_attention_heads": arrays[f"{first}/MultiHeadDotProductAttention_1/query/bias"].shape[
            0
        ],
        "intermediate_size": arrays[f"{first}/MlpBlock_3/Dense_0/bias"].shape[0],
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_size": side * patch,
        "patch_size": patch,
    }
