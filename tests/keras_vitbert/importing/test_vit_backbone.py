"""Our backbone with a ViT's weights gives the numbers that Hugging Face's transformers give."""

import os
import pathlib

import numpy as np
import pytest

from keras_vitbert import convert
from keras_vitbert.importing.vit_backbone import build_backbone, read_vit
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import load
from pipelines.command_line import run

FIXTURES = pathlib.Path(__file__).parent / "fixtures"


def class_token(backbone, name):
    stored = np.load(FIXTURES / name / "expected.npz")
    return np.asarray(backbone({"images": stored["images"]})["image_sequence"]), stored


def test_tokens_of_a_vit_without_a_head():
    """With the usual mean and deviation of 0.5: only the bias folds."""
    weights = read_vit(find(str(FIXTURES / "vit_model")))
    tokens, stored = class_token(build_backbone(weights, "vit"), "vit_model")
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5)


def test_logits_of_a_vit_with_its_own_mean_and_deviation():
    weights = read_vit(find(str(FIXTURES / "vit")))
    tokens, stored = class_token(build_backbone(weights, "vit"), "vit")
    logits = tokens[:, 0] @ weights.tensors["classifier.weight"].T
    logits += weights.tensors["classifier.bias"]
    np.testing.assert_allclose(logits, stored["image_logits"], rtol=0, atol=1e-5)


def test_gelu_by_tanh_is_told(capsys):
    build_backbone(read_vit(find(str(FIXTURES / "vit_half"))), "half")
    assert capsys.readouterr().err.startswith("half: approximates GELU by tanh")


def test_the_command_writes_a_preset(tmp_path, capsys):
    folder, source = str(tmp_path / "preset"), str(FIXTURES / "vit_model")
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"backbone of vit_model: {folder}\n"
    trained = load(folder)
    tokens, stored = class_token(trained.backbone, "vit_model")
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5)
    card = (tmp_path / "preset" / "README.md").read_text()
    assert "trained by others" in card and "## Training" not in card
    assert trained.backbone.layer_norm_epsilon == 1e-3 and trained.heads == {}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bert", "is a BERT, which normalises after its blocks"),
        ("deit", "DeiT"),
        ("", "--checkpoint="),
    ],
)
def test_what_cannot_be_ours_is_refused(name, message, tmp_path, capsys):
    source = str(FIXTURES / name) if name else str(tmp_path / "nothing")
    flags = [f"--checkpoint={source}", f"--output_dir={tmp_path}/preset"]
    assert run(convert.main, flags) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not os.listdir(tmp_path)
