import keras
import numpy as np
import pytest

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import (
    MaskedLMHead,
    MLPHead,
    class_head,
    masked_lm_head,
)
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


def test_masked_lm_head_looks_at_the_masked_positions(built):
    head, weights = built(MaskedLMHead(11), (None, None, 8))
    logits = head(SEQUENCE, POSITIONS.astype(np.int64))
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


# --- the heads of published models ---------------------------------------------------------------


def dense(z, weights, name):
    return z @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("bert", lambda s, w: dense(np.tanh(dense(s[:, 0], w, "hidden")), w, "logits")),
        ("distilbert", lambda s, w: dense(np.maximum(dense(s[:, 0], w, "hidden"), 0), w, "logits")),
        ("vit", lambda s, w: dense(s[:, 0], w, "logits")),
        (
            "deit",
            lambda s, w: (
                (dense(s[:, 0], w, "logits") + dense(s[:, 1], w, "distillation_logits")) / 2
            ),
        ),
        (
            {"kind": "bert", "hidden_dim": 3},
            lambda s, w: dense(np.tanh(dense(s[:, 0], w, "hidden")), w, "logits"),
        ),
    ],
)
def test_class_heads_of_published_models(backbone, randomize, kind, formula):
    head = randomize(class_head(kind, 5, backbone, "head"), 1)
    weights = reference.part(reference.weights_of(head), "head")
    expected = formula(SEQUENCE, weights)
    np.testing.assert_allclose(head.of_sequence(SEQUENCE), expected, rtol=1e-5, atol=1e-5)
    assert head.kind == kind
    rebuilt = type(head).from_config(head.get_config())
    assert rebuilt.kind == kind and rebuilt.get_config() == head.get_config()


@pytest.fixture(scope="module")
def backbone():
    return ViTBertBackbone(
        *(1, 2, 8, 12, 6, 3, 11, 7), norm="post", activation="gelu_tanh", prefix_tokens=2
    )


@pytest.mark.parametrize("kind", ["bert", "bert_untied"])
def test_the_masked_lm_head_of_bert(backbone, randomize, kind):
    head = randomize(masked_lm_head(kind, backbone, "head"), 1)
    weights = reference.part(reference.weights_of(head), "head")
    embedding = np.asarray(backbone.text_embedding.word_embedding.embeddings, np.float64)
    rows = np.array([tokens[at] for tokens, at in zip(SEQUENCE, POSITIONS, strict=True)])
    x = dense(rows, weights, "hidden")
    x = x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    x = reference.layer_norm(x, reference.part(weights, "layer_norm"))
    decoder = embedding.T if kind == "bert" else weights["logits/kernel"]
    expected = x @ decoder + weights["logits/bias"]
    np.testing.assert_allclose(head(SEQUENCE, POSITIONS), expected, rtol=1e-5, atol=1e-5)
    assert head.kind["kind"] == kind
    assert head.compute_output_shape((3, 6, 8), (3, 2)) == expected.shape
    # The embedding is no weight of the head: it is trained and saved as the backbone's.
    assert ("logits/kernel" in weights) == (kind == "bert_untied") and len(head.weights) in (5, 6)


def test_a_tied_decoder_is_float32_under_bfloat16(randomize):
    backbone = ViTBertBackbone(1, 2, 8, 12, None, 3, 11, 7, norm="post", dtype="mixed_bfloat16")
    head = randomize(masked_lm_head("bert", backbone, "head"), 1)
    randomize(backbone, 2)
    logits = head(SEQUENCE, POSITIONS)
    assert logits.dtype == "float32" and head.hidden.compute_dtype == "bfloat16"
    index = POSITIONS[..., None]
    x = head.layer_norm(head.hidden(np.take_along_axis(SEQUENCE, index, axis=1)))
    x = np.asarray(keras.ops.cast(x, "float32"), np.float64)
    embedding = np.asarray(backbone.text_embedding.word_embedding.embeddings, np.float64)
    exact = x @ embedding.T + np.asarray(head.logits.bias, np.float64)
    np.testing.assert_allclose(logits, exact, rtol=1e-6, atol=1e-6)


def test_unknown_kinds_are_refused(backbone):
    with pytest.raises(ValueError, match="head 'x'"):
        class_head("x", 5, backbone, "head")
    with pytest.raises(ValueError, match="head 'vit'"):
        masked_lm_head("vit", backbone, "head")
    plain = ViTBertBackbone(1, 2, 8, 12, 6, 3, None, 7)
    with pytest.raises(ValueError, match="prefix_tokens"):
        class_head("deit", 5, plain, "head")
