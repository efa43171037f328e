"""Presets: the same outputs before and after, through our classes and keras-hub's."""

import shutil

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.trained import hub
from keras_vitbert.trained.finding import PRESET, find
from keras_vitbert.trained.hub import available_kinds, build_task
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.images.image_decoding import central_crop
from pipelines.text.wordpiece import SPECIAL_TOKENS

VOCABULARY = [*SPECIAL_TOKENS, "the", "fox", "##es", "ran", ".", "[", "]", "mask"]
CLASSES = ["cat", "dog", "fox"]


@pytest.fixture(scope="module")
def model(tiny, randomize):
    """It has all heads that a run can leave."""
    tiny = {**tiny, "vocabulary_size": len(VOCABULARY)}
    network = randomize(build_network(tiny), 0)
    text = randomize(build_classifier(tiny, {"text": 2}), 1)
    heads = {"image": network.image_head, "text": text.head, "mlm": network.mlm_head}
    names = {"classes": CLASSES, "text_classes": CLASSES[:2]}
    return TrainedModel(
        *("runs/r", "r", network.backbone, heads),
        vocabulary=VOCABULARY,
        central_crop=0.75,
        **names,
    )


@pytest.fixture(scope="module")
def presets(model, tmp_path_factory):
    """Folder of each kind."""
    folders = {}
    for kind in available_kinds(model):
        folders[kind] = str(tmp_path_factory.mktemp("presets") / kind)
        build_task(model, kind).save_to_preset(folders[kind])
    return folders


def test_every_kind_comes_back(model, presets):
    heads = {"image_classifier": ["image"], "text_classifier": ["text"], "masked_lm": ["mlm"]}
    found = {kind: load(folder) for kind, folder in presets.items()}
    assert {kind: list(it.heads) for kind, it in found.items()} == heads | {"backbone": []}
    assert found["image_classifier"].classes == CLASSES
    assert found["text_classifier"].classes == CLASSES[:2]
    assert found["image_classifier"].central_crop == 0.75
    assert found["masked_lm"].vocabulary == VOCABULARY and found["masked_lm"].lower_case
    for it in found.values():
        for ours, theirs in zip(it.backbone.weights, model.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert find(presets["backbone"]).kind == PRESET


def test_keras_hub_loads_them_by_its_own_names(model, presets):
    """Encoded as in training, and the same logits, through the preprocessors inside."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 11, 9, 3)).astype(np.uint8)
    classifier = keras_hub.models.ImageClassifier.from_preset(presets["image_classifier"])
    images = [central_crop(tf.io.encode_png(image), 6, 0.75) for image in pixels]
    sequence = model.backbone({"images": np.stack(images) / np.float32(255)})["image_sequence"]
    expected = model.heads["image"](sequence[:, 0])
    np.testing.assert_allclose(classifier.predict(pixels, verbose=0), expected, atol=1e-5)
    assert classifier.preprocessor.class_names == CLASSES

    texts = (["the foxes", "ran"], ["ran .", "the fox ran . the fox ran ."])
    classifier = keras_hub.models.TextClassifier.from_preset(presets["text_classifier"])
    tokens = np.zeros((2, 7), np.int32)
    tokens[0] = [2, 5, 6, 3, 8, 9, 3]  # room for four: the longer text loses its end
    tokens[1] = [2, 8, 3, 5, 6, 8, 3]
    segments = np.array([[0] * 4 + [1] * 3, [0] * 3 + [1] * 4])
    text = {"token_ids": tokens, "segment_ids": segments, "padding_mask": tokens > 0}
    sequence = model.backbone(text)["text_sequence"]
    expected = model.heads["text"](sequence[:, 0])
    np.testing.assert_allclose(classifier.predict(texts, verbose=0), expected, atol=1e-5)

    words = keras_hub.models.MaskedLM.from_preset(presets["masked_lm"])
    positions = np.array([[1, 2], [4, 1]])
    found = words({**text, "mask_positions": positions})
    np.testing.assert_allclose(found, model.heads["mlm"](sequence, positions), atol=1e-5)


def test_damaged_presets_are_refused(presets, refused, tmp_path):
    folder = shutil.copytree(presets["masked_lm"], tmp_path / "preset")
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(folder, "preset")
    weights.unlink()
    refused(folder, "preset")


def test_the_tokenizer_knows_masks_where_it_is_told_to():
    tokenizer = hub.ViTBertTokenizer(VOCABULARY, special_tokens_in_strings=True)
    assert tokenizer("the [MASK] ran") == [5, 4, 8]
    plain = hub.ViTBertTokenizer(VOCABULARY, sequence_length=6)
    assert np.asarray(plain("the [MASK] ran")).tolist() == [5, 10, 12, 11, 8, 0]
    named = hub.ViTBertTokenizer(VOCABULARY, dtype="string")
    assert named(["The foxes", ""]) == [["the", "fox", "##es"], []]
