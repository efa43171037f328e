import keras
import numpy as np
import pytest

from keras_vitbert import ViTBertBackbone
from tests.keras_vitbert.training import reference

PATCH = 3


def close(actual, expected, atol=1e-5):
    """float32 rounds a hundred additions of numbers around 1 to a few 1e-6."""
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5, atol=atol)


@pytest.fixture(scope="module")
def backbone(network):
    return network.backbone


@pytest.fixture(scope="module")
def joint(backbone, batch):
    return backbone(batch)


def arguments(tiny, **changes):
    return {k: v for k, v in {**tiny, **changes}.items() if k != "num_classes"}


# --- the equations -------------------------------------------------------------------------------


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


def test_texts_may_be_shorter_than_the_longest(backbone, batch):
    short = {n: batch[n][:, :5] for n in ("token_ids", "segment_ids", "padding_mask")}
    expected = reference.text_encoder(short, reference.weights_of(backbone))
    close(backbone(short)["text_sequence"], expected["text_sequence"])


@pytest.mark.parametrize(
    ("rate", "of_attention", "dropped", "weights_dropped"),
    [(0.4, -1, 0.4, 0.4), (0.2, 0.6, 0.2, 0.6)],
)
def test_attention_weights_have_a_rate_of_their_own(rate, of_attention, dropped, weights_dropped):
    """One head whose values are 1, no MLP: an output is the sum of the kept weights, or dropped."""
    backbone = ViTBertBackbone(
        *(1, 1, 64, 4, None, 1, 7, 128), dropout=rate, attention_dropout=of_attention
    )
    block = backbone.blocks[0]
    for layer in (block._feedforward_output_dense, block._self_attention_layer._value_dense):
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    block._self_attention_layer._value_dense.bias.assign(np.ones((1, 64)))
    output = block._self_attention_layer._output_dense
    output.kernel.assign(np.eye(64).reshape(1, 64, 64))
    x = np.random.default_rng(0).normal(size=(8, 128, 64)).astype(np.float32)
    sums = np.asarray(block(x, training=True)) - x
    # Zero but for the rounding of x + 0 - x, which is exact.
    assert np.mean(sums == 0) == pytest.approx(dropped, abs=0.02)
    kept = np.max(sums, -1) * (1 - dropped)  # one number a token: all entries are the same sum
    close(np.mean(kept), 1, atol=0.02)
    # 128 nearly equal weights, each of variance p / (1 - p).
    deviation = np.sqrt(weights_dropped / (1 - weights_dropped) / 128)
    weights = np.asarray(block(x, return_attention_scores=True)[1])
    deviation *= np.sqrt(128 * np.mean(np.sum(weights**2, -1)))
    assert np.std(kept) == pytest.approx(deviation, rel=0.1, abs=1e-5)


def test_embeddings_are_multiplied(tiny, batch):
    """Words, positions and segments by the scale; patches are not."""
    plain, scaled = (ViTBertBackbone(**arguments(tiny, embedding_scale=s)) for s in (1.0, 50.0))
    scaled.set_weights([np.asarray(v) for v in plain.weights])
    texts = (batch["token_ids"], batch["segment_ids"])
    found = scaled.text_embedding(*texts)
    np.testing.assert_allclose(found, 50 * np.asarray(plain.text_embedding(*texts)), rtol=1e-6)
    images = np.random.default_rng(0).random(batch["images"].shape, np.float32)
    difference = scaled.image_embedding(images) - plain.image_embedding(images)
    positions = np.asarray(plain.image_embedding.position_embedding)
    wanted = np.broadcast_to(49 * positions, difference.shape)
    np.testing.assert_allclose(difference, wanted, rtol=1e-5, atol=1e-5)


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"num_heads": 3}, "num_heads 3"),
        ({"image_size": None, "vocabulary_size": None}, "image_size and vocabulary_size"),
        ({"image_std": (1, 0, 1)}, "std "),
    ],
)
def test_wrong_sizes_are_refused(tiny, changes, words):
    with pytest.raises(ValueError, match=words):
        ViTBertBackbone(**arguments(tiny, **changes))


TEXT = {name: np.ones((2, 5), np.int32) for name in ("token_ids", "segment_ids", "padding_mask")}
IMAGES = np.zeros((2, 6, 6, 3), np.float32)


@pytest.mark.parametrize(
    ("inputs", "culprit"),
    [
        (IMAGES, "inputs:.*images"),
        ({"token_ids": TEXT["token_ids"]}, "segment_ids:"),
        ({k: np.ones((2, 9), np.int32) for k in TEXT}, "token_ids:.*7"),
        ({**TEXT, "token_ids": 13 * TEXT["token_ids"]}, "token_ids: 13"),
        ({**TEXT, "position_ids": 7 * TEXT["token_ids"]}, "position_ids: 7"),
        ({"images": IMAGES[:, :5]}, "images:"),
    ],
)
def test_wrong_inputs_are_named(backbone, inputs, culprit):
    with pytest.raises(ValueError, match=culprit):
        backbone(inputs)
