import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import ViTBertBackbone
from keras_vitbert.inspection.activations import LEFT_OUT, MeanActivations, co_activation
from keras_vitbert.model.pretraining_network import image_inputs
from pipelines.text.wordpiece import SPECIAL_TOKENS
from tests.forked import Forked
from tests.keras_vitbert.inspection import replicas_script
from tests.keras_vitbert.training import reference

PATCH = 3
# Special tokens need not come first.
VOCABULARY = ["the", *SPECIAL_TOKENS, *(f"word{n}" for n in range(7))]


def means_of(backbone, vocabulary=VOCABULARY):
    return MeanActivations(backbone, tf.distribute.get_strategy(), vocabulary)


def tensors(batch):
    return {name: tf.constant(value) for name, value in batch.items()}


def expected_means(batches, weights):
    """Token by token, in float64."""
    left_out = [VOCABULARY.index(token) for token in LEFT_OUT]
    sums, counts = {"image": 0.0, "text": 0.0}, {"image": 0, "text": 0}

    def add(modality, outputs, example, token):
        blocks = [outputs[f"{modality}_block_{block}"][example, token] for block in range(2)]
        sums[modality] += np.abs(blocks)
        counts[modality] += 1

    for batch in batches:
        outputs = reference.image_encoder(batch, weights, PATCH)
        for example, weight in enumerate(batch["image_weights"]):
            for token in range(1, outputs["image_block_0"].shape[1]):
                if weight:
                    add("image", outputs, example, token)
        outputs = reference.text_encoder(batch, weights)
        for example, weight in enumerate(batch["text_weights"]):
            for token, word in enumerate(batch["token_ids"][example]):
                if weight and batch["padding_mask"][example, token] and word not in left_out:
                    add("text", outputs, example, token)
    return {modality: sums[modality] / counts[modality] for modality in sums}, counts


@pytest.fixture(scope="module")
def batches(make_batch):
    """Two batches; some of the examples only fill them up."""
    made = [make_batch(seed) for seed in (0, 1)]
    weights = ([1, 1, 1, 0], [1, 1, 0, 1]), ([1, 0, 1, 1], [1, 1, 0, 1])
    for batch, (images, texts) in zip(made, weights, strict=True):
        batch["image_weights"] = np.array(images, np.float32)
        batch["text_weights"] = np.array(texts, np.float32)
    return made


@pytest.fixture(scope="module")
def of_both(network, batches):
    """The means that the network of both modalities has."""
    return means_of(network.backbone)(map(tensors, batches))


def test_means_are_those_of_numpy(network, of_both, batches):
    found = of_both
    expected, counts = expected_means(batches, reference.weights_of(network.backbone))
    assert counts["image"] == 6 * 4 and 0 < counts["text"] < 6 * 7
    for modality, values in expected.items():
        assert found[modality].dtype == np.float32
        np.testing.assert_allclose(found[modality], values, rtol=1e-5)


def test_each_special_token_is_left_out_and_unknown_words_are_not(network, make_batch):
    batch = make_batch(0, texts=1)
    batch["padding_mask"][:] = 1
    means, found = means_of(network.backbone), {}
    for token in (None, *SPECIAL_TOKENS):
        batch["token_ids"][:] = 0
        if token:
            batch["token_ids"][0, 3] = VOCABULARY.index(token)
        counts = means.step(tensors(batch))[1]
        found[token] = int(counts[1])
    assert found == {None: 7, "[UNK]": 7, "[PAD]": 6, "[CLS]": 6, "[SEP]": 6, "[MASK]": 6}


def test_fillers_count_for_nothing(network, batches):
    """Not even where there is nothing else, or where they are not finite."""
    means = means_of(network.backbone)
    batch = tensors(batches[0])
    empty = {**batch, "image_weights": tf.zeros(4), "text_weights": tf.zeros(4)}
    for values in means([empty]).values():
        assert values.shape == (2, 8) and not values.any()
    alone = means([batch])
    images = batches[0]["images"].copy()
    images[3] = np.nan
    broken = {**batch, "images": tf.constant(images)}
    for modality, values in means([broken, empty]).items():
        np.testing.assert_array_equal(values, alone[modality])


def test_it_is_compiled_once(network, batches, monkeypatch):
    step, traced = MeanActivations.step, []

    def counted(self, batch):
        traced.append(batch)
        return step(self, batch)

    monkeypatch.setattr(MeanActivations, "step", counted)
    means = means_of(network.backbone)
    for _ in range(2):
        means(map(tensors, batches))
    assert len(traced) == 1


