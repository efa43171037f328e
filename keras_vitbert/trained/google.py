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

from keras_vitbert.trained import weight_names
from keras_vitbert.trained.architectures import BERT_CONFIG, HALF, Imported, arguments_of
from keras_vitbert.trained.finding import Source, read_json
from keras_vitbert.trained.hugging_face import read_vocabulary

# Training state, which a checkpoint holds besides the weights.
_OPTIMIZER = r"global_step|good_steps|loss_scale|.*/adam_[mv]|.*AdamWeightDecay.*"


def read_bert(source: Source) -> Imported:
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


def read_vit(source: Source) -> Imported:
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
