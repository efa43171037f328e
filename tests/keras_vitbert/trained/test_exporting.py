import json
import os

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  for the operations in the graph

from keras_vitbert.trained import exporting
from keras_vitbert.trained.finding import find
from tests.pipelines.image_fixtures import encoded, picture


@pytest.fixture(scope="module")
def read_back(exported):
    """The exported model as TensorFlow loads it."""
    return tf.saved_model.load(str(exported / "vitbert" / "1"))


def test_the_layout_is_that_of_a_server(exported):
    version = exported / "vitbert" / "1"
    assert sorted(os.listdir(exported)) == ["models.config", "vitbert"]
    assert os.listdir(exported / "vitbert") == ["1"]
    assert {"saved_model.pb", "variables", "assets.extra"} <= set(os.listdir(version))
    assert not list(version.glob("assets/*"))  # the vocabulary is in the graph
    origin = json.loads((version / "assets.extra" / "origin.json").read_text())
    assert origin["name"] == "vitbert" and len(origin["weights_sha256"]) == 64


def test_what_is_read_back_gives_the_same_numbers(read_back, served):
    assert set(read_back.signatures) == {"serving_default", *served.functions}
    images = {"image": tf.constant([encoded(picture(n), quality=90) for n in range(3)])}
    texts = {"text": tf.constant([["cat [MASK].", "[MASK]"], ["a [MASK]", ""]])}
    for name, function in served.functions.items():
        inputs = images if "image" in name else texts
        expected, found = function(**inputs), read_back.signatures[name](**inputs)
        assert set(found) == set(expected)
        for key, value in expected.items():
            if value.dtype == tf.string:
                assert found[key].numpy().tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(found[key], value, atol=1e-6)
    default = read_back.signatures["serving_default"](**images)
    assert set(default) == {"probabilities", "top_k_labels", "top_k_probabilities"}


@pytest.mark.slow
def test_versions_follow_each_other_and_models_stand_side_by_side(embedder, tmp_path):
    first, _ = exporting.export(embedder, str(tmp_path), name="one")
    # A folder that is no version, and a version that a server would not see.
    (tmp_path / "one" / "notes").mkdir()
    (tmp_path / "other").mkdir()
    second, _ = exporting.export(embedder, str(tmp_path), name="one", base_path="/models/")
    third, _ = exporting.export(embedder, str(tmp_path), name="t-w.o", version=7)
    assert [os.path.relpath(path, tmp_path) for path in (first, second, third)] == [
        "one/1",
        "one/2",
        "t-w.o/7",
    ]
    assert find(str(tmp_path / "one")).path == second
    assert find(first).path == first
    with pytest.raises(ValueError, match="no model is there"):
        find(str(tmp_path / "other"))
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
