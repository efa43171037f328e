import keras
import numpy as np
import pytest

from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.heads import MLPHead, class_head, masked_lm_head
from tests.keras_vitbert.training import reference

RNG = np.random.default_rng(0)
SEQUENCE = RNG.normal(size=(3, 6, 8)).astype(np.float32)
POSITIONS = np.array([[5, 0], [2, 2], [1, 4]], np.int32)


def in_float64(values):
    return np.asarray(keras.ops.cast(values, "float32"), np.float64)


def test_logits_are_float32_under_bfloat16(randomize):
    head = MLPHead(5, dtype="mixed_bfloat16")
    head.build((None, 8))
    weights = reference.part(reference.weights_of(randomize(head, 1)), head.name)
    logits = head(SEQUENCE[:, 0])
    assert logits.dtype == "float32" and head.hidden.compute_dtype == "bfloat16"
    error = np.abs(logits - reference.head(SEQUENCE[:, 0], weights))
    assert 0 < error.max() < 0.03
    # Exact products of what the bfloat16 layer before them gives.
    hidden = in_float64(head.hidden(SEQUENCE[:, 0]))
    exact = hidden @ weights["logits/kernel"] + weights["logits/bias"]
    np.testing.assert_allclose(logits, exact, rtol=1e-6, atol=1e-6)


# --- the heads of published models ---------------------------------------------------------------


def dense(z, weights, name):
    return z @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def hidden_head(activation):
    return lambda s, w: dense(activation(dense(s[:, 0], w, "hidden")), w, "logits")


def mean_head(s, w):
    return (dense(s[:, 0], w, "logits") + dense(s[:, 1], w, "distillation_logits")) / 2


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("bert", hidden_head(np.tanh)),
        ("distilbert", hidden_head(lambda x: np.maximum(x, 0))),
        ("vit", lambda s, w: dense(s[:, 0], w, "logits")),
        ("deit", mean_head),
        ({"kind": "bert", "hidden_dim": 3}, hidden_head(np.tanh)),
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
    x = reference.layer_norm(reference.gelu_tanh(x), reference.part(weights, "layer_norm"))
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
    logits = head(SEQUENCE, POSITIONS)
    assert logits.dtype == "float32" and head.hidden.compute_dtype == "bfloat16"
    masked = np.take_along_axis(SEQUENCE, POSITIONS[..., None], axis=1)
    x = in_float64(head.layer_norm(head.hidden(masked)))
    exact = x @ in_float64(backbone.text_embedding.word_embedding.embeddings).T
    exact += in_float64(head.logits.bias)
    np.testing.assert_allclose(logits, exact, rtol=1e-6, atol=1e-6)


def test_heads_that_a_backbone_cannot_have_are_refused(backbone):
    with pytest.raises(ValueError, match="head 'x'"):
        class_head("x", 5, backbone, "head")
    plain = ViTBertBackbone(1, 2, 8, 12, 6, 3, None, 7)
    with pytest.raises(ValueError, match="prefix_tokens"):
        class_head("deit", 5, plain, "head")
