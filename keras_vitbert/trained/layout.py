"""Which variable of our networks holds each tensor of a BERT or ViT of transformers.

This is the one table for both directions: reading a Hugging Face model, and writing one. Readers of
other sources rename the tensors to these names first.
"""

import dataclasses

import numpy as np

_ATTENTION = "self_attention_layer"
# For a block: our layer, its names in a BERT and in a ViT, and the weight's outputs and inputs: `d`
# hidden, `m` intermediate.
_BLOCK = (
    (f"{_ATTENTION}/query", "attention.self.query", "attention.attention.query", "dd"),
    (f"{_ATTENTION}/key", "attention.self.key", "attention.attention.key", "dd"),
    (f"{_ATTENTION}/value", "attention.self.value", "attention.attention.value", "dd"),
    (f"{_ATTENTION}/attention_output", *("attention.output.dense",) * 2, "dd"),
    ("self_attention_layer_norm", "attention.output.LayerNorm", "layernorm_before", "d"),
    ("feedforward_intermediate_dense", *("intermediate.dense",) * 2, "md"),
    ("feedforward_output_dense", *("output.dense",) * 2, "dm"),
    ("feedforward_layer_norm", "output.LayerNorm", "layernorm_after", "d"),
)


@dataclasses.dataclass(frozen=True)
class Tensor:
    """A tensor of transformers, and the variable that holds its values.

    Attributes:
        ours: str, the path of a variable of a network.
        theirs: str, the name in transformers.
        shape: tuple of int, in transformers.
    """

    ours: str
    theirs: str
    shape: tuple[int, ...]

    def to_ours(self, value, shape):
        """The values in our layout.

        Args:
            value: array of `self.shape`.
            shape: tuple of int, of the variable.
        """
        if value.ndim == 4:  # a convolution: outputs, channels, height, width
            value = value.transpose(2, 3, 1, 0)
        elif self.ours.endswith("/kernel"):
            value = value.T
        return value.reshape(shape)

    def to_theirs(self, value):
        """The values in the layout of transformers.

        Args:
            value: array of the variable's shape.
        """
        if len(self.shape) == 4:
            outputs, channels, height, width = self.shape
            return value.reshape(height, width, channels, outputs).transpose(3, 2, 0, 1)
        if self.ours.endswith("/kernel"):
            return value.reshape(self.shape[::-1]).T
        return value.reshape(self.shape)


def tensors_of(config, heads, classes=None):
    """All tensors of a model.

    Args:
        config: dict, as `architectures.Weights` holds it.
        heads: dict of `image`, `mlm`, `nsp`, `text` and `pooler` to the kind of that head, see
            `keras_vitbert.model.heads`.
        classes: int, of its classifier; None if not known, which allows any number.

    Returns:
        list of `Tensor`.
    """
    prefix, hidden = config["model_type"], config["hidden_size"]
    is_bert = prefix == "bert"
    size = {"d": hidden, "m": config["intermediate_size"]}
    tensors = _bert_embeddings(config) if is_bert else _vit_embeddings(config)
    for index in range(config["num_hidden_layers"]):
        for ours, in_bert, in_vit, axes in _BLOCK:
            theirs = f"{prefix}.encoder.layer.{index}.{in_bert if is_bert else in_vit}"
            tensors += _layer(f"block_{index}/{ours}", theirs, *(size[axis] for axis in axes))
    if not is_bert:
        tensors += _layer("final_norm", f"{prefix}.layernorm", hidden)
    for name, kind in heads.items():
        tensors += _head(name, kind, config, classes)
    return tensors


def _layer(ours, theirs, *shape):
    """The weight and the bias of a dense layer, or of a LayerNorm, whose shape has one axis."""
    weight, bias = ("gamma", "beta") if len(shape) == 1 else ("kernel", "bias")
    return [
        Tensor(f"{ours}/{weight}", f"{theirs}.weight", shape),
        Tensor(f"{ours}/{bias}", f"{theirs}.bias", shape[:1]),
    ]


def _bert_embeddings(config):
    hidden, theirs = config["hidden_size"], "bert.embeddings"
    tables = {
        "text_embedding/word_embedding/embeddings": ("word", "vocab_size"),
        "text_embedding/position_embedding": ("position", "max_position_embeddings"),
        "text_embedding/segment_embedding/embeddings": ("token_type", "type_vocab_size"),
    }
    found = [
        Tensor(ours, f"{theirs}.{name}_embeddings.weight", (config[key], hidden))
        for ours, (name, key) in tables.items()
        if config[key]  # DistilBERT has no segments
    ]
    return found + _layer("embedding_norm", f"{theirs}.LayerNorm", hidden)


