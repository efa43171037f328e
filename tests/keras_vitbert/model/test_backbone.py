import json

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import ViTBertBackbone
from keras_vitbert.configs.sizes import encoder_size
from keras_vitbert.model.embeddings import ImageEmbedding, TextEmbedding
from keras_vitbert.model.pretraining_network import (
    PreTrainingNetwork,
    build_network,
    image_inputs,
    text_inputs,
)
from tests.keras_vitbert.training import reference

PATCH = 3


def close(actual, expected, atol=1e-5):
    """float32 rounds a hundred additions of numbers around 1 to a few 1e-6."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=atol)


@pytest.fixture(scope="module")
def backbone(network):
    return network.backbone


@pytest.fixture(scope="module")
def batch(make_batch):
    return make_batch(0)


@pytest.fixture(scope="module")
def joint(backbone, batch):
    return backbone(batch)


def arguments(tiny, **changes):
    return {k: v for k, v in {**tiny, **changes}.items() if k != "num_classes"}


# --- the equations -------------------------------------------------------------------------------


def test_image_embedding_is_equation_1(batch, randomize):
    layer = ImageEmbedding(6, PATCH, 8)
    layer.build((None, 6, 6, 3))
    weights = reference.part(reference.weights_of(randomize(layer, 1)), layer.name)
    close(layer(batch["images"]), reference.image_embedding(batch["images"], weights, PATCH))


def test_pixels_are_scaled_to_plus_minus_one():
    layer = ImageEmbedding(2, 2, 4)
    layer.build((None, 2, 2, 3))
    layer.position_embedding.assign(np.zeros((1, 2, 4)))
    layer.patch_projection.kernel.assign(np.ones((12, 4)))
    images = np.stack([np.zeros((2, 2, 3)), np.ones((2, 2, 3)), np.full((2, 2, 3), 0.5)])
    assert np.asarray(layer(images))[:, 1, 0].tolist() == [-12, 12, 0]


def test_text_embedding_is_equation_2(batch, randomize):
    layer = TextEmbedding(13, 9, 8)  # texts may be shorter than the longest
    layer.build()
    weights = reference.part(reference.weights_of(randomize(layer, 1)), layer.name)
    ids, segments = batch["token_ids"], batch["segment_ids"]
    close(layer(ids, segments), reference.text_embedding(ids, segments, weights))


def test_a_block_is_equations_3_and_4(backbone, batch):
    weights = reference.part(reference.weights_of(backbone), "block_1")
    z = np.random.default_rng(0).normal(size=(4, 7, 8)).astype(np.float32)
    mask = batch["padding_mask"]
    assert mask.min() == 0
    close(backbone.blocks[1](z, padding_mask=mask), reference.block(z, weights, mask))
    close(backbone.blocks[1](z), reference.block(z, weights))


def test_both_streams_and_every_layer(backbone, batch, joint):
    weights = reference.weights_of(backbone)
    expected = {
        **reference.image_encoder(batch, weights, PATCH),
        **reference.text_encoder(batch, weights),
    }
    assert list(backbone.block_outputs) == list(expected)
    assert list(expected) == [
        *("image_embedding", "image_block_0", "image_block_1", "image_sequence"),
        *("text_embedding", "text_block_0", "text_block_1", "text_sequence"),
    ]
    model = keras.Model(backbone.inputs, backbone.block_outputs)
    inputs = {x.name: batch[x.name] for x in backbone.inputs}
    outputs = model(inputs)
    for name, value in expected.items():
        close(outputs[name], value)
    for name in ("image_sequence", "text_sequence"):
        close(joint[name], expected[name])


def test_no_modality_is_told_the_other(backbone, batch, joint):
    image = backbone({"images": batch["images"]})
    text = backbone({n: batch[n] for n in ("token_ids", "segment_ids", "padding_mask")})
    assert list(image) == ["image_sequence"] and list(text) == ["text_sequence"]
    np.testing.assert_array_equal(image["image_sequence"], joint["image_sequence"])
    np.testing.assert_array_equal(text["text_sequence"], joint["text_sequence"])


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_padding_changes_nothing_for_real_tokens(backbone, batch, joint, dtype):
    real = batch["padding_mask"].astype(bool)
    other = {
        "token_ids": np.where(real, batch["token_ids"], (batch["token_ids"] + 5) % 13),
        "segment_ids": np.where(real, batch["segment_ids"], 1 - batch["segment_ids"]),
        "padding_mask": real.astype(dtype),
    }
    changed = np.asarray(backbone(other)["text_sequence"])
    np.testing.assert_array_equal(changed[real], np.asarray(joint["text_sequence"])[real])
    assert not np.allclose(changed[~real], np.asarray(joint["text_sequence"])[~real])


def test_padding_is_as_good_as_a_shorter_text(backbone, batch, joint):
    length = batch["padding_mask"][1].sum()
    names = ("token_ids", "segment_ids", "padding_mask")
    short = backbone({n: batch[n][1:2, :length] for n in names})["text_sequence"]
    close(short, np.asarray(joint["text_sequence"])[1:2, :length], atol=2e-6)


def test_dropout_acts_in_training_only(tiny, batch, randomize):
    keras.utils.set_random_seed(0)
    backbone = randomize(ViTBertBackbone(**arguments(tiny, dropout=0.5)), 0)
    still = backbone(batch, training=False)
    for name, value in backbone(batch).items():
        np.testing.assert_array_equal(value, still[name])
    for name, value in backbone(batch, training=True).items():
        assert np.mean(np.isclose(value, still[name])) < 0.1
    layers = [backbone.image_embedding, backbone.text_embedding]
    calls = [(batch["images"],), (batch["token_ids"], batch["segment_ids"])]
    for layer, inputs in zip(layers, calls, strict=True):
        assert 0.3 < np.mean(np.asarray(layer(*inputs, training=True)) == 0) < 0.7


def test_weights_begin_as_in_vit_and_bert():
    backbone = ViTBertBackbone(1, 4, 64, 128, 32, 4, 200, 50)
    tokens = [v for v in backbone.trainable_variables if "_embedding/" in v.path]
    assert len(tokens) == 6
    for variable in tokens:
        if "class_token" in variable.path:
            assert not np.any(variable.value)
        else:  # normal(0, 0.02), cut at two standard deviations and scaled back to 0.02
            assert np.abs(variable.value).max() < 2 * 0.02 / 0.8796 + 1e-6
            assert np.std(variable.value) == pytest.approx(0.02, rel=0.2)
    kernel = reference.weights_of(backbone)["block_0/feedforward_intermediate_dense/kernel"]
    assert np.abs(kernel).max() <= np.sqrt(6 / (64 + 128))
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (64 + 128)), rel=0.05)


# --- what is shared ------------------------------------------------------------------------------


def test_shared_variables_are_those_that_both_losses_reach(network, batch):
    variables = network.trainable_variables
    reached = {}
    for inputs in (image_inputs, text_inputs):
        with tf.GradientTape() as tape:
            logits = network(inputs(batch), training=True)
            loss = tf.add_n([tf.reduce_sum(x**2) for x in logits.values()])
        gradients = tape.gradient(loss, [v.value for v in variables])
        reached[inputs] = [
            v.path for v, g in zip(variables, gradients, strict=True) if g is not None
        ]
    both = [path for path in reached[image_inputs] if path in reached[text_inputs]]
    assert both == [v.path for v in network.backbone.shared_variables]
    assert {path.split("/")[0] for path in both} == {"block_0", "block_1", "final_norm"}
    assert set(reached[image_inputs]) | set(reached[text_inputs]) == {v.path for v in variables}


# --- saving --------------------------------------------------------------------------------------


def test_config_round_trip(tiny):
    given = arguments(tiny, dropout=0.2, layer_norm_epsilon=1e-4)
    backbone = ViTBertBackbone(**given)
    config = backbone.get_config()
    assert given.items() <= config.items()
    other = ViTBertBackbone.from_config(json.loads(json.dumps(config)))
    assert other.get_config() == config
    assert [v.shape for v in other.variables] == [v.shape for v in backbone.variables]


def test_keras_file_round_trip(backbone, batch, joint, tmp_path):
    backbone.save(tmp_path / "backbone.keras")
    loaded = keras.saving.load_model(tmp_path / "backbone.keras")
    assert isinstance(loaded, ViTBertBackbone)
    for name, value in loaded(batch).items():
        np.testing.assert_array_equal(value, joint[name])


def test_preset_round_trip(backbone, batch, joint, tmp_path):
    backbone.save_to_preset(str(tmp_path / "preset"))
    loaded = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    assert isinstance(loaded, ViTBertBackbone)
    for name, value in loaded(batch).items():
        np.testing.assert_array_equal(value, joint[name])


@pytest.mark.parametrize(
    "dtype, sides, logits",
    [
        ("float32", {}, {"image_logits", "mlm_logits", "nsp_logits"}),
        ("float32", {"text": False}, {"image_logits"}),
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


# --- the network ---------------------------------------------------------------------------------


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


def test_mixed_bfloat16_is_close_to_float32(make_network, network, batch):
    mixed = make_network(dtype="mixed_bfloat16")
    assert {v.dtype for v in mixed.variables} == {"float32"}
    for head in (mixed.image_head, mixed.mlm_head, mixed.nsp_head):
        assert head.compute_dtype == "bfloat16"
    for value in mixed.backbone(batch).values():
        assert value.dtype == tf.bfloat16
    logits, exact = mixed(batch), network(batch)
    for name, value in logits.items():
        assert value.dtype == tf.float32
        spread = np.std(exact[name])
        error = np.abs(np.asarray(value) - exact[name])
        assert 0 < error.mean() < 0.03 * spread  # bfloat16 has 8 bits: 0.4 % an operation


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
    network = build_network({**encoder_size("base"), **model})
    assert network.count_params() == total
    assert sum(np.prod(v.shape) for v in network.backbone.shared_variables) == 12 * block + 1536


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_heads": 3}, "num_heads 3 does not divide hidden_dim 8"),
        ({"patch_size": 4}, "patch_size 4 does not divide image_size 6.* is 4"),
        ({"image_size": None, "vocabulary_size": None}, "no modality"),
    ],
)
def test_wrong_sizes_are_refused(tiny, changes, words):
    with pytest.raises(ValueError, match=words):
        ViTBertBackbone(**arguments(tiny, **changes))


def test_inputs_without_a_modality_are_refused(backbone, batch):
    with pytest.raises(ValueError, match="no modality.*takes.*images"):
        backbone({"padding_mask": batch["padding_mask"]})


def test_unknown_size_is_refused():
    with pytest.raises(ValueError, match="'huge'.*sample, tiny, small, base, large"):
        encoder_size("huge")
