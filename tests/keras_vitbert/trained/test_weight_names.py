"""Where each tensor of a BERT or ViT stands in our networks."""

import numpy as np
import pytest

from keras_vitbert.trained import weight_names
from tests.keras_vitbert.trained.stored_models import opened, values_of


def test_kernels_are_transposed_and_convolutions_are_flattened_patches():
    """In both directions, as matrix products and einsum have it."""
    network = opened("vit").network
    values = values_of(network)
    random = np.random.default_rng(0)
    tensors = weight_names.name_tensors(values, weight_names.VIT)
    weight_names.assign(network, {**tensors}, weight_names.VIT, in_torch=True)
    for path, value in values_of(network).items():
        np.testing.assert_array_equal(value, values[path], err_msg=path)
    x, patch = random.random(15), random.random((3, 3, 3))  # height, width, channels
    dense = tensors["vit.encoder.layer.1.attention.attention.query.weight"]
    ours = values["block_1/self_attention_layer/query/kernel"]
    np.testing.assert_allclose(dense @ x, np.einsum("i,ihs->hs", x, ours).ravel(), rtol=1e-5)
    dense = tensors["vit.encoder.layer.1.attention.output.dense.weight"]
    ours = values["block_1/self_attention_layer/attention_output/kernel"]
    np.testing.assert_allclose(dense @ x, np.einsum("hs,hso->o", x.reshape(5, 3), ours), rtol=1e-4)
    kernel = tensors["vit.embeddings.patch_embeddings.projection.weight"]
    wanted = np.einsum("ochw,hwc->o", kernel, patch)
    ours = values["image_embedding/patch_projection/kernel"]  # the order of our patches
    np.testing.assert_allclose(patch.reshape(-1) @ ours, wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        ({"classifier.bias": None}, "classifier.bias"),
        ({"x": np.ones(1)}, "unknown tensors: x"),
        (
            {"vit.layernorm.bias": np.ones((1, 3))},
            r"vit.layernorm.bias",
        ),
        ({"classifier.bias": np.ones(3, np.int8)}, "classifier.bias"),
        ({"classifier.bias": np.array([1, np.inf, 0])}, "classifier.bias"),
    ],
)
def test_tensors_of_another_model_are_refused(change, culprit):
    network = opened("vit").network
    tensors = weight_names.name_tensors(values_of(network), weight_names.VIT) | change
    tensors = {name: value for name, value in tensors.items() if value is not None}
    with pytest.raises(ValueError, match=culprit):
        weight_names.assign(network, tensors, weight_names.VIT, in_torch=True)
