"""The kinds of models at a path."""

import fnmatch
import json
import pathlib

import huggingface_hub
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.fine_tuning.pretrained import open_pretrained
from keras_vitbert.trained import finding, sources
from keras_vitbert.trained.finding import columns_of, exported_versions, find

SAVED = pathlib.Path(__file__).parent / "saved"


@pytest.mark.parametrize(
    ("name", "kind", "path"),
    [
        ("run", sources.RUN, "run"),
        ("fine_tuned_images", sources.FINE_TUNED, "fine_tuned_images"),
        ("fine_tuned_texts", sources.FINE_TUNED, "fine_tuned_texts"),
        ("preset", sources.PRESET, "preset"),
        ("export/vitbert", sources.EXPORT, "export/vitbert/1"),
        ("export/vitbert/1", sources.EXPORT, "export/vitbert/1"),
    ],
)
def test_what_this_project_wrote(name, kind, path):
    found = find(str(SAVED / name))
    assert (found.kind, found.path, found.label) == (kind, str(SAVED / path), str(SAVED / name))
    config = SAVED / path / "config.json"
    assert found.config == (json.loads(config.read_text()) if config.exists() else {})


def test_models_that_come_with_the_project_have_names(monkeypatch):
    monkeypatch.setattr(finding, "_OWN_MODELS", str(SAVED))
    assert "run" in finding.own_models()
    found = find("run")
    assert (found.kind, found.path, found.label) == (sources.RUN, str(SAVED / "run"), "run")
    opened = open_pretrained("rand", architecture="run", kind="text")
    record = json.loads((SAVED / "run" / "config.json").read_text())
    assert opened.model["hidden_dim"] == record["experiment"]["model"]["hidden_dim"]
    assert opened.vocabulary == (SAVED / "run" / "vocabulary.txt").read_text().splitlines()
    monkeypatch.setattr(finding, "_OWN_MODELS", str(SAVED / "none"))
    assert finding.own_models() == []


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"format": 1, "experiment": {"variant": "vit"}}, sources.RUN),
        ({"format": 1, "experiment": {"task": "texts"}}, sources.FINE_TUNED),
        ({"registered_name": "keras_hub>BertBackbone"}, sources.PRESET),
        ({"model_type": "bert"}, sources.HUGGING_FACE),
        ({"architectures": []}, sources.HUGGING_FACE),
    ],
)
def test_folders_by_their_config(tmp_path, config, kind):
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert find(str(tmp_path)) == sources.Source(kind, str(tmp_path), str(tmp_path), config)


@pytest.mark.parametrize(
    "config", [{"schema": 3, "variant": "vit", "config": {}}, {"format": 2, "experiment": {}}]
)
def test_runs_of_another_format_are_refused_by_name(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"^{tmp_path}/config.json is not of format 1"):
        find(str(tmp_path))


def test_files_of_google(tmp_path):
    np.savez(tmp_path / "vit.npz", a=np.zeros(1))
    path = str(tmp_path / "vit.npz")
    assert find(path) == sources.Source(sources.GOOGLE_VIT, path, path)
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "bert_config.json").write_text("{}")
    (folder / "model.ckpt.index").touch()
    prefix = str(folder / "model.ckpt")
    assert find(prefix) == sources.Source(sources.GOOGLE_BERT, prefix, prefix)
    assert find(str(folder)) == sources.Source(sources.GOOGLE_BERT, prefix, str(folder))
    (folder / "other.ckpt.index").touch()
    with pytest.raises(ValueError, match="holds 2 checkpoints"):
        find(str(folder))
    (folder / "bert_model.ckpt.index").touch()  # the name that Google gave it
    assert find(str(folder)).path == str(folder / "bert_model.ckpt")


def test_the_latest_version_of_an_export(tmp_path):
    for name in ("9", "10", "11", "007", "notes", ".12-ab"):
        (tmp_path / name).mkdir()
        if name != "11":  # which is incomplete
            (tmp_path / name / "saved_model.pb").touch()
    assert exported_versions(str(tmp_path)) == [7, 9, 10]
    found = find(str(tmp_path))
    assert (found.kind, found.path) == (sources.EXPORT, str(tmp_path / "10"))
    assert exported_versions(str(tmp_path / "nowhere")) == []


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
        (("model.weights.h5",), "model.weights.h5"),  # of a keras-hub preset
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
    assert (found.kind, found.path) == (sources.HUGGING_FACE, str(tmp_path))
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
