"""Data that a config names: the names of their classes, and where none are told."""

import pytest

from keras_vitbert.configs import sample
from keras_vitbert.pretraining.data import open_data
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


@pytest.mark.slow
def test_class_names_of_the_sample(tmp_path):
    config = sample.get_config()
    data = open_data(config, cache_dir=str(tmp_path), text=False)
    assert data.classes == ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]
