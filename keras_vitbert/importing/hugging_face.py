"""Reads a model's folder as Hugging Face's transformers write it.

config.json, model.safetensors or its shards, and what belongs to the model: `vocab.txt` or
`tokenizer.json`, `preprocessor_config.json`. Files that run code when they are read
(`pytorch_model.bin`) are refused.
"""

import os
import re

import ml_dtypes  # noqa: F401  (by which NumPy, and so safetensors, knows bfloat16)
import safetensors

from keras_vitbert.importing.bert_weights import BERT_ARCHITECTURES, BertWeights
from keras_vitbert.importing.sources import read_json, read_text
from keras_vitbert.importing.vit_weights import IMAGE_ARCHITECTURES, VitWeights
from pipelines.command_line import UserError, one_line

_HALF = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # what DeiT was trained with
# Names of transformers 5, where they are written as they are used there.
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
    """`BertWeights` of a `BertForPreTraining` or `BertForMaskedLM`.

    Args:
        source: `sources.Source`.

    Raises:
        UserError: it is another model, or a part is missing or damaged.
    """
    architecture = _architecture(source, BERT_ARCHITECTURES, "text")
    vocabulary = read_vocabulary(source.path, source.label)
    tensors = _trunk_named(read_tensors(source.path, source.label), "bert")
    tensors = {
        re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name): value
        for name, value in tensors.items()
    }
    tensors = {
        re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name): value
        for name, value in tensors.items()
    }
    return BertWeights.checked(source.config, tensors, vocabulary, source.label, architecture)


def read_vit(source, architectures=IMAGE_ARCHITECTURES):
    """`VitWeights` of a ViT or DeiT.

    Args:
        source: `sources.Source`.
        architectures: tuple of str, those that are taken.

    Raises:
        UserError: it is another model, or a part is missing or damaged.
    """
    architecture = _architecture(source, architectures, "image")
    trunk = "deit" if architecture.startswith("DeiT") else "vit"
    tensors = read_tensors(source.path, source.label)
    for old, new in _NEW_VIT_NAMES:
        tensors = {re.sub(old, new, name): value for name, value in tensors.items()}
    mean, std = _mean_and_std(source, trunk)
    return VitWeights.checked(
        {**source.config, "model_type": trunk, "architectures": [architecture]},
        _trunk_named(tensors, trunk),
        mean,
        std,
        _labels(source),
        source.label,
    )


def read_tensors(folder, label):
    """All tensors of a folder's safetensors files: dict of name to array.

    Raises:
        UserError: there is none, or a file is missing or damaged.
    """
    index = read_json(os.path.join(folder, "model.safetensors.index.json"), label)
    if index is None:
        files = ["model.safetensors"]
    else:
        weight_map = index.get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise UserError(f"{label}: model.safetensors.index.json lists no file; bring it back")
        files = sorted(set(weight_map.values()))
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
            raise UserError(f"{label}: {file} is missing; bring it back")
        try:
            with safetensors.safe_open(path, framework="np") as opened:
                for name in opened.keys():  # it is no dict
                    tensors[name] = opened.get_tensor(name)
        except (safetensors.SafetensorError, OSError, TypeError, ValueError) as error:
            raise UserError(
                f"{label}: {file} is damaged ({one_line(error)}); bring it back"
            ) from error
    return tensors


def read_vocabulary(folder, label):
    """The tokens of `vocab.txt`, or of a WordPiece `tokenizer.json`: list of str.

    Raises:
        UserError: there is none, or it is damaged.
    """
    text = read_text(os.path.join(folder, "vocab.txt"), label)
    if text is not None:
        return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]
    content = read_json(os.path.join(folder, "tokenizer.json"), label)
    if content is None:
        raise UserError(
            f"{label}: has no vocab.txt and no tokenizer.json; bring one of them, which tells its "
            "vocabulary"
        )
    model = content.get("model")
    if not isinstance(model, dict) or not isinstance(model.get("vocab"), dict):
        raise UserError(f"{label}: tokenizer.json holds no WordPiece vocabulary; bring vocab.txt")
    ids = dict(model["vocab"])
    for token in content.get("added_tokens") or []:
        ids.setdefault(token["content"], token["id"])
    if sorted(ids.values()) != list(range(len(ids))):
        raise UserError(f"{label}: tokenizer.json leaves out some ids; bring vocab.txt")
    return sorted(ids, key=ids.get)


def _architecture(source, taken, kind):
    """The one of `taken` that the config tells."""
    names = source.config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in taken:
        found = name or f"a {source.config.get('model_type')} of no architecture"
        raise UserError(
            f"{source.label}: is {found}, which is no {kind} model that is taken; give a "
            f"{', '.join(taken)}"
        )
    return name


def _trunk_named(tensors, trunk):
    """The same with the trunk's tensors as `TRUNK.*` and the heads' without a prefix."""
    anchor = {"bert": "embeddings.word_embeddings.weight"}.get(trunk, "embeddings.cls_token")
    found = min((name for name in tensors if name.endswith(anchor)), key=len, default=None)
    if found is None:
        return tensors
    prefix = found.removesuffix(anchor)
    outer = prefix.removesuffix(f"{trunk}.")
    inside = r"(embeddings|encoder|pooler|layernorm)\."
    result = {}
    for name, value in tensors.items():
        if name.startswith(prefix) and re.match(inside, name.removeprefix(prefix)):
            result[f"{trunk}.{name.removeprefix(prefix)}"] = value
        else:
            result[name.removeprefix(outer)] = value
    return result


def _mean_and_std(source, trunk):
    """What images in [0, 1] are normalised by: two tuples of three floats."""
    content = read_json(os.path.join(source.path, "preprocessor_config.json"), source.label)
    if content is None:
        return _IMAGENET if trunk == "deit" else (_HALF, _HALF)
    mean = std = (0.0, 0.0, 0.0)
    if content.get("do_normalize", True):
        mean, std = content.get("image_mean", _HALF), content.get("image_std", _HALF)
    else:
        std = (1.0, 1.0, 1.0)
    # Pixels from 0 to 255 times the factor are normalised; ours, from 0 to 1, times `scale`.
    scale = 255 * (content.get("rescale_factor", 1 / 255) if content.get("do_rescale", True) else 1)
    try:
        mean, std = (tuple(float(value) / scale for value in values) for values in (mean, std))
    except (TypeError, ValueError, ZeroDivisionError):
        mean = std = ()
    if len(mean) != 3 or len(std) != 3 or not all(std):
        raise UserError(
            f"{source.label}: preprocessor_config.json has image_mean={content.get('image_mean')} "
            f"and image_std={content.get('image_std')}; three numbers each, and no 0 in the "
            "second, are wanted"
        )
    return mean, std


def _labels(source):
    """The names of the classes in order, or None where the config tells none."""
    names = source.config.get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    try:
        by_id = {int(number): str(name) for number, name in names.items()}
    except ValueError:
        return None
    if sorted(by_id) != list(range(len(by_id))):
        return None
    labels = [by_id[number] for number in range(len(by_id))]
    is_default = all(re.fullmatch(rf"LABEL_{n}", name) for n, name in enumerate(labels))
    return None if is_default else labels
