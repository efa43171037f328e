"""The files of a server beside the models: its config, and requests for its warm-up."""

import os

import pytest
import tensorflow as tf

from keras_vitbert.serving import warmup


def requests(folder):
    path = os.path.join(folder, *warmup.WARMUP_FILE.split("/"))
    return [record.numpy() for record in tf.data.TFRecordDataset(path)]


@pytest.mark.parametrize("name, path", [("a-b.c", "/models/a-b.c"), ("d", '/é "\\ x/d')])
def test_a_config_is_read_by_the_servers_own_messages(name, path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = warmup.model_config({name: path})
    (model,) = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, path, "tensorflow")


def test_warm_up_requests_are_the_servers_own_messages(exported, read_back, served):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    names = []
    for record in requests(exported / "vitbert" / "1"):
        log = logs.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.name == "vitbert"
        names.append(request.model_spec.signature_name)
        inputs = {key: tf.constant(tf.make_ndarray(v)) for key, v in request.inputs.items()}
        answer = read_back.signatures[names[-1]](**inputs)
        assert all(value.shape[0] == 1 for value in answer.values())
        # A message has many encodings, but only one without default values.
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
