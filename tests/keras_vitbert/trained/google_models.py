"""Small models in the files of Google's own code, and what they compute, in NumPy and float64.

The forward passes follow google-research/bert and google-research/vision_transformer, and use the
files' own layouts: nothing of `keras_vitbert` is in them.
"""

import json

import numpy as np
import tensorflow as tf

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{n}" for n in range(24))]
BERT = {
    "vocab_size": len(TOKENS),
    "hidden_size": 15,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 22,
    "max_position_embeddings": 17,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}


def draw(shapes):
    """Arrays of wide random numbers; gains of norms are about 1."""
    random = np.random.default_rng(0)
    return {
        name: (name.endswith(("gamma", "scale")) + random.normal(0, 0.3, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def bert_variables():
    """Variables by the names of a checkpoint."""
    hidden, inner = BERT["hidden_size"], BERT["intermediate_size"]
    shapes = {
        "bert/embeddings/word_embeddings": (len(TOKENS), hidden),
        "bert/embeddings/position_embeddings": (BERT["max_position_embeddings"], hidden),
        "bert/embeddings/token_type_embeddings": (2, hidden),
        "cls/predictions/output_bias": (len(TOKENS),),
        "cls/seq_relationship/output_weights": (2, hidden),
        "cls/seq_relationship/output_bias": (2,),
    }
    square = (hidden, hidden)
    dense = dict.fromkeys(("bert/pooler/dense", "cls/predictions/transform/dense"), square)
    norms = ["bert/embeddings/LayerNorm", "cls/predictions/transform/LayerNorm"]
    for index in range(BERT["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{index}"
        for part in ("self/query", "self/key", "self/value", "output/dense"):
            dense[f"{layer}/attention/{part}"] = square
        dense[f"{layer}/intermediate/dense"] = hidden, inner
        dense[f"{layer}/output/dense"] = inner, hidden
        norms += [f"{layer}/attention/output/LayerNorm", f"{layer}/output/LayerNorm"]
    for name, shape in dense.items():
        shapes |= {f"{name}/kernel": shape, f"{name}/bias": shape[1:]}
    for name in norms:
        shapes |= {f"{name}/gamma": (hidden,), f"{name}/beta": (hidden,)}
    return draw(shapes)


def write_bert(folder, variables, config=BERT):
    """Writes a checkpoint of the old kind with its config and vocabulary; returns its prefix."""
    folder.mkdir(exist_ok=True)
    kept = {
        **variables,
        "global_step": np.int64(7),
        "bert/pooler/dense/kernel/adam_m": np.zeros_like(variables["bert/pooler/dense/kernel"]),
    }
    tf.raw_ops.SaveV2(
        prefix=str(folder / "bert_model.ckpt"),
        tensor_names=list(kept),
        shape_and_slices=[""] * len(kept),
        tensors=list(kept.values()),
    )
    # `SaveV2` leaves a shard, which `MergeV2Checkpoints` would rename; readers take it as it is.
    (folder / "bert_config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token in TOKENS))
    return str(folder / "bert_model.ckpt")


def bert_logits(variables, batch):
    """`mlm_logits` at the masked positions, and `nsp_logits`."""
    v = {name: value.astype(np.float64) for name, value in variables.items()}

    def dense(x, name):
        return x @ v[f"{name}/kernel"] + v[f"{name}/bias"]

    def norm(x, name):
        return layer_norm(x, v[f"{name}/gamma"], v[f"{name}/beta"], 1e-12)

    length = batch["token_ids"].shape[1]
    x = v["bert/embeddings/word_embeddings"][batch["token_ids"]]
    x = x + v["bert/embeddings/token_type_embeddings"][batch["segment_ids"]]
    x = norm(x + v["bert/embeddings/position_embeddings"][:length], "bert/embeddings/LayerNorm")
    mask = -10_000.0 * (1 - batch["padding_mask"][:, None, None, :])
    for index in range(BERT["num_hidden_layers"]):
        layer = f"bert/encoder/layer_{index}"
        q, k, y = (dense(x, f"{layer}/attention/self/{n}") for n in ("query", "key", "value"))
        q, k, y = (split(z, BERT["num_attention_heads"]) for z in (q, k, y))
        y = attention(q, k, y, mask)
        y = dense(y, f"{layer}/attention/output/dense")
        x = norm(x + y, f"{layer}/attention/output/LayerNorm")
        y = dense(gelu(dense(x, f"{layer}/intermediate/dense")), f"{layer}/output/dense")
        x = norm(x + y, f"{layer}/output/LayerNorm")
    pooled = np.tanh(dense(x[:, 0], "bert/pooler/dense"))
    masked = np.take_along_axis(x, batch["masked_positions"][:, :, None], axis=1)
    masked = gelu(dense(masked, "cls/predictions/transform/dense"))
    masked = norm(masked, "cls/predictions/transform/LayerNorm")
    words = masked @ v["bert/embeddings/word_embeddings"].T + v["cls/predictions/output_bias"]
    name = "cls/seq_relationship/output"
    nsp = pooled @ v[f"{name}_weights"].T + v[f"{name}_bias"]
    return {"mlm_logits": words, "nsp_logits": nsp}


def vit_arrays(pre_logits=None):
    """Arrays by the names of a `.npz` of google-research/vision_transformer."""
    hidden, heads, size, inner, classes = 15, 3, 5, 22, 3
    shapes = {
        "cls": (1, 1, hidden),
        "embedding/kernel": (3, 3, 3, hidden),
        "embedding/bias": (hidden,),
        "Transformer/posembed_input/pos_embedding": (1, 3**2 + 1, hidden),
        "Transformer/encoder_norm/scale": (hidden,),
        "Transformer/encoder_norm/bias": (hidden,),
        "head/kernel": (pre_logits or hidden, classes),
        "head/bias": (classes,),
    }
    for index in range(2):
        block = f"Transformer/encoderblock_{index}"
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            shapes |= {f"{block}/{norm}/scale": (hidden,), f"{block}/{norm}/bias": (hidden,)}
        attention = f"{block}/MultiHeadDotProductAttention_1"
        for part in ("query", "key", "value"):
            shapes[f"{attention}/{part}/kernel"] = (hidden, heads, size)
            shapes[f"{attention}/{part}/bias"] = (heads, size)
        shapes[f"{attention}/out/kernel"] = (heads, size, hidden)
        shapes[f"{attention}/out/bias"] = (hidden,)
        shapes[f"{block}/MlpBlock_3/Dense_0/kernel"] = (hidden, inner)
        shapes[f"{block}/MlpBlock_3/Dense_0/bias"] = (inner,)
        shapes[f"{block}/MlpBlock_3/Dense_1/kernel"] = (inner, hidden)
        shapes[f"{block}/MlpBlock_3/Dense_1/bias"] = (hidden,)
    if pre_logits:
        shapes |= {"pre_logits/kernel": (hidden, pre_logits), "pre_logits/bias": (pre_logits,)}
    return draw(shapes)


def vit_logits(arrays, images):
    """Of images in [0, 1]."""
    v = {name: value.astype(np.float64) for name, value in arrays.items()}

    def norm(x, name):
        return layer_norm(x, v[f"{name}/scale"], v[f"{name}/bias"], 1e-6)

    patch = v["embedding/kernel"].shape[0]
    batch, side = len(images), images.shape[1] // patch
    x = (images.astype(np.float64) - 0.5) / 0.5
    x = x.reshape(batch, side, patch, side, patch, 3)
    x = np.einsum("bipjqc,pqch->bijh", x, v["embedding/kernel"]) + v["embedding/bias"]
    x = x.reshape(batch, side * side, -1)
    x = np.concatenate([np.repeat(v["cls"], batch, 0), x], 1)
    x = x + v["Transformer/posembed_input/pos_embedding"]
    for index in range(2):
        block = f"Transformer/encoderblock_{index}"
        name = f"{block}/MultiHeadDotProductAttention_1"
        y = norm(x, f"{block}/LayerNorm_0")
        q, k, y = (
            np.einsum("bld,dhe->bhle", y, v[f"{name}/{part}/kernel"])
            + v[f"{name}/{part}/bias"][:, None]
            for part in ("query", "key", "value")
        )
        weights = softmax(np.einsum("bhle,bhme->bhlm", q, k) / np.sqrt(q.shape[-1]))
        y = np.einsum("bhlm,bhme,hed->bld", weights, y, v[f"{name}/out/kernel"])
        x = x + y + v[f"{name}/out/bias"]
        mlp = f"{block}/MlpBlock_3"
        y = norm(x, f"{block}/LayerNorm_2")
        y = gelu(y @ v[f"{mlp}/Dense_0/kernel"] + v[f"{mlp}/Dense_0/bias"])
        x = x + y @ v[f"{mlp}/Dense_1/kernel"] + v[f"{mlp}/Dense_1/bias"]
    x = norm(x, "Transformer/encoder_norm")[:, 0]
    if "pre_logits/kernel" in v:
        x = np.tanh(x @ v["pre_logits/kernel"] + v["pre_logits/bias"])
    return x @ v["head/kernel"] + v["head/bias"]


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def layer_norm(x, gain, bias, epsilon):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + epsilon) * gain + bias


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def split(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def attention(query, key, value, mask):
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(query.shape[-1]) + mask
    y = softmax(scores) @ value
    return y.transpose(0, 2, 1, 3).reshape(y.shape[0], y.shape[2], -1)


def texts():
    """A batch of padded pairs of segments."""
    random = np.random.default_rng(0)
    lengths, columns = np.array([11, 6]), np.arange(11)
    return {
        "token_ids": random.integers(0, len(TOKENS), (2, 11)),
        "segment_ids": (columns > np.array([[5], [3]])).astype(int),
        "padding_mask": (columns < lengths[:, None]).astype(int),
        "masked_positions": np.stack([random.choice(n, 3, replace=False) for n in lengths]),
    }
