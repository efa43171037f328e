import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.inspection.activations import LEFT_OUT, MeanActivations
from keras_vitbert.model.pretraining_network import image_inputs
from pipelines.text.wordpiece import SPECIAL_TOKENS
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
    batch |= {"image_weights": np.ones(len(batch["images"])), "text_weights": np.ones(1)}
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


def test_sums_are_float32_under_mixed_bfloat16(make_network, make_batch):
    """Sums of bfloat16 would stand still at some 256 times the addend."""
    backbone = make_network(dtype="mixed_bfloat16").backbone
    batch = tensors(make_batch(0, images=256))
    weights = {"image_weights": tf.ones(256), "text_weights": tf.ones(len(batch["token_ids"]))}
    found = means_of(backbone)([batch | weights])["image"]
    model = keras.Model(backbone.input["images"], backbone.block_outputs["image_block_1"])
    tokens = model(image_inputs(batch)["images"])
    assert tokens.dtype == tf.bfloat16
    tokens = tf.cast(tokens, tf.float32).numpy()[:, 1:].astype(np.float64)
    np.testing.assert_allclose(found[1], np.abs(tokens).mean((0, 1)), rtol=1e-5)
