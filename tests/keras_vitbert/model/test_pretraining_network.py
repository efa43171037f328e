"""The whole network: its logits, its dtypes, its size, and what is saved of it."""

import keras
import numpy as np
import pytest

from keras_vitbert.configs.model import SIZES
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from tests.keras_vitbert.training import reference

PATCH = 3


def close(actual, expected, atol=1e-5):
    """float32 rounds a hundred additions of numbers around 1 to a few 1e-6."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=atol)


def test_keras_files_round_trip(make_network, tiny, batch, tmp_path):
    network = make_network(3, dtype="mixed_bfloat16")
    for model in (network, build_classifier(tiny, {"text": 3})):
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert type(loaded) is type(model)
        assert loaded.backbone.dtype_policy == model.backbone.dtype_policy
        keras.tree.map_structure(np.testing.assert_array_equal, loaded(batch), model(batch))


def test_network_is_equations_1_to_6(network, batch):
    weights = reference.weights_of(network)
    expected = {
        **reference.image_logits(batch, weights, PATCH),
        **reference.text_logits(batch, weights),
    }
    logits = network(batch)
    assert set(logits) == set(expected)
    for name, value in logits.items():
        # float32 rounds a hundred additions of numbers around 1 to a few 1e-6.
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_base_network_has_the_papers_size():
    """Counted by hand for D = 768, MLP 3072, 12 layers, 224 px, V = 30,000, T = 512, C = 1000."""
    attention = 4 * (768 * 768 + 768)  # query, key, value, output
    mlp = (768 * 3072 + 3072) + (3072 * 768 + 768)
    shared = 12 * (attention + mlp + 4 * 768) + 2 * 768  # with the norms
    image = 16 * 16 * 3 * 768 + 768 + 197 * 768  # projection, class token, positions
    text = 30_000 * 768 + 512 * 768 + 2 * 768
    heads = 3 * (768 * 768 + 768) + (768 + 1) * (1000 + 30_000 + 2)
    assert shared + image + text + heads == 134_844_954

    model = {"image_size": 224, "patch_size": 16, "num_classes": 1000}
    model |= {"vocabulary_size": 30_000, "max_sequence_length": 512}
    network = build_network({**SIZES["base"], **model})
    assert network.count_params() == 134_844_954
    assert sum(np.prod(v.shape) for v in network.backbone.shared_variables) == shared


@pytest.mark.parametrize("position", [-1, 7])
def test_masked_positions_of_other_tokens_are_refused(network, batch, position):
    """A negative one would be a token of the text before, one too large of the next text."""
    wrong = {**batch, "masked_positions": np.full_like(batch["masked_positions"], position)}
    with pytest.raises(ValueError, match=rf"masked_positions: {position} is not in \[0, 7\)"):
        network(wrong)
