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


def post_norm_block(z, w, padding_mask=None):
    """BERT's: `z' = LN(MSA(z) + z)`, `z = LN(MLP(z') + z')`."""
    sum_ = reference.attention(z, reference.part(w, "self_attention_layer"), padding_mask) + z
    z = reference.layer_norm(sum_, reference.part(w, "self_attention_layer_norm"))
    up, down = (
        reference.part(w, f"feedforward_{name}_dense") for name in ("intermediate", "output")
    )
    hidden = reference.gelu_tanh(z @ up["kernel"] + up["bias"])
    sum_ = hidden @ down["kernel"] + down["bias"] + z
    return reference.layer_norm(sum_, reference.part(w, "feedforward_layer_norm"))


def post_norm_encoder(stream, z, weights, padding_mask=None):
    z = reference.layer_norm(z, reference.part(weights, "embedding_norm"))
    outputs = {f"{stream}_embedding": z}
    for index in range(2):
        z = post_norm_block(z, reference.part(weights, f"block_{index}"), padding_mask)
        outputs[f"{stream}_block_{index}"] = z
    return {**outputs, f"{stream}_sequence": z}


@pytest.fixture(scope="module")
def other(make_network):
    """A network of another architecture; leave it as it is."""
    return make_network(2, **OTHER, image_head="deit", text_head="bert")


def test_every_layer_of_both_streams(other, batch):
    weights = reference.weights_of(other.backbone)
    w = reference.part(weights, "image_embedding")
    z = reference.image_embedding(batch["images"], w, 3, MEAN, STD)
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


def test_positions_are_interpolated_behind_both_first_tokens(make_network):
    source = make_network(4, text=False, **OTHER).backbone
    target = make_network(5, text=False, **{**OTHER, "image_size": 12}).backbone
    assert transfer(source, target) == {"encoder": "kept", "image_embedding": "interpolated"}
    ours, theirs = (np.asarray(x.image_embedding.position_embedding) for x in (target, source))
    np.testing.assert_array_equal(ours[:, :2], theirs[:, :2])
    # A corner of a grid that is enlarged twofold keeps the value of its nearest patch.
    np.testing.assert_allclose(ours[:, 2], theirs[:, 2], rtol=1e-5)


def test_round_trips(other, batch, tmp_path):
    backbone = other.backbone
    config = json.loads(json.dumps(backbone.get_config()))
    assert ViTBertBackbone.from_config(config).get_config() == backbone.get_config()
    backbone.save(tmp_path / "backbone.keras")
    backbone.save_to_preset(str(tmp_path / "preset"))
    other.save(tmp_path / "network.keras")
    again = keras.saving.load_model(tmp_path / "network.keras")
    assert again.heads == other.heads
    for saved, loaded in (
        (backbone, keras.saving.load_model(tmp_path / "backbone.keras")),
        (backbone, keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))),
        (other, again),
    ):
        wanted = saved(batch)
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
