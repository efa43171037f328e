"""Presets: the same numbers before and after, in our classes and through keras-hub's."""

import json
import os
import shutil

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from ml_collections import config_dict

from keras_vitbert import convert, hub
from keras_vitbert.fine_tuning.pretrained import open_pretrained
from keras_vitbert.hub.model_card import model_card
from keras_vitbert.hub.presets import available_kinds, build_task
from keras_vitbert.importing.sources import PRESET
from keras_vitbert.model.backbone import ViTBertBackbone
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.trained.finding import find
from keras_vitbert.trained.loading import load
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.command_line import UserError, run
from pipelines.images.image_decoding import central_crop
from pipelines.text.wordpiece import SPECIAL_TOKENS
from tests.keras_vitbert import pretrain_fixtures

VOCABULARY = [*SPECIAL_TOKENS, "the", "fox", "##es", "ran", ".", "[", "]", "mask"]
CLASSES = ["cat", "dog", "fox"]


@pytest.fixture(scope="module")
def trained(tiny, randomize):
    """A model with all heads that a run can leave."""
    tiny = {**tiny, "vocabulary_size": len(VOCABULARY)}
    network = randomize(build_network(tiny), 0)
    text = randomize(build_classifier(tiny, "text", 2), 1)
    heads = {"image": network.image_head, "text": text.head, "mlm": network.mlm_head}
    return TrainedModel("runs/r", "r", network.backbone, heads, CLASSES, VOCABULARY, True, 0.75)


@pytest.fixture(scope="module")
def presets(trained, tmp_path_factory):
    """Folder of each kind."""
    folders = {}
    for kind in available_kinds(trained):
        folders[kind] = str(tmp_path_factory.mktemp("presets") / kind)
        names = CLASSES[:2] if kind == "text_classifier" else CLASSES
        part = TrainedModel(**{**vars(trained), "classes": names})
        build_task(part, kind).save_to_preset(folders[kind])
    return folders


