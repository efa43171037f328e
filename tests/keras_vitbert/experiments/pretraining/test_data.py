"""Data that a config names: the names of their classes, and where none are told."""

import pytest

from keras_vitbert.configs.pretraining import PAPER_SIZES
from keras_vitbert.experiments.pretraining.data import open_data
from tests.keras_vitbert.tiny_runs import LENGTH, VOCABULARY, config_of, write_sources


def test_sizes_are_those_of_the_data(sources, capsys):
    zeros = [f"--config.model.{name}=0" for name in PAPER_SIZES]
    data = open_data(config_of(sources, *zeros))
    found = {"num_classes": 3, "vocabulary_size": len(VOCABULARY), "max_sequence_length": LENGTH}
    assert data.sizes == found and not capsys.readouterr().err
    assert data.texts.vocabulary_size == len(VOCABULARY)
    assert open_data(config_of(sources, *zeros, variant="bert")).sizes.keys() == set(found) - {
        "num_classes"
    }
    data = open_data(config_of(sources, "--config.model.vocabulary_size=40", variant="bert"))
    assert data.sizes["vocabulary_size"] == 40
    assert "40" in capsys.readouterr().err


def test_the_case_of_texts_is_that_of_their_manifests(tmp_path, capsys):
    folder = write_sources(tmp_path)
    manifests = list(folder.glob("text-*.manifest.json"))
    assert len(manifests) == 2 and open_data(config_of(folder, variant="bert")).case == "lower"
    for manifest in manifests:
        manifest.write_text(
            manifest.read_text().replace('"lower_case": true', '"lower_case": false')
        )
    assert open_data(config_of(folder, variant="bert")).case == "cased"  # without upper case
    with pytest.raises(ValueError, match="data.case"):
        open_data(config_of(folder, "--config.data.case=lower", variant="bert"))
    assert not capsys.readouterr().err
    for manifest in manifests:
        manifest.unlink()
    assert open_data(config_of(folder, "--config.data.case=cased", variant="bert")).case == "cased"
    assert open_data(config_of(folder, variant="bert")).case == "lower"
    assert "vocab.txt" in capsys.readouterr().err


def test_class_names_where_none_or_others_are_told(tmp_path, capsys):
    folder = write_sources(tmp_path)
    with pytest.raises(ValueError, match="num_classes"):
        open_data(config_of(folder, "--config.model.num_classes=4", variant="vit"))
    (folder / "classes.txt").unlink()
    data = open_data(config_of(folder, variant="vit"))
    assert data.classes is None and data.sizes == {"num_classes": 3}
    assert not capsys.readouterr().err
    data = open_data(config_of(folder, "--config.model.num_classes=0", variant="vit"))
    assert data.sizes == {"num_classes": 1000}
    assert "1,000" in capsys.readouterr().err
    (folder / "classes.txt").write_bytes(b"\xff\n\xfe\n\xfd\n")
    with pytest.raises(ValueError, match=r"classes\.txt"):
        open_data(config_of(folder, variant="vit"))
