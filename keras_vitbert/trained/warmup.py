"""What TensorFlow Serving reads besides a SavedModel: its config, and requests for its warm-up.

The protocol buffers of TensorFlow Serving are a package that nothing else here needs, so the few
messages are encoded here: a field of text, bytes or a message is its number and kind, its length,
and its content (https://protobuf.dev/programming-guides/encoding).
"""

import json

import tensorflow as tf

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # within the folder of a version


def write_warmup(path, model_name, requests):
    """Writes requests as TFRecords of `tensorflow.serving.PredictionLog`.

    A server runs them before it takes requests, so no client waits for the first run.

    Args:
        path: str.
        model_name: str.
        requests: list of (name of a signature, dict of an input's name to its value).
    """
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(model_name, signature, inputs))


def prediction_log(model_name, signature, inputs):
    """Serialises a `PredictionLog` of a `PredictRequest`.

    Args:
        model_name, signature: str.
        inputs: dict of an input's name to a value for `tf.make_tensor_proto`.

    Returns:
        bytes.
    """
    # ModelSpec: name = 1, signature_name = 3
    model_spec = _field(1, model_name.encode()) + _field(3, signature.encode())
    request = _field(1, model_spec)  # PredictRequest: model_spec = 1, map inputs = 2
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))  # PredictionLog: predict_log = 6; PredictLog: request = 1


def model_config(base_paths):
    """The text of a `ModelServerConfig`, the server's `--model_config_file`.

    Args:
        base_paths: dict of a model's name to its absolute path on the server.

    Returns:
        str.
    """
    models = "".join(
        "  config {\n"
        f"    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(path, ensure_ascii=False)}\n"
        '    model_platform: "tensorflow"\n'
        "  }\n"
        for name, path in base_paths.items()
    )
    return f"model_config_list {{\n{models}}}\n"


def _field(number, content):
    """A field of bytes: its number with kind 2, its length, and its content."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(number):
    """Seven bits per byte, the lowest first; the highest bit says that more bytes follow."""
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
