"""The names and layouts of a BERT's or ViT's tensors in the files of other projects.

A table turns the path of a variable of our networks into the name of the tensor that holds its
values, by regular expressions from top to bottom. Reading looks tensors up by it, and writing for
transformers names them by it.
"""

import math
import re
from collections.abc import Callable, Mapping

import keras
import numpy as np

Rules = tuple[tuple[str, str | Callable[[re.Match], str]], ...]

_TORCH_LEAVES: Rules = (
    (r"/(kernel|gamma|embeddings)$", ".weight"),
    (r"/(bias|beta)$", ".bias"),
)
_BERT_LAYERS: Rules = (
    (r"^text_embedding/word_embedding/", "bert.embeddings.word_embeddings/"),
    (r"^text_embedding/position_embedding$", "bert.embeddings.position_embeddings/embeddings"),
    (r"^text_embedding/segment_embedding/", "bert.embeddings.token_type_embeddings/"),
    (r"^embedding_norm/", "bert.embeddings.LayerNorm/"),
    (r"^block_(\d+)/", r"bert.encoder.layer.\1."),
    (r"\.self_attention_layer/attention_output/", ".attention.output.dense/"),
    (r"\.self_attention_layer/", ".attention.self."),
    (r"\.self_attention_layer_norm/", ".attention.output.LayerNorm/"),
    (r"\.feedforward_(intermediate|output)_dense/", r".\1.dense/"),
    (r"\.feedforward_layer_norm/", ".output.LayerNorm/"),
    (r"^(nsp_head/hidden|head/hidden|pooler)/", "bert.pooler.dense/"),
    (r"^nsp_head/logits/", "cls.seq_relationship/"),
    (r"^mlm_head/hidden/", "cls.predictions.transform.dense/"),
    (r"^mlm_head/layer_norm/", "cls.predictions.transform.LayerNorm/"),
    (r"^mlm_head/logits/kernel$", "cls.predictions.decoder/kernel"),
    (r"^mlm_head/logits/bias$", "cls.predictions/bias"),
    (r"^head/logits/", "classifier/"),
)
BERT: Rules = (*_BERT_LAYERS, *_TORCH_LEAVES)
DISTILBERT: Rules = (
    (r"^text_embedding/word_embedding/", "distilbert.embeddings.word_embeddings/"),
    (r"^text_embedding/position_embedding$", "distilbert.embeddings.position_embeddings.weight"),
    (r"^embedding_norm/", "distilbert.embeddings.LayerNorm/"),
    (r"^block_(\d+)/", r"distilbert.transformer.layer.\1."),
    (r"\.self_attention_layer/attention_output/", ".attention.out_lin/"),
    (r"\.self_attention_layer/([qkv])\w+/", r".attention.\1_lin/"),
    (r"\.self_attention_layer_norm/", ".sa_layer_norm/"),
    (r"\.feedforward_intermediate_dense/", ".ffn.lin1/"),
    (r"\.feedforward_output_dense/", ".ffn.lin2/"),
    (r"\.feedforward_layer_norm/", ".output_layer_norm/"),
    (r"^mlm_head/hidden/", "vocab_transform/"),
    (r"^mlm_head/layer_norm/", "vocab_layer_norm/"),
    (r"^mlm_head/logits/", "vocab_projector/"),
    (r"^head/hidden/", "pre_classifier/"),
    (r"^head/logits/", "classifier/"),
    *_TORCH_LEAVES,
)
VIT: Rules = (
    (r"^image_embedding/class_token$", "vit.embeddings.cls_token"),
    (r"^image_embedding/position_embedding$", "vit.embeddings.position_embeddings"),
    (r"^image_embedding/patch_projection/", "vit.embeddings.patch_embeddings.projection/"),
    (r"^block_(\d+)/", r"vit.encoder.layer.\1."),
    (r"\.self_attention_layer/attention_output/", ".attention.output.dense/"),
    (r"\.self_attention_layer/", ".attention.attention."),
    (r"\.self_attention_layer_norm/", ".layernorm_before/"),
    (r"\.feedforward_(intermediate|output)_dense/", r".\1.dense/"),
    (r"\.feedforward_layer_norm/", ".layernorm_after/"),
    (r"^final_norm/", "vit.layernorm/"),
    (r"^pooler/", "vit.pooler.dense/"),
    (r"^image_head/logits/", "classifier/"),
    *_TORCH_LEAVES,
)
DEIT: Rules = (*VIT, (r"^vit\.", "deit."))
DEIT_WITH_TEACHER: Rules = (
    (r"^image_head/logits/", "cls_classifier/"),
    (r"^image_head/distillation_logits/", "distillation_classifier/"),
    *DEIT,
)
GOOGLE_BERT: Rules = (
    *_BERT_LAYERS,
    (r"\.layer\.", ".layer_"),
    (r"\.", "/"),
    (r"_embeddings/embeddings$", "_embeddings"),
    (r"^cls/(predictions|seq_relationship)/bias$", r"cls/\1/output_bias"),
    (r"^cls/seq_relationship/kernel$", "cls/seq_relationship/output_weights"),
)
GOOGLE_VIT: Rules = (
    (r"^image_embedding/class_token$", "cls"),
    (r"^image_embedding/position_embedding$", "Transformer/posembed_input/pos_embedding"),
    (r"^image_embedding/patch_projection/", "embedding/"),
    (r"^block_(\d+)/", r"Transformer/encoderblock_\1/"),
    (r"/attention_output/", "/out/"),
    (r"/self_attention_layer/", "/MultiHeadDotProductAttention_1/"),
    (r"/self_attention_layer_norm/", "/LayerNorm_0/"),
    (r"/feedforward_intermediate_dense/", "/MlpBlock_3/Dense_0/"),
    (r"/feedforward_output_dense/", "/MlpBlock_3/Dense_1/"),
    (r"/feedforward_layer_norm/", "/LayerNorm_2/"),
    (r"^final_norm/", "Transformer/encoder_norm/"),
    (r"^image_head/hidden/", "pre_logits/"),
    (r"^image_head/logits/", "head/"),
    (r"/gamma$", "/scale"),
    (r"/beta$", "/bias"),
)
KERAS_HUB_BERT: Rules = (
    (r"^text_embedding/word_embedding/", "token_embedding/"),
    (r"^text_embedding/position_embedding$", "position_embedding/embeddings"),
    (r"^text_embedding/segment_embedding/", "segment_embedding/"),
    (r"^embedding_norm/", "embeddings_layer_norm/"),
    (r"^block_", "transformer_layer_"),
    (r"^(head/hidden|pooler)/", "pooled_dense/"),
    (r"^head/logits/", "logits/"),
    (r"^mlm_head/hidden/", "mlm_head/intermediate_dense/"),
    (r"^mlm_head/layer_norm/", "mlm_head/intermediate_layer_norm/"),
    (r"^mlm_head/logits/", "mlm_head/output_"),
)
KERAS_HUB_VIT: Rules = (
    (r"^image_embedding/patch_projection/", "vit_patching_and_embedding/patch_embedding/"),
    (r"^image_embedding/class_token$", "vit_patching_and_embedding/class_token"),
    (
        r"^image_embedding/position_embedding$",
        "vit_patching_and_embedding/position_embedding/embeddings",
    ),
    (r"^block_(\d+)/", lambda block: f"vit_encoder/transformer_block_{int(block[1]) + 1}/"),
    (r"/self_attention_layer/", "/mha/"),
    (r"/self_attention_layer_norm/", "/ln_1/"),
    (r"/feedforward_intermediate_dense/", "/mlp/dense_1/"),
    (r"/feedforward_output_dense/", "/mlp/dense_2/"),
    (r"/feedforward_layer_norm/", "/ln_2/"),
    (r"^final_norm/", "vit_encoder/ln/"),
    (r"^image_head/hidden/", "pre_logits/"),
    (r"^image_head/logits/", "predictions/"),
)
KERAS_HUB_DEIT: Rules = (
    *KERAS_HUB_VIT,
    (r"^vit_", "deit_"),
    (r"/position_embedding/embeddings$", "/position_embedding"),
    (r"/mlp/dense_1/", "/mlp/dense/"),
    (r"/mlp/dense_2/", "/output_layer/output/"),
)
# Variables of heads, which a file may hold although its architecture does not use them.
_OF_HEADS = [
    f"{layer}/{weight}"
    for layer in (
        *("mlm_head/hidden", "mlm_head/layer_norm", "mlm_head/logits", "nsp_head/logits", "pooler"),
        *("head/hidden", "head/logits", "image_head/hidden", "image_head/logits"),
    )
    for weight in ("kernel", "bias", "gamma", "beta")
]
# The axes of kernels as torch has them: a dense layer's, and a convolution's.
_TORCH_AXES = {2: (1, 0), 4: (3, 2, 0, 1)}
NOTHING = "(?!)"  # the pattern that matches nothing


