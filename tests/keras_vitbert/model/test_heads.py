import keras
import numpy as np
import pytest

from keras_vitbert.model.heads import MaskedLMHead, MLPHead
from tests.keras_vitbert.training import reference

RNG = np.random.default_rng(0)
SEQUENCE = RNG.normal(size=(3, 6, 8)).astype(np.float32)
POSITIONS = np.array([[5, 0], [2, 2], [1, 4]], np.int32)


@pytest.fixture
def built(randomize):
    def build(head, *shapes):
        head.build(*shapes)
        randomize(head, 1)
        return head, reference.part(reference.weights_of(head), head.name)

    return build


def test_mlp_head_is_equations_5_and_6(built):
    head, weights = built(MLPHead(5), (None, 8))
    assert weights["hidden/kernel"].shape == (8, 8)
    assert weights["logits/kernel"].shape == (8, 5)
    np.testing.assert_allclose(
        head(SEQUENCE[:, 0]), reference.head(SEQUENCE[:, 0], weights), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_masked_lm_head_looks_at_the_masked_positions(built, dtype):
    head, weights = built(MaskedLMHead(11), (None, None, 8))
    logits = head(SEQUENCE, POSITIONS.astype(dtype))
    expected = reference.masked_lm_head(SEQUENCE, POSITIONS, weights)
    assert logits.shape == (3, 2, 11)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_logits_are_float32_under_bfloat16(built):
    mlp, weights = built(MLPHead(5, dtype="mixed_bfloat16"), (None, 8))
    masked, _ = built(MaskedLMHead(11, dtype="mixed_bfloat16"), (None, None, 8))
    logits = mlp(SEQUENCE[:, 0])
    assert logits.dtype == masked(SEQUENCE, POSITIONS).dtype == "float32"
    error = np.abs(logits - reference.head(SEQUENCE[:, 0], weights))
    assert 0 < error.max() < 0.03
    for head in (mlp, masked):
        assert head.hidden.compute_dtype == "bfloat16"
    # Exact products of what the bfloat16 layer before them gives.
    hidden = np.asarray(keras.ops.cast(mlp.hidden(SEQUENCE[:, 0]), "float32"), np.float64)
    exact = hidden @ weights["logits/kernel"] + weights["logits/bias"]
    np.testing.assert_allclose(logits, exact, rtol=1e-6, atol=1e-6)


def test_dropout_between_the_layers_in_training_only(built):
    keras.utils.set_random_seed(0)
    head, weights = built(MLPHead(5, dropout=0.999), (None, 8))
    z = SEQUENCE[:, 0]
    np.testing.assert_allclose(head(z), reference.head(z, weights), rtol=1e-5, atol=1e-5)
    # Nearly every hidden unit is dropped, and what is left is the last bias.
    training = np.asarray(head(z, training=True))
    bias = np.broadcast_to(weights["logits/bias"].astype(np.float32), training.shape)
    assert np.all(training == bias, axis=-1).sum() >= 2


@pytest.mark.parametrize(
    "head, inputs",
    [(MLPHead(5, dropout=0.1), 1), (MaskedLMHead(11, dropout=0.1, dtype="mixed_bfloat16"), 2)],
)
def test_config_round_trip_and_output_shapes(head, inputs):
    other = type(head).from_config(head.get_config())
    assert other.get_config() == head.get_config()
    assert (other.dropout, other.num_classes) == (0.1, head.num_classes)
    assert other.dtype_policy == head.dtype_policy
    saved = keras.saving.serialize_keras_object(head)
    assert type(keras.saving.deserialize_keras_object(saved)) is type(head)
    shapes = [(3, 6, 8), (3, 2)][:inputs]
    values = [SEQUENCE, POSITIONS][:inputs]
    assert head.compute_output_shape(*shapes) == head(*values).shape
