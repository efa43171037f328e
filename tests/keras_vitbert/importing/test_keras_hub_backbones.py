"""keras-hub's backbones with imported weights."""

import numpy as np

from keras_vitbert.importing.hugging_face import read_vit
from keras_vitbert.importing.keras_hub_backbones import build_vit
from keras_vitbert.trained.finding import find
from tests.keras_vitbert.importing.stored_models import FIXTURES


def test_the_encoder_of_a_vit():
    weights = read_vit(find(str(FIXTURES / "vit_model")), ("ViTModel",))
    assert weights.heads == ()
    assert weights.scale.tolist() == [2, 2, 2] and weights.offset.tolist() == [-1, -1, -1]
    stored = np.load(FIXTURES / "vit_model" / "expected.npz")
    tokens = build_vit(weights)((stored["images"] - 0.5) / 0.5)
    scale = np.abs(stored["tokens"]).max()
    np.testing.assert_allclose(tokens, stored["tokens"], rtol=0, atol=1e-5 * scale)
