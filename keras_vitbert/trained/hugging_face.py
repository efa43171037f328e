"""Reads a model's folder that Hugging Face's transformers wrote.

It holds `config.json`, and `model.safetensors` or its shards. For text it also holds `vocab.txt` or
`tokenizer.json`, for images `preprocessor_config.json`. Torch reads a `pytorch_model.bin`, if it is
installed, with `weights_only=True`; see `docs/security.md`.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

import ml_dtypes  # noqa: F401  (it teaches NumPy, and so safetensors, bfloat16)
import numpy as np
import safetensors
import tensorflow as tf

from keras_vitbert.trained import weight_names
from keras_vitbert.trained.architectures import (
    ARCHITECTURES,
    BERT_CONFIG,
    HALF,
    VIT_CONFIG,
    Imported,
    arguments_of,
    require,
)
from keras_vitbert.trained.finding import Source, read_json
from pipelines.command_line import one_line, say
from pipelines.text import wordpiece

Tensors = dict[str, np.ndarray]  # by name

_SAFE_TORCH = (2, 6)  # the first version whose `weights_only` is safe
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and std that DeiT uses
_OLD_BERT_NAMES = (
    (r"LayerNorm\.gamma$", "LayerNorm.weight"),
    (r"LayerNorm\.beta$", "LayerNorm.bias"),
)
# transformers 5 can save its own new names.
_NEW_VIT_NAMES = (
    (r"(?:^|(?<=\.))layers\.(\d+)\.", r"encoder.layer.\1."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_DISTILBERT_KEYS = {
    "dim": "hidden_size",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
}
_RULES = {
    "bert": weight_names.BERT,
    "distilbert": weight_names.DISTILBERT,
    "vit": weight_names.VIT,
    "deit": weight_names.DEIT,
}


def read(source: Source) -> Imported:
    """Reads a BERT, DistilBERT, ViT or DeiT."""
    [name, *_] = source.config.get("architectures") or [None]
    if name not in ARCHITECTURES:
        raise ValueError(f"its architecture is {name}; known are {', '.join(ARCHITECTURES)}")
    return _read_bert(source, name) if "Bert" in name else _read_vit(source, name)


def rules_of(architecture: str) -> weight_names.Rules:
    """How our variables are called in the files of an architecture."""
    if architecture.endswith("WithTeacher"):
        return weight_names.DEIT_WITH_TEACHER
    return _RULES[type_of(architecture)]


def type_of(architecture: str) -> str:
    """The name of a family of models, such as `bert`."""
    return re.split("For|Model", architecture)[0].lower()


def _read_bert(source: Source, architecture: str) -> Imported:
    config, rules = source.config, rules_of(architecture)
    if architecture.startswith("DistilBert"):
        config = {_DISTILBERT_KEYS.get(key, key): value for key, value in config.items()}
        config |= {"type_vocab_size": 0, "layer_norm_eps": 1e-12}
    tensors = _add_prefix(read_tensors(source.path), type_of(architecture))
    tensors = _rename_tensors(tensors, _OLD_BERT_NAMES)
    if "cls.predictions.decoder.bias" in tensors:
        tensors["cls.predictions.bias"] = tensors.pop("cls.predictions.decoder.bias")
    kinds, name = {}, weight_names.name_of
    decoder = tensors.get(name("mlm_head/logits/kernel", rules))
    words = tensors.get(name("text_embedding/word_embedding/embeddings", rules))
    tied = decoder is None or words is not None and np.array_equal(decoder, words)
    # As in transformers: a stored decoder that differs from the embedding is not tied.
    if "mlm" in ARCHITECTURES[architecture]:
        if not (tied and config.get("tie_word_embeddings", True)):
            kinds["mlm"] = "bert_untied"
    return Imported(
        *(architecture, arguments_of(config, BERT_CONFIG), tensors, rules, True),
        ignored=r"\w+\.embeddings\.position_ids",
        kinds=kinds,
        problem=config.get("problem_type"),
        vocabulary=read_vocabulary(source.path),
        lower_case=_lower_case(source),
        labels=_labels(config),
    )


def _read_vit(source: Source, architecture: str) -> Imported:
    config, type_ = source.config, type_of(architecture)
    arguments = arguments_of(config, VIT_CONFIG)
    content = read_json(os.path.join(source.path, "preprocessor_config.json"))
    if content is None:
        mean_and_std = _IMAGENET if type_ == "deit" else (HALF, HALF)
    else:
        mean_and_std = _mean_and_std(content)
    arguments["image_mean"], arguments["image_std"] = mean_and_std
    if architecture.endswith("Model"):
        pooler_act = config.get("pooler_act", "tanh")  # of transformers 5
        require(pooler_act == "tanh", "pooler_act", pooler_act)
    tensors = _add_prefix(_rename_tensors(read_tensors(source.path), _NEW_VIT_NAMES), type_)
    return Imported(
        *(architecture, arguments, tensors, rules_of(architecture), True),
        ignored=r"\w+\.embeddings\.mask_token",
        lacking=weight_names.NOTHING
        if config.get("qkv_bias", True)
        else "/(query|key|value)/bias$",
        problem=config.get("problem_type"),
        labels=_labels(config),
        central_crop=_central_crop(content or {}),
    )


def read_tensors(folder: str) -> Tensors:
    """All tensors of a folder, from its safetensors files or else from its torch files."""
    names, usual = os.listdir(folder), "model.safetensors"
    if not {usual, f"{usual}.index.json"}.intersection(names):
        torchs = "pytorch_model.bin"
        usual = torchs if {torchs, f"{torchs}.index.json"}.intersection(names) else usual
    index = read_json(os.path.join(folder, f"{usual}.index.json"))
    read, tensors = _read_torch if usual.endswith(".bin") else _read_safetensors, {}
    for file in [usual] if index is None else sorted(set(index["weight_map"].values())):
        try:
            tensors |= read(os.path.join(folder, os.path.basename(file)))
        # safetensors and torch raise many kinds, including the unpickler's.
        except Exception as error:
            raise ValueError(f"{file}: cannot be read ({one_line(error)[:160]})") from error
    return tensors


def _read_safetensors(path: str) -> Tensors:
    with safetensors.safe_open(path, framework="np") as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}


def _read_torch(path: str) -> Tensors:
    import torch  # pyright: ignore[reportMissingImports]

    if tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < _SAFE_TORCH:
        raise ValueError(
            f"torch {torch.__version__} may run code from it, CVE-2025-32434; upgrade torch"
        )
    content = torch.load(path, map_location="cpu", weights_only=True)
    return {  # NumPy has no bfloat16
        name: (value.float() if value.is_floating_point() else value).detach().numpy()
        for name, value in content.items()
    }


def _rename_tensors(tensors: Tensors, patterns: weight_names.Rules) -> Tensors:
    """The same tensors under the names that `re.sub` makes by each pattern."""
    return {weight_names.name_of(name, patterns): value for name, value in tensors.items()}


def _add_prefix(tensors: Tensors, model_type: str) -> Tensors:
    """Names the backbone's tensors `MODEL_TYPE.*`, and the heads' without a prefix."""
    common = os.path.commonprefix(list(tensors))
    common = common[: common.rfind(".") + 1]  # such as `module.`
    inside = rf"^(?:{model_type}\.)?(?=(embeddings|encoder|transformer|pooler|layernorm)\.)"
    return _rename_tensors(tensors, ((rf"^{re.escape(common)}", ""), (inside, f"{model_type}.")))


def read_vocabulary(folder: str) -> list[str]:
    """The tokens of `vocab.txt`, or of a WordPiece `tokenizer.json`, in the order of their ids."""
    path = os.path.join(folder, "vocab.txt")
    if tf.io.gfile.exists(path):
        return wordpiece.read_vocabulary(path)
    content = read_json(os.path.join(folder, "tokenizer.json"))
    if content is None:
        raise ValueError("there is no vocab.txt and no tokenizer.json")
    ids = dict(content["model"]["vocab"])
    for token in content.get("added_tokens") or []:
        ids.setdefault(token["content"], token["id"])
    if sorted(ids.values()) != list(range(len(ids))):
        raise ValueError("tokenizer.json leaves out some ids; add vocab.txt")
    return sorted(ids, key=ids.__getitem__)


def _lower_case(source: Source) -> bool | None:
    """Whether texts are lower-cased, or None if no file says so."""
    content = read_json(os.path.join(source.path, "tokenizer_config.json")) or {}
    unlike = ["tokenize_chinese_chars"] if content.get("tokenize_chinese_chars") is False else []
    if content.get("do_lower_case", True) and content.get("strip_accents") is False:
        unlike.append("strip_accents")
    if unlike:
        keys = ", ".join(f"{key}=False" for key in unlike)
        say(f"{source.label}: its tokenizer has {keys}; here texts are tokenized as by BERT's own")
    lower_case = content.get("do_lower_case")
    if not isinstance(lower_case, bool):
        content = read_json(os.path.join(source.path, "tokenizer.json")) or {}
        lower_case = (content.get("normalizer") or {}).get("lowercase")
    return lower_case if isinstance(lower_case, bool) else None


def _mean_and_std(content: Mapping[str, Any]) -> tuple[Any, Any]:
    """The mean and std that normalise images in [0, 1]: two tuples of three floats."""
    if content.get("do_normalize", True):
        mean, std = content.get("image_mean", HALF), content.get("image_std", HALF)
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # Theirs normalise `rescale_factor` times pixels in [0, 255], `scale` times ours in [0, 1].
    factor = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1
    scale = 255 * float(factor)
    mean, std = (tuple(float(value) / scale for value in values) for values in (mean, std))
    if len(mean) != 3 or len(std) != 3 or not all(std) or not np.isfinite([mean, std]).all():
        raise ValueError(
            "preprocessor_config.json: image_mean and image_std need three numbers each, image_std "
            "and rescale_factor no zeros"
        )
    return mean, std


def _central_crop(content: Mapping[str, Any]) -> float:
    """The fraction of an image's shorter side that is used: all, if nothing is cropped."""
    sizes = []
    for key in ("crop_size", "size"):
        size = content.get(key)
        if isinstance(size, dict):
            size = max((side for side in size.values() if isinstance(side, int)), default=0)
        sizes.append(size if isinstance(size, int) else 0)
    if not content.get("do_center_crop") or not 0 < sizes[0] <= sizes[1]:
        return 1.0
    return sizes[0] / sizes[1]


def _labels(config: Mapping[str, Any]) -> list[str] | None:
    """The class names in order, if the config has any."""
    names = config.get("id2label") or {}
    labels = [names[key] for key in map(str, range(len(names))) if key in names]
    is_default = all(name == f"LABEL_{number}" for number, name in enumerate(labels))
    return None if is_default or len(labels) < len(names) else labels
