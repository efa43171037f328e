"""The kinds of models at a path."""

import fnmatch
import json
import pathlib

import huggingface_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.trained import finding
from keras_vitbert.trained.finding import columns_of, find

SAVED = pathlib.Path(__file__).parent / "saved"


def test_what_this_project_wrote():
    for name, kind in (
        ("run", finding.RUN),
        ("fine_tuned_texts", finding.FINE_TUNED),
        ("preset", finding.PRESET),
        ("export/vitbert/1", finding.EXPORT),
    ):
        found, path = find(str(SAVED / name)), str(SAVED / name)
        assert (found.kind, found.path, found.label) == (kind, path, path)
    assert find(str(SAVED / "export" / "vitbert")).path == str(SAVED / "export" / "vitbert" / "1")


def test_folders_by_their_config(tmp_path):
    for config, kind in (
        ({"registered_name": "keras_hub>BertBackbone"}, finding.PRESET),
        ({"model_type": "bert"}, finding.HUGGING_FACE),
        ({"architectures": []}, finding.HUGGING_FACE),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert find(str(tmp_path)) == finding.Source(kind, str(tmp_path), str(tmp_path), config)


def test_files_of_google(tmp_path):
    np.savez(tmp_path / "vit.npz", a=np.zeros(1))
    path = str(tmp_path / "vit.npz")
    assert find(path) == finding.Source(finding.GOOGLE_VIT, path, path)
    (tmp_path / "bert_config.json").write_text("{}")
    (tmp_path / "model.ckpt.index").touch()
    (tmp_path / "other.ckpt.index").touch()
    with pytest.raises(ValueError, match="no model is there"):
        find(str(tmp_path))  # it could be either
    (tmp_path / "bert_model.ckpt.index").touch()  # the name that Google gave it
    assert find(str(tmp_path)).path == str(tmp_path / "bert_model.ckpt")


def test_places_without_a_known_model(tmp_path):
    (tmp_path / "file.txt").write_text("text")
    for name, content in (
        ("other", '{"a": 1, "variant": "vit"}'),
        ("later", '{"format": 2, "experiment": {}}'),
        ("cut", '{"a": 1,'),
        ("list", "[1]"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
    for name in ("nowhere", "file.txt", "other", "later", "cut", "list"):
        with pytest.raises(ValueError, match=f"^{tmp_path / name}.*: ."):
            find(str(tmp_path / name))


@pytest.mark.parametrize(
    ("there", "fetched"),
    [
        (("pytorch_model.bin", "tf_model.h5"), "pytorch_model.bin"),  # the latter is not read
        (("model.safetensors", "pytorch_model.bin", "tf_model.h5"), "model.safetensors"),
    ],
)
def test_of_the_weights_in_a_repository_those_are_fetched_that_are_read(
    there, fetched, tmp_path, monkeypatch
):
    def snapshot_download(name, allow_patterns):
        assert name == "owner/name"
        for file in ("config.json", *there):
            if any(fnmatch.fnmatch(file, pattern) for pattern in allow_patterns):
                (tmp_path / file).write_text('{"model_type": "bert"}')
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    found = find("hf://owner/name")
    assert (found.kind, found.path) == (finding.HUGGING_FACE, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"config.json", fetched}


def test_the_columns_of_a_run_wherever_it_lies():
    """`ram://` is TensorFlow's other file system at hand."""
    record = json.loads((SAVED / "fine_tuned_texts" / "config.json").read_text())
    record = {**record, "columns": {"sentences": ["title"], "label": "kind"}}
    tf.io.gfile.makedirs("ram://columns_of")
    with tf.io.gfile.GFile("ram://columns_of/config.json", "w") as file:
        file.write(json.dumps(record))
    assert columns_of("ram://columns_of") == ["title"]
    assert columns_of(str(SAVED / "preset")) == columns_of("hf://owner/name") == []
