"""Google's own checkpoints: BERT's of google-research/bert, ViT's of google-research's repository.

Both compute GELU by tanh: BERT's `modeling.gelu`, whatever its config calls it, and ViT's
`flax.linen.gelu`, whose default that is. Their epsilons are 1e-12 and 1e-6. ViT's images are
normalised to [-1, 1].
"""

import math
import os
import re
import zipfile

import numpy as np
import tensorflow as tf

from keras_vitbert.importing.bert_weights import BertWeights
from keras_vitbert.importing.hugging_face import read_vocabulary
from keras_vitbert.importing.sources import read_json
from keras_vitbert.importing.vit_weights import VitWeights
from pipelines.command_line import UserError, one_line

# What training left besides the weights.
_OPTIMIZER = r"global_step|good_steps|loss_scale|.*/adam_[mv]|.*AdamWeightDecay.*"

_VIT_BLOCK = "Transformer/encoderblock_{}"
_VIT_PARTS = {
    "LayerNorm_0": "layernorm_before",
    "LayerNorm_2": "layernorm_after",
    "MlpBlock_3/Dense_0": "intermediate.dense",
    "MlpBlock_3/Dense_1": "output.dense",
    "MultiHeadDotProductAttention_1/query": "attention.attention.query",
    "MultiHeadDotProductAttention_1/key": "attention.attention.key",
    "MultiHeadDotProductAttention_1/value": "attention.attention.value",
    "MultiHeadDotProductAttention_1/out": "attention.output.dense",
}


def read_bert(source):
    """`BertWeights` of a checkpoint with `bert_config.json` and `vocab.txt` beside it.

    Args:
        source: `sources.Source`, its path the checkpoint's prefix.

    Raises:
        UserError: a part is missing or damaged.
    """
    folder, label = os.path.dirname(source.path), source.label
    config = read_json(os.path.join(folder, "bert_config.json"), label)
    if config is None:
        raise UserError(f"{label}: has no bert_config.json beside it; bring it")
    if config.get("hidden_act") == "gelu":
        config = {**config, "hidden_act": "gelu_pytorch_tanh"}
    vocabulary = read_vocabulary(folder, label)
    tensors = {}
    try:
        reader = tf.train.load_checkpoint(source.path)
        for name in reader.get_variable_to_shape_map():
            if not re.fullmatch(_OPTIMIZER, name):
                tensors |= _bert_tensor(name, reader.get_tensor(name))
    # The reader's own errors are of several kinds, an IndexError where a file is too short.
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise UserError(
            f"{label}: the checkpoint is damaged ({one_line(error)[:160]}); bring it back"
        ) from error
    return BertWeights.checked(
        {**config, "layer_norm_eps": 1e-12}, tensors, vocabulary, label, "BertForPreTraining"
    )


def read_vit(source):
    """`VitWeights` of a `.npz`.

    Args:
        source: `sources.Source`.

    Raises:
        UserError: it is another model, or damaged.
    """
    label = source.label
    try:
        with tf.io.gfile.GFile(source.path, "rb") as file:
            arrays = dict(np.load(file, allow_pickle=False))
    except (tf.errors.OpError, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{label}: is damaged ({one_line(error)[:160]}); bring it back") from error
    if "conv_root/kernel" in arrays:
        raise UserError(f"{label}: is a hybrid of ResNet and ViT; give a ViT without convolutions")
    try:
        config = _vit_config(arrays)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"{label}: is no ViT of google-research/vision_transformer ({one_line(error)}); give "
            "one of its .npz files"
        ) from error
    tensors = {}
    for name, value in arrays.items():
        tensors |= _vit_tensor(name, value)
    half = (0.5, 0.5, 0.5)
    return VitWeights.checked(config, tensors, half, half, None, label)


def _bert_tensor(name, value):
    """A tensor under its other name: `{name: value}`."""
    *scopes, last = name.split("/")
    if last == "kernel":
        value, last = value.T, "weight"
    elif last.endswith("_embeddings"):
        scopes, last = [*scopes, last], "weight"
    last = {
        "gamma": "weight",
        "beta": "bias",
        "output_weights": "weight",
        "output_bias": "bias",
    }.get(last, last)
    return {re.sub(r"\blayer_(\d+)\b", r"layer.\1", ".".join([*scopes, last])): value}


def _vit_config(arrays):
    """What Hugging Face's config would say, from the shapes."""
    patch, _, _, hidden = arrays["embedding/kernel"].shape
    first = _VIT_BLOCK.format(0)
    blocks = {re.match(r"Transformer/encoderblock_(\d+)/", name) for name in arrays} - {None}
    positions = arrays["Transformer/posembed_input/pos_embedding"].shape[1]
    side = math.isqrt(positions - 1)
    if side * side != positions - 1:
        raise ValueError(f"its {positions} positions are not those of a square and a class token")
    return {
        "model_type": "vit",
        "architectures": ["ViTForImageClassification"],
        "hidden_size": hidden,
        "num_hidden_layers": 1 + max(int(block[1]) for block in blocks),
        "num_attention_heads": arrays[f"{first}/MultiHeadDotProductAttention_1/query/bias"].shape[
            0
        ],
        "intermediate_size": arrays[f"{first}/MlpBlock_3/Dense_0/bias"].shape[0],
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
        "image_size": side * patch,
        "patch_size": patch,
    }


def _vit_tensor(name, value):
    """A tensor under its other name and in the other layout; unknown ones as they are."""
    if name == "cls":
        return {"vit.embeddings.cls_token": value}
    if name == "Transformer/posembed_input/pos_embedding":
        return {"vit.embeddings.position_embeddings": value}
    module, _, last = name.rpartition("/")
    new = _vit_module(module)
    if new is None or last not in ("kernel", "scale", "bias"):
        return {name: value}
    if module == "embedding" and last == "kernel":
        value = value.transpose(3, 2, 0, 1)
    elif last == "kernel":
        # Of queries (hidden, heads, size), of the output (heads, size, hidden).
        inputs = value.shape[0] if not module.endswith("/out") else math.prod(value.shape[:-1])
        value = value.reshape(inputs, -1).T
    elif last == "bias":
        value = value.reshape(-1)
    return {f"{new}.{'bias' if last == 'bias' else 'weight'}": value}


def _vit_module(module):
    """The other name of a layer, or None."""
    block = re.fullmatch(r"Transformer/encoderblock_(\d+)/(.*)", module)
    if block and block[2] in _VIT_PARTS:
        return f"vit.encoder.layer.{block[1]}.{_VIT_PARTS[block[2]]}"
    return {
        "embedding": "vit.embeddings.patch_embeddings.projection",
        "Transformer/encoder_norm": "vit.layernorm",
        "pre_logits": "pre_logits",
        "head": "classifier",
    }.get(module)
