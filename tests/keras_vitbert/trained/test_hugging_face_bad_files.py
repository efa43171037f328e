"""Folders of Hugging Face models that are old, damaged or of another kind."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy

from keras_vitbert.experiments.pretraining.teachers import load_teacher
from tests.keras_vitbert.trained.stored_models import assert_close, call, expected
from tests.keras_vitbert.trained.student import data


def old_names(folder):
    """Names as the first checkpoints have them, under a prefix of a wrapper."""
    path = folder / "model.safetensors"
    tensors = safetensors.numpy.load_file(path)
    renamed = {}
    for name, value in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        renamed["module." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    renamed["module.bert.embeddings.position_ids"] = np.arange(19)[None]
    safetensors.numpy.save_file(renamed, path)


def test_names_of_old_checkpoints(config, copy):
    folder = copy("bert")
    old_names(folder)
    batch, wanted = expected("bert")
    assert_close(call(load_teacher("text", str(folder), config, data()), batch), wanted)


def test_weights_that_are_not_there(refused, copy):
    folder = copy("vit")
    (folder / "model.safetensors").unlink()
    refused("image", folder, "model.safetensors")
    folder = copy("masked_lm")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused("text", folder, "model-00002-of-00002.safetensors")


def test_odd_tokens(refused, copy, added=({"content": "x", "id": 39},)):
    folder = copy("bert")
    tokens = (folder / "vocab.txt").read_text().split()
    (folder / "vocab.txt").unlink()
    vocabulary = {token: number for number, token in enumerate(tokens)}
    content = {"model": {"vocab": vocabulary}, "added_tokens": added}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refused("text", folder, "cannot be read")


def test_damaged_weights(refused, copy):
    path = copy("vit") / "model.safetensors"
    content = path.read_bytes()
    for damaged in (content[:-7], b"", struct.pack("<Q", 9) + b"damaged"):
        path.write_bytes(damaged)
        refused("image", path.parent, "model.safetensors")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("bert", {"num_hidden_layers": 3}, r"bert\.encoder\.layer\.2\."),
        ("bert", {"hidden_act": "quick"}, "hidden_act='quick'"),
        ("bert", {"is_decoder": True}, "is_decoder=True"),
        ("bert", {"type_vocab_size": 1}, "type_vocab_size=1"),
        ("bert", {"vocab_size": 36}, "vocabulary"),
        ("bert", {"architectures": []}, "BertForPreTraining"),
        ("vit_model", {"pooler_act": "gelu"}, "pooler_act='gelu'"),
        ("vit", {"image_size": [9, 12]}, r"image_size=\[9, 12\]"),
    ],
)
def test_other_configs(refused, copy, name, change, message):
    folder = copy(name)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**content, **change}))
    refused("text" if "bert" in name else "image", folder, message)


def test_a_bad_preprocessor(refused, copy):
    folder = copy("vit")
    nan = float("nan")
    for content in (
        *({"image_mean": [1, 2]}, {"image_std": [1, 0, 1]}, {"image_mean": [nan] * 3}),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(content))
        refused("image", folder, "cannot be read")
