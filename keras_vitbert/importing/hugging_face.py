"""Reads a model's folder as Hugging Face's transformers write it.

It holds `config.json`, `model.safetensors` or its shards, and for text `vocab.txt` or
`tokenizer.json`, for images `preprocessor_config.json`. Files that can run code when they are read
(`pytorch_model.bin`) are refused.
"""

import os
import re

import ml_dtypes  # noqa: F401  (it teaches NumPy, and so safetensors, bfloat16)
import numpy as np
import safetensors

from keras_vitbert.importing.bert_weights import BERT_ARCHITECTURES, BertWeights
from keras_vitbert.importing.sources import read_json, read_text
from keras_vitbert.importing.tensors import renamed
from keras_vitbert.importing.vit_weights import IMAGE_ARCHITECTURES, VitWeights
from pipelines.command_line import UserError, one_line

_HALF = (0.5, 0.5, 0.5)
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


def read_bert(source):
    """Reads a `BertForPreTraining` or `BertForMaskedLM`.

    Args:
        source: `sources.Source`.

    Returns:
        `BertWeights`.

    Raises:
        UserError: it is another model, or a part is missing or damaged.
    """
    architecture = _architecture(source, BERT_ARCHITECTURES, "text")
    vocabulary = read_vocabulary(source.path, source.label)
    tensors = _with_prefix(read_tensors(source.path, source.label), "bert")
    tensors = renamed(tensors, _OLD_BERT_NAMES)
    return BertWeights.checked(source.config, tensors, vocabulary, source.label, architecture)


def read_vit(source, architectures=IMAGE_ARCHITECTURES):
    """Reads a ViT or DeiT.

    Args:
        source: `sources.Source`.
        architectures: tuple of str, those that are accepted.

    Returns:
        `VitWeights`.

    Raises:
        UserError: it is another model, or a part is missing or damaged.
    """
    architecture = _architecture(source, architectures, "image")
    model_type = "deit" if architecture.startswith("DeiT") else "vit"
    tensors = renamed(read_tensors(source.path, source.label), _NEW_VIT_NAMES)
    mean, std = _mean_and_std(source, model_type)
    return VitWeights.checked(
        {**source.config, "model_type": model_type, "architectures": [architecture]},
        _with_prefix(tensors, model_type),
        mean,
        std,
        _labels(source),
        source.label,
    )


def read_tensors(folder, label):
    """Reads all tensors of a folder's safetensors files.

    Args:
        folder: str.
        label: str, the folder's name in messages.

    Returns:
        dict of name to array.

    Raises:
        UserError: there are none, or a file is missing or damaged.
    """
    index = read_json(os.path.join(folder, "model.safetensors.index.json"), label)
    if index is None:
        files = ["model.safetensors"]
    else:
        weight_map = index.get("weight_map")
        names = list(weight_map.values()) if isinstance(weight_map, dict) else []
        if not names or not all(isinstance(name, str) for name in names):
            raise UserError(f"{label}: model.safetensors.index.json lists no file; restore it")
        files = sorted(set(names))
    tensors = {}
    for file in files:
        path = os.path.join(folder, os.path.basename(file))
        if not os.path.exists(path):
            if os.path.exists(os.path.join(folder, "pytorch_model.bin")):
                raise UserError(
                    f"{label}: has its weights in pytorch_model.bin, which can run any code when "
                    "it is read; load it with transformers, if you trust it, and save_pretrained "
                    "writes model.safetensors"
                )
            raise UserError(f"{label}: {file} is missing; restore it")
        try:
            with safetensors.safe_open(path, framework="np") as opened:
                for name in opened.keys():  # not a dict
                    tensors[name] = opened.get_tensor(name)
        except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"{label}: {file} is damaged ({one_line(error)}); restore it"
            ) from error
    return tensors


def read_vocabulary(folder, label):
    """Reads the tokens of `vocab.txt`, or of a WordPiece `tokenizer.json`.

    Args:
        folder: str.
        label: str, the folder's name in messages.

    Returns:
        list of str.

    Raises:
        UserError: there is neither file, or it is damaged.
    """
    text = read_text(os.path.join(folder, "vocab.txt"), label)
    if text is not None:
        return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    content = read_json(os.path.join(folder, "tokenizer.json"), label)
    if content is None:
        raise UserError(
            f"{label}: has no vocab.txt and no tokenizer.json; add one of them, which holds its "
            "vocabulary"
        )
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise UserError(f"{label}: tokenizer.json holds no WordPiece vocabulary; add vocab.txt")
    ids = dict(model["vocab"])
    try:
        for token in content.get("added_tokens") or []:
            ids.setdefault(token["content"], token["id"])
        is_whole = sorted(ids.values()) == list(range(len(ids)))
    except (TypeError, KeyError) as error:
        raise UserError(
            f"{label}: tokenizer.json has odd tokens ({one_line(error)}); add vocab.txt"
        ) from error
    if not is_whole:
        raise UserError(f"{label}: tokenizer.json leaves out some ids; add vocab.txt")
    return sorted(ids, key=ids.get)


def _architecture(source, taken, kind):
    """The architecture that the config names, if it is among `taken`."""
    names = source.config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in taken:
        found = name or f"a {source.config.get('model_type')} of no architecture"
        raise UserError(
            f"{source.label}: is {found}, which is not an accepted {kind} model; give a "
            f"{', '.join(taken)}"
        )
    return name


def _with_prefix(tensors, model_type):
    """Names the backbone's tensors `MODEL_TYPE.*`, and the heads' without a prefix."""
    common = re.match(r"(.*\.)?", os.path.commonprefix(list(tensors)))[0]  # such as `module.`
    inside = rf"^(?:{model_type}\.)?(?=(embeddings|encoder|pooler|layernorm)\.)"
    return renamed(tensors, ((rf"^{re.escape(common)}", ""), (inside, f"{model_type}.")))


def _mean_and_std(source, model_type):
    """What normalises images in [0, 1]: two tuples of three floats."""
    content = read_json(os.path.join(source.path, "preprocessor_config.json"), source.label)
    if content is None:
        return _IMAGENET if model_type == "deit" else (_HALF, _HALF)
    if content.get("do_normalize", True):
        mean, std = content.get("image_mean", _HALF), content.get("image_std", _HALF)
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    # There `rescale_factor` times pixels in [0, 255] is normalised; here `scale` times [0, 1].
    factor = content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1
    try:
        scale = 255 * float(factor)
        mean, std = (tuple(float(value) / scale for value in values) for values in (mean, std))
    except (TypeError, ValueError, ZeroDivisionError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not all(std) or not np.isfinite([mean, std]).all():
        raise UserError(
            f"{source.label}: preprocessor_config.json has image_mean={content.get('image_mean')}, "
            f"image_std={content.get('image_std')} and rescale_factor={factor}; three numbers, "
            "three others than 0, and one are needed"
        )
    return mean, std


def _labels(source):
    """The class names in order, or None if the config has none."""
    names = source.config.get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    try:
        by_id = {int(number): str(name) for number, name in names.items()}
        labels = [by_id[number] for number in range(len(by_id))]
    except (ValueError, KeyError):
        return None
    is_default = all(re.fullmatch(rf"LABEL_{n}", name) for n, name in enumerate(labels))
    return None if is_default else labels
