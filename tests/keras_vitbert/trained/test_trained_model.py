"""A trained model in another dtype, and with its updates of LoRA added to the kernels."""

import numpy as np
import pytest

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.trained.trained_model import TrainedModel


@pytest.fixture
def classifier(tiny, randomize):
    return randomize(build_classifier(tiny, {"text": 3}), 2)


def trained_of(classifier):
    return TrainedModel(
        "p", "n", classifier.backbone, {"text": classifier.head}, ["a", "b", "c"], central_crop=0.5
    )


def logits(trained, batch):
    sequence = trained.backbone(batch)["text_sequence"]
    return np.asarray(trained.heads["text"](sequence[:, 0]), np.float32)


def test_lora_is_added_to_the_kernels(classifier, make_batch, randomize):
    batch = make_batch(0)
    plain = np.asarray(classifier(batch))
    assert not trained_of(classifier).has_lora
    classifier.enable_lora(2)
    randomize(classifier, 3)  # including LoRA, which starts without effect
    wanted = np.asarray(classifier(batch))
    assert np.abs(wanted - plain).max() > 0.01
    trained = trained_of(classifier)
    assert trained.has_lora
    before = logits(trained, batch)
    np.testing.assert_allclose(before, wanted, rtol=1e-5, atol=1e-5)
    merged = trained.in_dtype("float32")
    assert not merged.has_lora
    assert not any("lora" in weight.path for weight in merged.backbone.weights)
    np.testing.assert_allclose(logits(merged, batch), wanted, rtol=1e-5, atol=1e-5)
    # The original is unchanged.
    assert trained.has_lora
    np.testing.assert_array_equal(logits(trained, batch), before)


@pytest.mark.parametrize(
    ("dtype", "variables"), [("mixed_bfloat16", "float32"), ("bfloat16", "bfloat16")]
)
def test_another_dtype(classifier, make_batch, dtype, variables):
    trained, batch = trained_of(classifier), make_batch(0)
    low = trained.in_dtype(dtype)
    assert {weight.dtype for weight in low.backbone.weights} == {variables}
    assert {weight.dtype for weight in low.heads["text"].weights} == {variables}
    assert low.backbone.dtype_policy.name == low.heads["text"].dtype_policy.name == dtype
    assert (low.classes, low.central_crop, low.name) == (["a", "b", "c"], 0.5, "n")
    found, exact = logits(low, batch), logits(trained, batch)
    assert 0 < np.abs(found - exact).max() < 0.05 * np.abs(exact).max()  # bfloat16 has 8 bits
