import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  for the operations in the graph

from keras_vitbert.trained import exporting
from keras_vitbert.trained.finding import find


def test_what_is_read_back_gives_the_same_answers(make_trained, tmp_path):
    version, served = exporting.export(make_trained(images=False), str(tmp_path))
    assert not os.listdir(os.path.join(version, "assets"))  # the vocabulary is in the graph
    with open(os.path.join(version, "assets.extra", "origin.json")) as file:
        origin = json.load(file)
    assert origin["name"] == "vitbert" and len(origin["weights_sha256"]) == 64
    read_back = tf.saved_model.load(version)
    texts = tf.constant([["The cat sats.", "sat"], ["", "the cat"]])
    expected = served.functions["embed_text"](texts)
    for name in ("serving_default", "embed_text"):
        found = read_back.signatures[name](text=texts)
        np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-6)


@pytest.mark.slow
def test_versions_follow_each_other_and_models_stand_side_by_side(embedder, tmp_path):
    first, _ = exporting.export(embedder, str(tmp_path), name="one")
    # A folder that is no version, and a version that a server would not see.
    (tmp_path / "one" / "notes").mkdir()
    (tmp_path / "other").mkdir()
    second, _ = exporting.export(embedder, str(tmp_path), name="one", base_path="/models/")
    third, _ = exporting.export(embedder, str(tmp_path), name="t-w.o", version=7)
    versions = [os.path.relpath(path, tmp_path) for path in (first, second, third)]
    assert versions == ["one/1", "one/2", "t-w.o/7"]
    assert find(str(tmp_path / "one")).path == second
    with pytest.raises(ValueError, match="7 exists already"):
        exporting.export(embedder, str(tmp_path), name="t-w.o", version=7)
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = (tmp_path / "models.config").read_text()
    parsed = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in parsed] == [
        (name, f"{tmp_path}/{name}", "tensorflow") for name in ("one", "t-w.o")
    ]


def test_nothing_is_left_of_an_export_that_fails(embedder, tmp_path, monkeypatch):
    def fail(model, folder, *arguments):
        assert not (tmp_path / "it" / "1").exists()
        os.mkdir(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        exporting.export(embedder, str(tmp_path), name="it")
    assert os.listdir(tmp_path / "it") == [] and os.listdir(tmp_path) == ["it"]
