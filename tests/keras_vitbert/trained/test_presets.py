"""Presets: the same outputs before and after, through our classes and keras-hub's."""

import shutil

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained import hub
from keras_vitbert.trained.finding import PRESET, find
from keras_vitbert.trained.hub import available_kinds, build_task
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.images.image_decoding import central_crop
from tests.keras_vitbert.trained.words import CLASSES, VOCABULARY


@pytest.fixture(scope="module")
def presets(full_model, tmp_path_factory):
    """Folder of each kind."""
    folders = {}
    for kind in available_kinds(full_model):
        folders[kind] = str(tmp_path_factory.mktemp("presets") / kind)
        names = CLASSES[:2] if kind == "text_classifier" else CLASSES
        part = TrainedModel(**{**vars(full_model), "classes": names})
        build_task(part, kind).save_to_preset(folders[kind])
    return folders


def test_every_kind_comes_back(full_model, presets):
    assert list(presets) == ["image_classifier", "text_classifier", "masked_lm", "backbone"]
    for kind, head in (("image_classifier", "image"), ("text_classifier", "text")):
        found = load(presets[kind])
        assert list(found.heads) == [head] and found.name == kind
        assert found.classes == CLASSES[: found.heads[head].num_classes]
    assert load(presets["image_classifier"]).central_crop == 0.75
    words = load(presets["masked_lm"])
    assert words.vocabulary == VOCABULARY and words.lower_case and list(words.heads) == ["mlm"]
    for folder in presets.values():
        backbone = load(folder).backbone
        for ours, theirs in zip(backbone.weights, full_model.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert load(presets["backbone"]).heads == {}
    assert find(presets["backbone"]).kind == PRESET


def test_keras_hub_loads_them_by_its_own_names(full_model, presets):
    """Encoded as in training, and the same logits, through the preprocessors inside."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 11, 9, 3)).astype(np.uint8)
    classifier = keras_hub.models.ImageClassifier.from_preset(presets["image_classifier"])
    images = [central_crop(tf.io.encode_png(image), 6, 0.75) for image in pixels]
    sequence = full_model.backbone({"images": np.stack(images) / np.float32(255)})["image_sequence"]
    expected = full_model.heads["image"](sequence[:, 0])
    np.testing.assert_allclose(classifier.predict(pixels, verbose=0), expected, atol=1e-5)
    assert classifier.preprocessor.class_names == CLASSES

    texts = (["the foxes", "ran"], ["ran .", "the fox ran . the fox ran ."])
    classifier = keras_hub.models.TextClassifier.from_preset(presets["text_classifier"])
    tokens = np.zeros((2, 7), np.int32)
    tokens[0] = [2, 5, 6, 3, 8, 9, 3]  # room for four: the longer text loses its end
    tokens[1] = [2, 8, 3, 5, 6, 8, 3]
    segments = np.array([[0] * 4 + [1] * 3, [0] * 3 + [1] * 4])
    text = {"token_ids": tokens, "segment_ids": segments, "padding_mask": tokens > 0}
    expected = full_model.heads["text"](full_model.backbone(text)["text_sequence"][:, 0])
    np.testing.assert_allclose(classifier.predict(texts, verbose=0), expected, atol=1e-5)

    words = keras_hub.models.MaskedLM.from_preset(presets["masked_lm"])
    words.preprocessor = None
    found = words.predict({**text, "mask_positions": np.array([[1, 2], [4, 1]])}, verbose=0)
    sequence = full_model.backbone(text)["text_sequence"]
    expected = full_model.heads["mlm"](sequence, np.array([[1, 2], [4, 1]]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_damaged_presets_are_refused(presets, tmp_path):
    folder = tmp_path / "preset"
    shutil.copytree(presets["masked_lm"], folder)
    weights = folder / "model.weights.h5"
    for damage in (
        lambda: weights.write_bytes(weights.read_bytes()[:1000]),
        lambda: weights.unlink(),
        lambda: (folder / "task.json").write_text('{"registered_name": "keras_hub>BertMaskedLM"}'),
    ):
        damage()
        with pytest.raises(ValueError, match=str(folder)):
            load(str(folder))


def test_the_tokenizer_knows_masks_where_it_is_told_to():
    tokenizer = hub.ViTBertTokenizer(VOCABULARY, special_tokens_in_strings=True)
    assert tokenizer("the [MASK] ran") == [5, 4, 8]
    plain = hub.ViTBertTokenizer(VOCABULARY, sequence_length=6)
    assert np.asarray(plain("the [MASK] ran")).tolist() == [5, 10, 12, 11, 8, 0]
    named = hub.ViTBertTokenizer(VOCABULARY, dtype="string")
    assert named(["The foxes", ""]) == [["the", "fox", "##es"], []]
