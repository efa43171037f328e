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


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("run", finding.RUN, "run"),
        ("fine_tuned_texts", finding.FINE_TUNED, "fine_tuned_texts"),
        ("preset", finding.PRESET, "preset"),
        ("export/vitbert", finding.EXPORT, "export/vitbert/1"),
        ("export/vitbert/1", finding.EXPORT, "export/vitbert/1"),
    ],
)
def test_what_this_project_wrote(name, kind, path):
    found = find(str(SAVED / name))
    assert (found.kind, found.path, found.label) == (kind, str(SAVED / path), str(SAVED / name))
    config = SAVED / path / "config.json"
    assert found.config == (json.loads(config.read_text()) if config.exists() else {})


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"registered_name": "keras_hub>BertBackbone"}, finding.PRESET),
        ({"model_type": "bert"}, finding.HUGGING_FACE),
        ({"architectures": []}, finding.HUGGING_FACE),
    ],
)
def test_folders_by_their_config(tmp_path, config, kind):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find(str(tmp_path)) == finding.Source(kind, str(tmp_path), str(tmp_path), config)


def test_runs_of_another_format_are_refused_by_name(tmp_path):
    config = {"format": 2, "experiment": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json is not of format 1"):
        find(str(tmp_path))


def test_files_of_google(tmp_path):
    np.savez(tmp_path / "vit.npz", a=np.zeros(1))
    path = str(tmp_path / "vit.npz")
    assert find(path) == finding.Source(finding.GOOGLE_VIT, path, path)
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "bert_config.json").write_text("{}")
    (folder / "model.ckpt.index").touch()
    prefix = str(folder / "model.ckpt")
    assert find(prefix) == finding.Source(finding.GOOGLE_BERT, prefix, prefix)
    assert find(str(folder)) == finding.Source(finding.GOOGLE_BERT, prefix, str(folder))
    (folder / "other.ckpt.index").touch()
    with pytest.raises(ValueError, match="no model is there"):
        find(str(folder))
    (folder / "bert_model.ckpt.index").touch()  # the name that Google gave it
    assert find(str(folder)).path == str(folder / "bert_model.ckpt")


def test_paths_without_a_known_model(tmp_path):
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "config.json").write_text('{"a": 1, "variant": "vit"}')
    for name in ("nowhere", "file.txt", "empty", "other"):
        with pytest.raises(ValueError, match=f"^{tmp_path / name}: no model is there; give"):
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


def test_the_columns_of_a_run_wherever_it_lies(tmp_path):
    """`ram://` is TensorFlow's other file system at hand."""
    record = json.loads((SAVED / "fine_tuned_texts" / "config.json").read_text())
    record = {**record, "columns": {"sentences": ["title"], "label": "kind"}}
    for folder in (str(tmp_path), "ram://columns_of"):
        tf.io.gfile.makedirs(folder)
        with tf.io.gfile.GFile(f"{folder}/config.json", "w") as file:
            file.write(json.dumps(record))
        assert columns_of(folder) == ["title"]
    assert columns_of(str(SAVED / "fine_tuned_images")) == columns_of(str(SAVED / "preset")) == []
    assert columns_of("hf://owner/name") == columns_of(str(tmp_path / "none")) == []


def test_small_files(tmp_path):
    path = tmp_path / "config.json"
    assert finding.read_json(str(path)) is None
    for content in (b"[1]", b'{"a":\n 1,', b"", b"[" * 100_000, b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"^{path}: ."):
            finding.read_json(str(path))