def name_of(path: str, rules: Rules) -> str:
    """The name of the tensor that holds a variable of our networks."""
    for pattern, replacement in rules:
        path = re.sub(pattern, replacement, path)
    return path


def assign(
    network: keras.Model,
    tensors: Mapping[str, np.ndarray],
    rules: Rules,
    in_torch: bool = False,
    ignored: str = NOTHING,
    lacking: str = NOTHING,
) -> None:
    """Sets all weights of a network from the tensors of a file.

    Args:
        in_torch: whether the layout is torch's: kernels `(outputs, inputs)` and
            `(outputs, inputs, height, width)`. Otherwise it is Keras' and Flax', where kernels and
            biases of attention may have two axes for the heads and their size.
        ignored: a regular expression for whole names of tensors that are not used, besides heads.
        lacking: one that finds the paths of biases which the file lacks; they stay 0.
    """
    unknown = tensors.keys() - {name_of(path, rules) for path in _OF_HEADS}
    for variable in network.weights:
        if re.search(lacking, variable.path):
            continue
        own = tuple(variable.shape)
        names, shape, axes = _file_layout(variable.path, own, rules)
        shape = tuple(shape[axis] for axis in axes) if in_torch else shape
        for name in names:
            if name not in tensors:
                raise ValueError(f"it lacks the tensor {name}")
            theirs = tensors[name].shape
            if theirs not in (shape, own) and (1, *theirs) != own:
                raise ValueError(f"its tensor {name} is {theirs} instead of {shape}")
            if tensors[name].dtype.kind in "iub":
                raise ValueError(f"its tensor {name} has integers, perhaps quantised; give floats")
        arrays = {name: np.asarray(tensors[name], np.float32) for name in names}
        require_finite(arrays, "it")
        value = np.concatenate([*arrays.values()], axis=min(1, len(names) - 1))
        value = value.transpose(np.argsort(axes)) if in_torch else value
        variable.assign(value.reshape(own))
        unknown -= set(names)
    if unknown := sorted(name for name in unknown if not re.fullmatch(ignored, name)):
        raise ValueError(f"it has {len(unknown)} unknown tensors: {', '.join(unknown[:4])}")


