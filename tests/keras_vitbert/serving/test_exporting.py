import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text  # noqa: F401  for the operations in the graph

from keras_vitbert import export
from keras_vitbert.serving import exporting, warmup
from keras_vitbert.trained.finding import find
from pipelines import command_line
from tests.pipelines.image_fixtures import encoded, picture


@pytest.fixture
def run(embedder, monkeypatch):
    """`run(*flags) -> status` of the command, whatever its checkpoint."""
    monkeypatch.setattr("keras_vitbert.trained.loading.load", lambda path, dtype: embedder)
    return lambda *flags: command_line.run(export.main, list(map(str, flags)))


def requests(folder):
    path = os.path.join(folder, *warmup.WARMUP_FILE.split("/"))
    return [record.numpy() for record in tf.data.TFRecordDataset(path)]


def test_the_layout_is_that_of_a_server(exported):
    version = exported / "vitbert" / "1"
    assert sorted(os.listdir(exported)) == ["models.config", "vitbert"]
    assert os.listdir(exported / "vitbert") == ["1"]
    assert {"saved_model.pb", "variables", "assets.extra"} <= set(os.listdir(version))
    assert not list(version.glob("assets/*"))  # the vocabulary is in the graph


def test_what_is_read_back_gives_the_same_numbers(exported, served):
    loaded = tf.saved_model.load(str(exported / "vitbert" / "1"))
    assert set(loaded.signatures) == {"serving_default", *served.functions}
    images = {"image": tf.constant([encoded(picture(n), quality=90) for n in range(3)])}
    texts = {"text": tf.constant([["cat [MASK].", "[MASK]"], ["a [MASK]", ""]])}
    for name, function in served.functions.items():
        inputs = images if "image" in name else texts
        expected, found = function(**inputs), loaded.signatures[name](**inputs)
        assert set(found) == set(expected)
        for key, value in expected.items():
            if value.dtype == tf.string:
                assert found[key].numpy().tolist() == value.numpy().tolist()
            else:
                np.testing.assert_allclose(found[key], value, atol=1e-6)
    default = loaded.signatures["serving_default"](**images)
    assert set(default) == {"probabilities", "top_k_labels", "top_k_probabilities"}


@pytest.mark.slow
def test_versions_follow_each_other_and_models_stand_side_by_side(embedder, tmp_path):
    first, _ = exporting.export(embedder, str(tmp_path), name="one")
    # A folder that is no version, and a version that a server would not see.
    (tmp_path / "one" / "notes").mkdir()
    (tmp_path / "other").mkdir()
    second, _ = exporting.export(embedder, str(tmp_path), name="one", base_path="/models/")
    third, _ = exporting.export(embedder, str(tmp_path), name="two", version=7)
    assert [os.path.relpath(path, tmp_path) for path in (first, second, third)] == [
        "one/1",
        "one/2",
        "two/7",
    ]
    assert find(str(tmp_path / "one")).path == second
    assert find(first).path == first
    with pytest.raises(command_line.UserError, match="no such folder"):
        find(str(tmp_path / "other"))
    with pytest.raises(command_line.UserError, match="two/7 is there already; give another"):
        exporting.export(embedder, str(tmp_path), name="two", version=7)
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = (tmp_path / "models.config").read_text()
    parsed = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config
    assert [(model.name, model.base_path, model.model_platform) for model in parsed] == [
        (name, f"{tmp_path}/{name}", "tensorflow") for name in ("one", "two")
    ]


@pytest.mark.parametrize("name, path", [("a-b.c", "/models/a-b.c"), ("d", '/é "\\ x/d')])
def test_a_config_is_read_by_the_servers_own_messages(name, path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = warmup.model_config({name: path})
    (model,) = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, path, "tensorflow")


def test_warm_up_requests_are_the_servers_own_messages(exported, served):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    loaded = tf.saved_model.load(str(exported / "vitbert" / "1"))
    names = []
    for record in requests(exported / "vitbert" / "1"):
        log = logs.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "vitbert"
        names.append(request.model_spec.signature_name)
        inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
        answer = loaded.signatures[names[-1]](**inputs)
        assert all(value.shape[0] == 1 for value in answer.values())
        # A message has many encodings in bytes; of those without defaults there is one.
        assert log.SerializeToString(deterministic=True) == record
    assert names == list(served.functions)