@pytest.mark.slow
def test_it_compiles_with_static_shapes(network, batches):
    """As XLA, which TPUs are served by, demands it."""
    means, batch = means_of(network.backbone), tensors(batches[0])
    compiled = tf.function(means.step, jit_compile=True)
    for found, expected in zip(compiled(batch), means.step(batch), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("modality", ["image", "text"])
def test_one_modality(make_network, network, of_both, batches, modality):
    backbone = make_network(images=modality == "image", text=modality == "text").backbone
    means = means_of(backbone, VOCABULARY if modality == "text" else None)
    for variable in backbone.variables:
        [twin] = [other for other in network.backbone.variables if other.path == variable.path]
        variable.assign(twin)
    found, both = means(map(tensors, batches)), of_both
    assert list(found) == [modality]
    np.testing.assert_allclose(found[modality], both[modality], rtol=1e-6)


@pytest.mark.slow
def test_blocks_come_in_their_order_however_many_they_are(make_network, make_batch):
    """Ten and more names are in another order when they are sorted."""
    batch = tensors(make_batch(0))
    for num_layers in (1, 12):
        backbone = make_network(num_layers=num_layers).backbone
        (found, _), (count, _) = means_of(backbone).step(batch)
        assert found.shape == (num_layers, 8)
        x = backbone.image_embedding(batch["images"])
        for block, sums in zip(backbone.blocks, found, strict=True):
            x = block(x)
            expected = np.abs(x.numpy()[:, 1:]).mean((0, 1))
            np.testing.assert_allclose(sums / count, expected, rtol=1e-5)


def test_sums_are_float32_under_mixed_bfloat16(make_network, make_batch):
    """Sums of bfloat16 would stand still at some 256 times the addend."""
    backbone = make_network(dtype="mixed_bfloat16").backbone
    batch = tensors(make_batch(0, images=256))
    found = means_of(backbone)([batch])["image"]
    model = keras.Model(backbone.input["images"], backbone.block_outputs["image_block_1"])
    tokens = model(image_inputs(batch)["images"])
    assert tokens.dtype == tf.bfloat16
    tokens = tf.cast(tokens, tf.float32).numpy()[:, 1:].astype(np.float64)
    np.testing.assert_allclose(found[1], np.abs(tokens).mean((0, 1)), rtol=1e-5)


# --- weights set by hand -------------------------------------------------------------------------


def set_by_hand():
    """Three blocks of 20 units: one answers only to images, one only to text, one to both.

    Each token goes by itself, as attention adds nothing. Patches come as 8 in unit 0 and -8 in
    unit 1, words as zeros. The MLP of a block adds a constant to all tokens, and a vector to those
    that hold nothing in a certain unit: its one hidden unit is 16 there and, GELU being exactly 0
    far below 0, 0 where the normed token is large. So the next block turns patches to zeros and
    words to 8 in unit 2, and the last both to 8 in unit 4 and 4 in unit 5. What the means leave
    out is loud in other units.
    """
    backbone = ViTBertBackbone(
        num_layers=3,
        num_heads=1,
        hidden_dim=20,
        intermediate_dim=1,
        image_size=4,
        patch_size=2,
        vocabulary_size=len(VOCABULARY),
        max_sequence_length=8,
        dropout=0.0,
    )
    for variable in backbone.trainable_variables:
        variable.assign(np.full(variable.shape, float(variable.path.endswith("gamma"))))
    for layer in (backbone.image_embedding, backbone.text_embedding):
        layer.position_embedding.assign(np.zeros(layer.position_embedding.shape))

    def vector(**units):
        made = np.zeros(20)
        for name, value in units.items():
            made[int(name[1:])] = value
        return made

    patch, word, both = vector(u0=8, u1=-8), vector(u2=8, u3=-8), vector(u4=8, u5=4)
    loud = vector(u6=1000, u7=-1000)
    positions = np.tile(patch, (1, 5, 1))
    positions[0, 0] = loud
    backbone.image_embedding.position_embedding.assign(positions)
    words = np.zeros((len(VOCABULARY), 20))
    words[[VOCABULARY.index(token) for token in LEFT_OUT]] = loud
    backbone.text_embedding.word_embedding.embeddings.assign(words)

    def gate(block, closed_by, to_all, to_open):
        weights = {v.path.split(f"block_{block}/")[1]: v for v in backbone.blocks[block].variables}
        dense = "feedforward_intermediate_dense", "feedforward_output_dense"
        kernel = np.zeros((20, 1))
        kernel[closed_by] = -100
        weights[f"{dense[0]}/kernel"].assign(kernel)
        weights[f"{dense[0]}/bias"].assign([16])
        weights[f"{dense[1]}/kernel"].assign(to_open[None] / 16)
        weights[f"{dense[1]}/bias"].assign(to_all)

    gate(1, closed_by=0, to_all=-patch, to_open=patch + word)
    gate(2, closed_by=2, to_all=both - word, to_open=word)
    return backbone


def test_a_block_for_images_one_for_text_and_one_for_both():
    ids = [VOCABULARY.index(t) for t in ("[CLS]", "word1", "[MASK]", "[SEP]", "the", "[SEP]")]
    token_ids = np.array([[*ids, 0, 0], [*ids, 7, 8]], np.int32)
    batch = {
        "images": np.random.default_rng(0).random((3, 4, 4, 3), np.float32),
        "token_ids": token_ids,
        "segment_ids": np.zeros_like(token_ids),
        "padding_mask": np.array([[1] * 6 + [0] * 2, [1] * 8], np.int32),
    }
    found = means_of(set_by_hand())([tensors(batch)])
    image, text = np.zeros((2, 3, 20))
    image[0, :2] = text[1, 2:4] = 8
    image[2, 4:6] = text[2, 4:6] = [8, 4]
    np.testing.assert_array_equal(found["image"], image)
    np.testing.assert_array_equal(found["text"], text)
    numbers = co_activation(**found)
    assert numbers["overlap"].tolist() == [0, 0, 1]
    assert numbers["correlation"] == pytest.approx([0, 0, 1], abs=1e-12)


# --- replicas ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def of_replicas(tmp_path_factory):
    """`of_replicas(replicas)`: the values that a process of its own finds with so many."""

    @functools.cache
    def of_replicas(replicas):
        path = tmp_path_factory.mktemp("replicas") / "values.npz"
        status, errors = Forked(replicas_script.main, replicas, str(path)).end()
        assert status == 0, errors[-3000:]
        return dict(np.load(path))

    return of_replicas


@pytest.mark.slow
@pytest.mark.parametrize("replicas", [2, 4])
def test_replicas_are_one(of_replicas, replicas):
    one, many = of_replicas(1), of_replicas(replicas)
    assert many["traced"] == one["traced"] == 1
    for modality in ("image", "text"):
        assert one[modality].min() > 0
        np.testing.assert_allclose(many[modality], one[modality], rtol=1e-5)
