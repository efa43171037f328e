"""The whole network: its logits, its dtypes, its size, and what is saved of it."""

import keras
import numpy as np
import pytest

from keras_vitbert.configs.model import SIZES
from keras_vitbert.model.pretraining_network import PreTrainingNetwork, build_network
from tests.keras_vitbert.training import reference

PATCH = 3


def close(actual, expected, atol=1e-5):
    """float32 rounds a hundred additions of numbers around 1 to a few 1e-6."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=atol)


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(0)


@pytest.mark.parametrize(
    "dtype, sides, logits",
    [
        ("float32", {"images": False}, {"mlm_logits", "nsp_logits"}),
        ("mixed_bfloat16", {}, {"image_logits", "mlm_logits", "nsp_logits"}),
    ],
)
def test_network_keras_file_round_trip(make_network, batch, tmp_path, dtype, sides, logits):
    network = make_network(3, dtype=dtype, **sides)
    network.save(tmp_path / "network.keras")
    loaded = keras.saving.load_model(tmp_path / "network.keras")
    assert isinstance(loaded, PreTrainingNetwork)
    assert loaded.backbone.dtype_policy.name == dtype
    expected, values = network(batch), loaded(batch)
    assert set(expected) == set(values) == logits
    for name, value in values.items():
        np.testing.assert_array_equal(value, expected[name])


def test_network_is_equations_1_to_6(network, batch):
    weights = reference.weights_of(network)
    expected = {
        **reference.image_logits(batch, weights, PATCH),
        **reference.text_logits(batch, weights),
    }
    logits = network(batch)
    assert set(logits) == set(expected)
    for name, value in logits.items():
        close(value, expected[name])


@pytest.mark.slow
def test_base_network_has_the_papers_size():
    """Counted by hand for D = 768, MLP 3072, 12 layers, 224 px, V = 30,000, T = 512, C = 1000."""
    attention = 4 * (768 * 768 + 768)  # query, key, value, output
    mlp = (768 * 3072 + 3072) + (3072 * 768 + 768)
    norms = 2 * (768 + 768)
    block = attention + mlp + norms
    assert block == 7_087_872
    image = 16 * 16 * 3 * 768 + 768 + 197 * 768  # projection, class token, positions
    text = 30_000 * 768 + 512 * 768 + 2 * 768
    head = 768 * 768 + 768

    def logits(classes):
        return 768 * classes + classes

    heads = 3 * head + logits(1000) + logits(30_000) + logits(2)
    total = 12 * block + 2 * 768 + image + text + heads
    assert total == 134_844_954

    model = {"image_size": 224, "patch_size": 16, "num_classes": 1000}
    model |= {"vocabulary_size": 30_000, "max_sequence_length": 512}
    network = build_network({**SIZES["base"], **model})
    assert network.count_params() == total
    assert sum(np.prod(v.shape) for v in network.backbone.shared_variables) == 12 * block + 1536


@pytest.mark.parametrize("position", [-1, 7])
def test_masked_positions_of_other_tokens_are_refused(network, batch, position):
    """A negative one would be a token of the text before, one too large of the next text."""
    wrong = {**batch, "masked_positions": np.full_like(batch["masked_positions"], position)}
    with pytest.raises(ValueError, match=rf"masked_positions: {position} is not in \[0, 7\)"):
        network(wrong)
    sequence = np.zeros((4, 7, 8), np.float32)
    with pytest.raises(ValueError, match=rf"masked_positions: {position} is not in \[0, 7\)"):
        network.mlm_head(sequence, wrong["masked_positions"])