def test_the_encoding_of_a_message_by_hand():
    tensor = tf.make_tensor_proto(["x" * 200]).SerializeToString()
    assert 128 < len(tensor) < 16384
    size = bytes([len(tensor) & 127 | 128, len(tensor) >> 7])
    entry = b"\x0a\x01t\x12" + size + tensor
    size = bytes([len(entry) & 127 | 128, len(entry) >> 7])
    request = b"\x0a\x06\x0a\x01m\x1a\x01s" + b"\x12" + size + entry
    log = b"\x0a" + bytes([len(request) & 127 | 128, len(request) >> 7]) + request
    expected = b"\x32" + bytes([len(log) & 127 | 128, len(log) >> 7]) + log
    assert warmup.prediction_log("m", "s", {"t": ["x" * 200]}) == expected


@pytest.mark.parametrize("place", ["_write", "_check"])
def test_nothing_is_left_of_an_export_that_fails(embedder, tmp_path, monkeypatch, place):
    def fail(*arguments):
        assert not (tmp_path / "it" / "1").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr(exporting, place, fail)
    if place == "_check":
        monkeypatch.setattr(exporting, "_write", lambda _, folder, name: os.mkdir(folder))
    with pytest.raises(KeyboardInterrupt):
        exporting.export(embedder, str(tmp_path), name="it")
    assert os.listdir(tmp_path / "it") == [] and os.listdir(tmp_path) == ["it"]


def test_a_model_that_answers_otherwise_when_read_back_is_not_kept(
    embedder, make_trained, tmp_path, monkeypatch
):
    other = exporting.ServedModel(make_trained(seed=2, text=False))
    write = exporting._write
    monkeypatch.setattr(exporting, "_write", lambda _, folder, name: write(other, folder, name))
    with pytest.raises(AssertionError, match="embed_image: .* differs by"):
        exporting.export(embedder, str(tmp_path), name="it")
    assert os.listdir(tmp_path / "it") == []


def test_the_command(run, tmp_path, capsys):
    status = run("--checkpoint=it", f"--output_dir={tmp_path}", "--name=m", "--version=20251101")
    assert status == 0
    assert capsys.readouterr().out == f"{tmp_path}/m/20251101: embed_image\n"
    assert f'"{tmp_path}/m"' in (tmp_path / "models.config").read_text()


@pytest.mark.parametrize(
    "flags, complaint",
    [
        (["--checkpoint=x"], "--output_dir is missing"),
        (["--output_dir=x"], "--checkpoint is missing"),
        (["--checkpoint=x", "--output_dir={file}/y"], "cannot be written to"),
        (["--checkpoint=x", "--output_dir={file}"], "cannot be written to"),
        (["--checkpoint=x", "--output_dir=gs://b/c"], "give a local folder"),
        (["--checkpoint=x", "--output_dir={folder}", "--name=a/b"], "--name=a/b: no name"),
        (["--checkpoint=x", "--output_dir={folder}", "--dtype=float16"], "dtype"),
        (["--checkpoint=x", "--output_dir={folder}", "--top_k=0"], "top_k"),
        (["--checkpoint=x", "--output_dir={folder}", "--version=0"], "version"),
        (["--checkpoint=x", "--output_dir={folder}", "more"], "unexpected argument 'more'"),
    ],
)
def test_bad_flags(run, tmp_path, capsys, flags, complaint):
    (tmp_path / "file").write_text("")
    status = run(*(flag.format(file=tmp_path / "file", folder=tmp_path) for flag in flags))
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and complaint in lines[0]
    assert {path.name for path in pathlib.Path(tmp_path).iterdir()} == {"file"}


def test_a_checkpoint_that_is_not_there(tmp_path, capsys):
    flags = [f"--checkpoint={tmp_path}/none", f"--output_dir={tmp_path}/out"]
    assert command_line.run(export.main, flags) == 2
    assert "none: no such folder" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
