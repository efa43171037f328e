"""Our backbone with a ViT's weights, checked against Hugging Face's transformers."""

import numpy as np

from keras_vitbert.importing.hugging_face import read_vit
from keras_vitbert.importing.vit_backbone import import_backbone
from keras_vitbert.trained.finding import find
from tests.keras_vitbert.importing.stored_models import FIXTURES, image_tokens


def test_tokens_of_a_vit_without_a_head():
    """With the usual mean and deviation of 0.5 only the bias folds."""
    backbone = import_backbone(find(str(FIXTURES / "vit_model")))
    tokens, stored = image_tokens(backbone, "vit_model")
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5)


def test_logits_of_a_vit_with_its_own_mean_and_deviation():
    source = find(str(FIXTURES / "vit"))
    tensors = read_vit(source).tensors
    tokens, stored = image_tokens(import_backbone(source), "vit")
    logits = tokens[:, 0] @ tensors["classifier.weight"].T + tensors["classifier.bias"]
    np.testing.assert_allclose(logits, stored["image_logits"], rtol=0, atol=1e-5)


def test_a_note_on_gelu_by_tanh(capsys):
    import_backbone(find(str(FIXTURES / "vit_half")))
    assert "vit_half: approximates GELU by tanh" in capsys.readouterr().err
