"""The folder of a model without TensorFlow."""

import dataclasses
import hashlib
import json
import os

import pytest

from keras_vitbert.trained.portable.folder import write_folder
from tests.keras_vitbert.trained.served_models import CLASSES, VOCABULARY


@pytest.fixture
def both(make_trained):
    """A classifier of images and of texts."""
    trained = make_trained("image", "text")
    return dataclasses.replace(trained, network=trained.backbone, text_classes=["no", "yes"])


def test_what_is_written(both, tmp_path):
    folder = tmp_path / "new" / "it"
    write_folder(both, str(folder), "onnx", name="mine")
    assert sorted(os.listdir(folder)) == sorted(
        [
            *("image.onnx", "text.onnx", "weights.bin", "settings.json", "vocabulary.txt"),
            *("characters.json", "predict.py", "README.md", "origin.json", "sha256sums.txt"),
        ]
    )
    assert json.loads((folder / "settings.json").read_text()) == {
        "format": 1,
        "name": "mine",
        "image": {"size": 6, "central_crop": 1.0, "classes": CLASSES},
        "text": {"max_length": 7, "classes": ["no", "yes"]},
        "int8": False,
    }
    assert (folder / "vocabulary.txt").read_text().splitlines() == VOCABULARY
    for line in (folder / "sha256sums.txt").read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    assert "python predict.py FILE" in (folder / "README.md").read_text()


def test_nothing_is_left_of_an_export_that_fails(both, monkeypatch, tmp_path):
    monkeypatch.setattr("keras_vitbert.trained.portable.comparison.TOLERANCE", 0)
    with pytest.raises(ValueError, match="differ by"):
        write_folder(both, str(tmp_path / "it"), "onnx")
    assert os.listdir(tmp_path) == []


def test_a_model_without_heads_is_refused(embedder, tmp_path):
    with pytest.raises(ValueError, match="has no head"):
        write_folder(embedder, str(tmp_path / "it"), "onnx")