def name_tensors(values: Mapping[str, np.ndarray], rules: Rules) -> dict[str, np.ndarray]:
    """The values of variables by their paths, as the tensors of a file in torch's layout."""
    tensors = {}
    for path, value in values.items():
        names, shape, axes = _file_layout(path, value.shape, rules)
        arrays = np.split(value, len(names), axis=min(1, len(names) - 1))
        for name, array in zip(names, arrays, strict=True):
            tensors[name] = np.ascontiguousarray(array.reshape(shape).transpose(axes), np.float32)
    return tensors


def _file_layout(
    path: str, shape: tuple[int, ...], rules: Rules
) -> tuple[list[str], tuple[int, ...], tuple[int, ...]]:
    """How a file holds a variable: names of tensors, their shape, and torch's order of axes."""
    layer, _, weight = path.rpartition("/")
    names = [name_of(path, rules)]
    if weight == "class_token":  # one tensor for each token before the patches
        names.append(re.sub(r"(cls|class)_token$", "distillation_token", names[0]))
        names, shape = names[: shape[1]], (1, 1, shape[2])
    elif path == "text_embedding/position_embedding":
        shape = shape[1:]
    elif weight == "bias":
        shape = (math.prod(shape),)
    elif weight == "kernel" and layer.endswith("patch_projection"):
        side = math.isqrt(shape[0] // 3)
        shape = (side, side, 3, shape[1])
    elif weight == "kernel" and len(shape) == 3:
        width = shape[2] if layer.endswith("attention_output") else shape[0]
        shape = (width, width)
    axes = _TORCH_AXES[len(shape)] if weight == "kernel" else tuple(range(len(shape)))
    return names, shape, axes


def require_finite(tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Refuses tensors with values that are not finite."""
    for name, value in tensors.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{where}: {name} has values that are not finite")
