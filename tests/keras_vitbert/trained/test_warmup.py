"""The files of a server beside the models: its config, and requests for its warm-up."""

import pytest
import tensorflow as tf

from keras_vitbert.trained import warmup


@pytest.mark.parametrize("name, path", [("a-b.c", "/models/a-b.c"), ("d", '/é "\\ x/d')])
def test_a_config_is_read_by_the_servers_own_messages(name, path):
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    from google.protobuf import text_format

    text = warmup.model_config({name: path})
    (model,) = text_format.Parse(text, config.ModelServerConfig()).model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (name, path, "tensorflow")


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
