"""Folders of Hugging Face models that are damaged or of another kind."""

import numpy as np
import pytest


def test_weights_that_are_not_there_or_damaged(refused, changed):
    path = changed("vit") / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    refused(path.parent, "model.safetensors")
    path.unlink()
    refused(path.parent, "model.safetensors")
    folder = changed("masked_lm")
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, "model-00002-of-00002.safetensors")


@pytest.mark.parametrize(
    ("tensors", "culprit"),
    [
        ({"classifier.bias": None}, "classifier.bias"),
        ({"x": np.ones(1)}, "unknown tensors: x"),
        ({"vit.layernorm.bias": np.ones((1, 3))}, r"vit.layernorm.bias"),
        ({"classifier.bias": np.ones(3, np.int8)}, "classifier.bias"),
        ({"classifier.bias": np.array([1, np.inf, 0])}, "classifier.bias"),
    ],
)
def test_tensors_of_another_model(refused, changed, tensors, culprit):
    refused(changed("vit", {}, tensors), culprit)


@pytest.mark.parametrize(
    ("name", "config", "culprit"),
    [
        ("bert", {"num_hidden_layers": 3}, r"bert\.encoder\.layer\.2\."),
        ("bert", {"hidden_act": "quick"}, "hidden_act='quick'"),
        ("bert", {"is_decoder": True}, "is_decoder=True"),
        ("bert", {"vocab_size": 36}, "vocabulary"),
        ("bert", {"architectures": []}, "BertForPreTraining"),
        ("vit", {"image_size": [9, 12]}, r"image_size=\[9, 12\]"),
    ],
)
def test_configs_of_another_model(refused, changed, name, config, culprit):
    refused(changed(name, config), culprit)


def test_vocabularies_that_encode_no_text(refused, changed):
    folder = changed("bert", tokenizer={"model": {"vocab": {"[PAD]": 0, "word": 2}}})
    tokens = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(tokens.replace("[MASK]", "maskless"))
    refused(folder, "vocab.txt")
    (folder / "vocab.txt").unlink()
    refused(folder, "tokenizer.json")


@pytest.mark.parametrize("content", [{"image_mean": [1, 2]}, {"image_std": [1, 0, 1]}])
def test_a_bad_preprocessor(refused, changed, content):
    refused(changed("vit", preprocessor_config=content), "preprocessor_config.json")
