"""Backbones of other architectures than the paper's: those of published BERTs and ViTs.

The reference is NumPy in float64, written from the papers.
"""

import json

import keras
import keras_hub
import numpy as np
import pytest

from keras_vitbert import ViTBertBackbone
from keras_vitbert.configs import model
from keras_vitbert.model import backbone, encoder_block
from keras_vitbert.model.heads import CLASS_HEADS, MASKED_LM_HEADS
from keras_vitbert.model.transfer import transfer
from tests.keras_vitbert.training import reference

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
OTHER = {
    "norm": "post",
    "activation": "gelu_tanh",
    "patch_bias": True,
    "prefix_tokens": 2,
    "image_mean": MEAN,
    "image_std": STD,
}


def gelu_tanh(x):
    return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def post_norm_block(z, w, padding_mask=None):
    """BERT's: `z' = LN(MSA(z) + z)`, `z = LN(MLP(z') + z')`."""
    sum_ = reference.attention(z, reference.part(w, "self_attention_layer"), padding_mask) + z
    z = reference.layer_norm(sum_, reference.part(w, "self_attention_layer_norm"))
    up, down = (
        reference.part(w, f"feedforward_{name}_dense") for name in ("intermediate", "output")
    )
    hidden = gelu_tanh(z @ up["kernel"] + up["bias"])
    sum_ = hidden @ down["kernel"] + down["bias"] + z
    return reference.layer_norm(sum_, reference.part(w, "feedforward_layer_norm"))


def post_norm_encoder(stream, z, weights, padding_mask=None):
    z = reference.layer_norm(z, reference.part(weights, "embedding_norm"))
    outputs = {f"{stream}_embedding": z}
    for index in range(2):
        z = post_norm_block(z, reference.part(weights, f"block_{index}"), padding_mask)
        outputs[f"{stream}_block_{index}"] = z
    return {**outputs, f"{stream}_sequence": z}


def image_embedding(images, w, patch):
    pixels = (images.astype(np.float64) - MEAN) / STD
    count = len(images)
    tokens = [np.broadcast_to(w["class_token"][0], (count, 2, w["class_token"].shape[-1]))]
    for top in range(0, images.shape[1], patch):
        for left in range(0, images.shape[2], patch):
            part = pixels[:, top : top + patch, left : left + patch].reshape(count, -1)
            tokens.append(
                (part @ w["patch_projection/kernel"] + w["patch_projection/bias"])[:, None]
            )
    return np.concatenate(tokens, axis=1) + w["position_embedding"]


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(0)


@pytest.fixture(scope="module")
def other(make_network):
    """A network of another architecture; leave it as it is."""
    return make_network(2, **OTHER, image_head="deit", text_head="bert")


def test_every_layer_of_both_streams(other, batch):
    weights = reference.weights_of(other.backbone)
    z = image_embedding(batch["images"], reference.part(weights, "image_embedding"), 3)
    expected = post_norm_encoder("image", z, weights)
    z = reference.text_embedding(
        batch["token_ids"], batch["segment_ids"], reference.part(weights, "text_embedding")
    )
    expected |= post_norm_encoder("text", z, weights, batch["padding_mask"])
    assert list(other.backbone.block_outputs) == list(expected)
    outputs = keras.Model(other.backbone.inputs, other.backbone.block_outputs)(
        {x.name: batch[x.name] for x in other.backbone.inputs}
    )
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, rtol=1e-5, atol=2e-5, err_msg=name)
    found = other.backbone(batch)
    for name in ("image_sequence", "text_sequence"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=2e-5)


def test_a_model_without_segments_ignores_them(make_network, batch):
    backbone = make_network(images=False, num_segments=0).backbone
    assert not [v.path for v in backbone.variables if "segment" in v.path]
    inputs = {name: batch[name] for name in ("token_ids", "segment_ids", "padding_mask")}
    flipped = {**inputs, "segment_ids": 1 - inputs["segment_ids"]}
    np.testing.assert_array_equal(
        *(backbone(x)["text_sequence"] for x in (inputs, flipped)),
    )


def test_positions_are_interpolated_behind_both_first_tokens(make_network):
    source = make_network(4, text=False, **OTHER).backbone
    target = make_network(5, text=False, **{**OTHER, "image_size": 12}).backbone
    assert transfer(source, target) == {"encoder": "kept", "image_embedding": "interpolated"}
    ours, theirs = (np.asarray(x.image_embedding.position_embedding) for x in (target, source))
    np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
    # A corner of a grid that is enlarged twofold keeps the value of its nearest patch.
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"norm": "post"}, "model.norm"),
        ({"image_mean": MEAN}, "model.image_mean"),
        ({"num_segments": 3}, "model.num_segments"),
    ],
)
def test_weights_of_another_architecture_are_refused(make_network, changes, fix):
    with pytest.raises(ValueError, match=fix):
        transfer(make_network().backbone, make_network(**changes).backbone)


def test_round_trips(other, batch, tmp_path):
    wanted = other.backbone(batch)
    config = other.backbone.get_config()
    assert OTHER.items() <= {**config, "image_mean": MEAN, "image_std": STD}.items()
    rebuilt = ViTBertBackbone.from_config(json.loads(json.dumps(config)))
    assert rebuilt.get_config() == config
    other.backbone.save(tmp_path / "backbone.keras")
    other.backbone.save_to_preset(str(tmp_path / "preset"))
    for loaded in (
        keras.saving.load_model(tmp_path / "backbone.keras"),
        keras_hub.models.Backbone.from_preset(str(tmp_path / "preset")),
    ):
        for name, value in loaded(batch).items():
            np.testing.assert_array_equal(value, wanted[name])
    other.save(tmp_path / "network.keras")
    loaded, wanted = keras.saving.load_model(tmp_path / "network.keras"), other(batch)
    assert loaded.heads == other.heads
    for name, value in loaded(batch).items():
        np.testing.assert_array_equal(value, wanted[name])


def test_configs_know_the_same_names():
    """Command lines check names without loading the model."""
    assert backbone.NORMS == model.NORMS
    assert tuple(encoder_block.ACTIVATIONS) == model.ACTIVATIONS
    assert set(model.IMAGE_HEADS) <= set(CLASS_HEADS)
    assert set(model.TEXT_HEADS) <= set(CLASS_HEADS) & set(MASKED_LM_HEADS)
    config = ViTBertBackbone(1, 1, 2, 2, 2, 1, 3, 4).get_config()
    sizes = {*model.PAPER_SIZES, *model.SIZES["base"], "image_size", "patch_size", "dropout"}
    known = json.loads(json.dumps(model.Model().to_dict()))
    of_backbone = {k: v for k, v in known.items() if k not in sizes and not k.endswith("_head")}
    assert of_backbone.items() <= config.items()
