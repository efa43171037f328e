"""Where each tensor of a BERT or ViT stands in our networks, in both directions."""

import numpy as np
import pytest

from keras_vitbert.trained import hugging_face, layout
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.layout import Tensor
from tests.keras_vitbert.trained.stored_models import (
    BARE,
    BERTS,
    FIXTURES,
    TEXT_CLASSIFIERS,
    VITS,
    values_of,
)


def tensors_of(weights):
    return layout.tensors_of(weights.config, weights.heads, weights.num_classes)


@pytest.mark.parametrize("name", BERTS + TEXT_CLASSIFIERS + VITS + BARE)
def test_a_network_gives_back_the_tensors_that_it_was_made_of(name):
    weights = hugging_face.read(find(str(FIXTURES / name)))
    network, tensors = weights.network(), tensors_of(weights)
    found = layout.read(values_of(network), tensors)
    assert found.keys() == weights.tensors.keys() == {tensor.theirs for tensor in tensors}
    for name, value in found.items():
        np.testing.assert_array_equal(value, weights.tensors[name], err_msg=name)
        assert value.dtype == np.float32 and value.flags.c_contiguous  # as safetensors needs it
    # No variable but those of the table has values that could differ.
    ours = {variable.path for variable in network.variables if "seed" not in variable.path}
    assert ours == {tensor.ours for tensor in tensors}


def test_kernels_are_transposed_and_convolutions_are_flattened_patches():
    random = np.random.default_rng(0)
    dense = Tensor("head/logits/kernel", "classifier.weight", (3, 5))
    value = random.random(dense.shape)
    x = random.random(5)
    np.testing.assert_allclose(x @ dense.to_ours(value, (5, 3)), value @ x)
    patch = Tensor("image_embedding/patch_projection/kernel", "projection.weight", (4, 3, 2, 2))
    value = random.random(patch.shape)
    pixels = random.random((2, 2, 3))  # height, width, channels: the order of our patches
    wanted = np.einsum("ochw,hwc->o", value, pixels)
    np.testing.assert_allclose(pixels.reshape(-1) @ patch.to_ours(value, (12, 4)), wanted)
    for tensor, shape in ((dense, (5, 3)), (patch, (12, 4))):
        value = random.random(tensor.shape)
        np.testing.assert_array_equal(tensor.to_theirs(tensor.to_ours(value, shape)), value)


def test_tensors_that_a_network_lacks_are_an_error():
    weights = hugging_face.read(find(str(FIXTURES / "vit_model")))
    network, tensors = weights.network(), tensors_of(weights)
    more = Tensor("image_head/logits/bias", "classifier.bias", (3,))
    with pytest.raises(RuntimeError, match=r"\['image_head/logits/bias'\] are not variables of"):
        layout.assign(
            network, [*tensors, more], {**weights.tensors, "classifier.bias": np.zeros(3)}
        )
