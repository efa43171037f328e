"""Data that a config names: the names of their classes, and where none are told."""

import pytest

from keras_vitbert.pretraining.data import open_data
from pipelines import sample
from pipelines.command_line import UserError
from tests.keras_vitbert.tiny_runs import CLASS_NAMES, config_of, write_sources


def test_class_names_lie_beside_the_training_images(sources):
    data = open_data(config_of(sources))
    assert data.classes == CLASS_NAMES
    assert open_data(config_of(sources), images=False).classes is None


def test_class_names_where_none_or_others_are_told(sources, tmp_path):
    assert open_data(config_of(sources, "--config.model.num_classes=4"), text=False).classes is None
    folder = write_sources(tmp_path)
    (folder / "classes.txt").unlink()
    assert open_data(config_of(folder), text=False).classes is None
    (folder / "classes.txt").write_bytes(b"\xff\n\xfe\n\xfd\n")
    with pytest.raises(UserError, match=r"classes\.txt: cannot be read \(.*\); fix or remove it"):
        open_data(config_of(folder), text=False)


def test_class_names_of_the_sample(sources, monkeypatch):
    files = {f"image_{split}": f"{sources}/images-{split}-*" for split in ("train", "validation")}
    rest = dict.fromkeys(("text_train", "text_validation", "vocabulary", "folder"), "")
    prepared = sample.PreparedData(**files, **rest, num_classes=10)
    monkeypatch.setattr(sample, "prepare", lambda *args, **settings: prepared)
    config = config_of(sources, "--config.data.source=sample", "--config.model.num_classes=10")
    assert open_data(config, text=False).classes == list("0123456789")