def test_every_kind_comes_back(trained, presets):
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
        for ours, theirs in zip(backbone.weights, trained.backbone.weights, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert load(presets["backbone"]).heads == {}
    assert find(presets["backbone"]).kind == PRESET


def test_keras_hub_loads_them_by_its_own_names(trained, presets):
    """Encoded as in training, and the same logits, through the preprocessors inside."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (2, 11, 9, 3)).astype(np.uint8)
    classifier = keras_hub.models.ImageClassifier.from_preset(presets["image_classifier"])
    images = [central_crop(tf.io.encode_png(image), 6, 0.75) for image in pixels]
    sequence = trained.backbone({"images": np.stack(images) / np.float32(255)})["image_sequence"]
    expected = trained.heads["image"](sequence[:, 0])
    np.testing.assert_allclose(classifier.predict(pixels, verbose=0), expected, atol=1e-5)
    assert classifier.preprocessor.class_names == CLASSES

    texts = (["the foxes", "ran"], ["ran .", "the fox ran . the fox ran ."])
    classifier = keras_hub.models.TextClassifier.from_preset(presets["text_classifier"])
    tokens = np.zeros((2, 7), np.int32)
    tokens[0] = [2, 5, 6, 3, 8, 9, 3]  # room for four: the longer text loses its end
    tokens[1] = [2, 8, 3, 5, 6, 8, 3]
    segments = np.array([[0] * 4 + [1] * 3, [0] * 3 + [1] * 4])
    text = {"token_ids": tokens, "segment_ids": segments, "padding_mask": tokens > 0}
    expected = trained.heads["text"](trained.backbone(text)["text_sequence"][:, 0])
    np.testing.assert_allclose(classifier.predict(texts, verbose=0), expected, atol=1e-5)

    words = keras_hub.models.MaskedLM.from_preset(presets["masked_lm"])
    words.preprocessor = None
    found = words.predict({**text, "mask_positions": np.array([[1, 2], [4, 1]])}, verbose=0)
    sequence = trained.backbone(text)["text_sequence"]
    expected = trained.heads["mlm"](sequence, np.array([[1, 2], [4, 1]]))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_tokenizer_knows_masks_where_it_is_told_to():
    tokenizer = hub.ViTBertTokenizer(VOCABULARY, special_tokens_in_strings=True)
    assert tokenizer("the [MASK] ran") == [5, 4, 8]
    plain = hub.ViTBertTokenizer(VOCABULARY, sequence_length=6)
    assert plain("the [MASK] ran").tolist() == [5, 10, 12, 11, 8, 0]
    named = hub.ViTBertTokenizer(VOCABULARY, dtype="string")
    assert named(["The foxes", ""]) == [["the", "fox", "##es"], []]


def test_images_of_several_sizes_are_converted():
    converter = hub.ViTBertImageConverter((4, 4), central_crop=1.0)
    found = converter([np.full((8, 6, 3), 255), np.zeros((5, 5, 3))])
    np.testing.assert_array_equal(found, np.stack([np.ones((4, 4, 3)), np.zeros((4, 4, 3))]))


def test_presets_are_uploaded_by_keras_hub(presets, tmp_path, monkeypatch):
    """As far as that goes without a hub: what is uploaded is the folder with its own card."""
    from keras_hub.src.utils import preset_utils

    folder = tmp_path / "preset"
    shutil.copytree(presets["masked_lm"], folder)
    (folder / "README.md").write_text("the card")
    uploaded = {}

    class Hub:
        def create_repo(self, repo_id, exist_ok):
            return type("Repository", (), {"repo_id": repo_id})

        def file_exists(self, repo_id, filename):
            return True

        def upload_folder(self, repo_id, folder_path):
            uploaded[repo_id] = sorted(os.listdir(folder_path))

    monkeypatch.setattr(preset_utils, "huggingface_hub", Hub())
    keras_hub.upload_preset("hf://somebody/words", str(folder))
    assert uploaded == {"somebody/words": sorted(os.listdir(folder))}
    assert (folder / "README.md").read_text() == "the card"


# --- the command ----------------------------------------------------------------------------------


def test_a_run_becomes_a_preset_with_its_card(finished, tmp_path, capsys):
    folder = str(tmp_path / "new" / "preset")
    source = str(finished("vitbert_no_kd", "--config.model.dropout=0"))
    capsys.readouterr()
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={folder}"]) == 0
    assert capsys.readouterr().out == f"image_classifier of vitbert_no_kd: {folder}\n"
    card = open(os.path.join(folder, "README.md"), encoding="utf-8").read()
    summary = json.loads(open(os.path.join(source, "summary.json"), encoding="utf-8").read())
    value = summary["validation"]["image_accuracy"]
    assert f"| image classification accuracy | {value:.4f} |" in card
    assert "pipeline_tag: image-classification" in card and "gender and race" in card
    assert "`merge.mask_update_interval` | 2 |" in card and "classes | 3: cat, dog, tench" in card
    assert str(tmp_path) not in card  # where data lay is not told
    ours, theirs = load(folder), load(source)
    assert ours.classes == theirs.classes == ["cat", "dog", "tench"]
    images = np.random.default_rng(0).random((2, 8, 8, 3), np.float32)
    np.testing.assert_array_equal(
        *(
            t.heads["image"](t.backbone({"images": images})["image_sequence"][:, 0])
            for t in (ours, theirs)
        )
    )
    assert sorted(os.listdir(tmp_path / "new")) == ["preset"]  # nothing is left beside it


def test_fine_tuning_begins_with_a_preset_as_with_the_run(finished, tmp_path):
    source, folder = str(finished("vitbert_no_kd", "--config.model.dropout=0")), str(tmp_path / "p")
    flags = [f"--checkpoint={source}", f"--output_dir={folder}", "--task=masked_lm"]
    assert run(convert.main, flags) == 0
    config = config_dict.ConfigDict(
        {"image_size": 12, "max_length": 9, "dropout": 0.0, "dtype": "float32", "lora_rank": 0}
    )
    for kind in ("images", "text"):
        classifiers = []
        for checkpoint in (source, folder):
            pretrained = open_pretrained(checkpoint, kind=kind)
            keras.utils.set_random_seed(0)
            classifiers.append(pretrained.classifier(kind, 2, config))
            assert pretrained.vocabulary == (
                None if kind == "images" else pretrain_fixtures.VOCABULARY
            )
        (ours, done), (theirs, wanted) = classifiers
        assert done == wanted and done["embedding"] != "fresh"
        for our, their in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(our.value, their.value, err_msg=our.path)
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("".join(f"{token}\n" for token in [*SPECIAL_TOKENS, "another"]))
    with pytest.raises(UserError, match="is not the one that .* was trained with .its tokenizer"):
        open_pretrained(folder, vocabulary=str(vocabulary), kind="text")


def test_the_card_of_a_fine_tuned_model_tells_its_spread(trained):
    accuracy = {"median": 0.75, "minimum": 0.7, "maximum": 0.8}
    summary = {
        "metric": "accuracy",
        "learning_rate": 0.03,
        "steps": 7,
        "seeds": [0, 1, 2],
        "model": "trials/seed-rate-0.03-seed-2",
        "splits": {"test": {"examples": 40, "majority_accuracy": 0.1, "accuracy": accuracy}},
    }
    record = {
        "task": "cifar10",
        "checkpoint": "/home/somebody/runs/vitbert",
        "records": {"train": 100},
        "config": {"seed": 0, "steps": 0, "optimizer": {"learning_rate": 0.01, "ema": 0.0}},
    }
    card = model_card(
        TrainedModel(**{**vars(trained), "record": record, "summary": summary}), "image_classifier"
    )
    assert "| test, 40 examples | 0.7500 | 0.7000 | 0.8000 | 0.1000 |" in card
    assert "| `optimizer.learning_rate` | 0.03 |" in card and "| `seed` | 2 |" in card
    assert "`vitbert`" in card and "somebody" not in card and "ema" not in card


@pytest.mark.parametrize(
    "change, message",
    [
        (["--checkpoint="], "--checkpoint is missing"),
        (["--output_dir="], "--output_dir is missing"),
        (["--output_dir=gs://bucket/preset"], "keras_hub.upload_preset"),
        (["--task=text_classifier"], "has none; it has image_classifier, masked_lm, backbone"),
        (["--tasks=x"], "--help lists the flags"),
    ],
)
def test_bad_flags_are_told_in_a_line(change, message, finished, tmp_path, capsys):
    source = finished("vitbert_no_kd", "--config.model.dropout=0")
    capsys.readouterr()
    flags = [f"--checkpoint={source}", f"--output_dir={tmp_path}/preset", *change]
    assert run(convert.main, flags) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error
    assert not os.listdir(tmp_path)


def test_what_is_there_is_not_written_over(finished, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    source = finished("vitbert_no_kd", "--config.model.dropout=0")
    assert run(convert.main, [f"--checkpoint={source}", f"--output_dir={tmp_path}"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["file"]


def test_damaged_presets_are_refused(presets, tmp_path):
    folder = tmp_path / "preset"
    shutil.copytree(presets["masked_lm"], folder)
    weights = folder / "model.weights.h5"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(folder))
    os.remove(weights)
    with pytest.raises(UserError, match="cannot be loaded"):
        load(str(folder))
    (folder / "task.json").write_text('{"registered_name": "keras_hub>BertMaskedLM"}')
    with pytest.raises(UserError, match="not of ViT-BERT"):
        load(str(folder))
    with pytest.raises(UserError, match="no such folder"):
        load(str(tmp_path / "none"))
    with pytest.raises(UserError, match="holds no model"):
        load(str(tmp_path))
    assert ViTBertBackbone.from_preset(presets["backbone"]).image_size == 6