def _vit_embeddings(config):
    prefix, hidden, patch = (config[key] for key in ("model_type", "hidden_size", "patch_size"))
    ours, theirs = "image_embedding", f"{prefix}.embeddings"
    tokens = special_tokens(prefix)
    positions = (config["image_size"] // patch) ** 2 + len(tokens)
    return [
        *(Tensor(f"{ours}/class_token", f"{theirs}.{token}", (1, 1, hidden)) for token in tokens),
        Tensor(
            f"{ours}/position_embedding", f"{theirs}.position_embeddings", (1, positions, hidden)
        ),
        *_layer(
            f"{ours}/patch_projection",
            f"{theirs}.patch_embeddings.projection",
            *(hidden, 3, patch, patch),
        ),
    ]


def special_tokens(model_type):
    """The learned tokens before the patches, in order.

    Args:
        model_type: str, `vit` or `deit`.
    """
    return ["cls_token", "distillation_token"][: 2 if model_type == "deit" else 1]


def _head(name, kind, config, classes):
    kind, options = (kind["kind"], kind) if isinstance(kind, dict) else (kind, {})
    hidden = config["hidden_size"]
    if name == "pooler":
        return _layer("pooler", f"{config['model_type']}.pooler.dense", hidden, hidden)
    if name == "nsp":
        return [
            *_layer("nsp_head/hidden", "bert.pooler.dense", hidden, hidden),
            *_layer("nsp_head/logits", "cls.seq_relationship", 2, hidden),
        ]
    if name == "mlm":
        words, theirs = config["vocab_size"], "cls.predictions"
        decoder = Tensor("mlm_head/logits/kernel", f"{theirs}.decoder.weight", (words, hidden))
        return [
            *_layer("mlm_head/hidden", f"{theirs}.transform.dense", hidden, hidden),
            *_layer("mlm_head/layer_norm", f"{theirs}.transform.LayerNorm", hidden),
            *([decoder] if kind == "bert_untied" else []),
            Tensor("mlm_head/logits/bias", f"{theirs}.bias", (words,)),
        ]
    ours = "head" if name == "text" else "image_head"
    if kind == "deit":
        return [
            *_layer(f"{ours}/logits", "cls_classifier", classes, hidden),
            *_layer(f"{ours}/distillation_logits", "distillation_classifier", classes, hidden),
        ]
    if kind == "vit":
        return _layer(f"{ours}/logits", "classifier", classes, hidden)
    # The pooler of a BERT, and the layers that a DistilBERT and a ViT of Google have in its place.
    theirs = {"distilbert": "pre_classifier"}.get(kind, "bert.pooler.dense")
    if name == "image":
        theirs = "pre_logits"
    units = options.get("hidden_dim") or hidden
    return [
        *_layer(f"{ours}/hidden", theirs, units, hidden),
        *_layer(f"{ours}/logits", "classifier", classes, units),
    ]


def assign(network, tensors, values):
    """Sets all variables of a network.

    Args:
        network: Keras model.
        tensors: list of `Tensor`.
        values: dict of their names to arrays.
    """
    parts = {}
    for tensor in tensors:
        parts.setdefault(tensor.ours, []).append(tensor)
    for variable in network.variables:
        if variable.path not in parts:
            continue  # the seeds of dropout
        found = parts.pop(variable.path)
        if len(found) > 1:  # tokens before the patches
            value = np.concatenate([values[tensor.theirs] for tensor in found], axis=1)
        else:
            value = found[0].to_ours(values[found[0].theirs], variable.shape)
        variable.assign(value)
    if parts:
        raise RuntimeError(f"{sorted(parts)} are not variables of the network")


def read(found, tensors):
    """All tensors with the values of a network, in the layout of transformers.

    Args:
        found: dict of a variable's path to its values.
        tensors: list of `Tensor`.

    Returns:
        dict of name to array.
    """
    values, taken = {}, {}
    for tensor in tensors:
        value = found[tensor.ours]
        if tensor.ours.endswith("/class_token"):  # one for each token before the patches
            place = taken.setdefault(tensor.ours, 0)
            taken[tensor.ours] = place + 1
            value = value[:, place : place + 1]
        values[tensor.theirs] = np.ascontiguousarray(tensor.to_theirs(value))
    return values
