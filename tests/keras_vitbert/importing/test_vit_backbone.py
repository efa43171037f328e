"""Our backbone with a ViT's weights, checked against Hugging Face's transformers."""

import numpy as np

from keras_vitbert.importing.vit_backbone import build_backbone, read_vit
from keras_vitbert.trained.finding import find
from tests.keras_vitbert.importing.stored_models import FIXTURES, image_tokens


def test_tokens_of_a_vit_without_a_head():
    """With the usual mean and deviation of 0.5 only the bias folds."""
    weights = read_vit(find(str(FIXTURES / "vit_model")))
    tokens, stored = image_tokens(build_backbone(weights, "vit"), "vit_model")
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5)


def test_logits_of_a_vit_with_its_own_mean_and_deviation():
    weights = read_vit(find(str(FIXTURES / "vit")))
    tokens, stored = image_tokens(build_backbone(weights, "vit"), "vit")
    logits = tokens[:, 0] @ weights.tensors["classifier.weight"].T
    logits += weights.tensors["classifier.bias"]
    np.testing.assert_allclose(logits, stored["image_logits"], rtol=0, atol=1e-5)


def test_a_note_on_gelu_by_tanh(capsys):
    build_backbone(read_vit(find(str(FIXTURES / "vit_half"))), "half")
    assert capsys.readouterr().err.startswith("half: approximates GELU by tanh")
