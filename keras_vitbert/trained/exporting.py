"""Writes a trained model for TensorFlow Serving.

OUTPUT_DIR/models.config                        all models below OUTPUT_DIR, for the server
OUTPUT_DIR/NAME/VERSION/saved_model.pb          and variables/: the model
OUTPUT_DIR/NAME/VERSION/assets.extra/           requests for the server's warm-up, and origin.json:
                                                what the model was made from
"""

import json
import os
import re
import shutil
import uuid

import numpy as np
import tensorflow as tf

from keras_vitbert.runs.provenance import ORIGIN_FILE, origin_of
from keras_vitbert.trained.finding import exported_versions
from keras_vitbert.trained.served_model import FILL_MASK, ServedModel, input_name
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.digests import write_sums
from pipelines.files import make_folder, write_atomically
from pipelines.status import doing
from pipelines.text import tf_text
from pipelines.text.wordpiece import MASK

_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}  # of answers of the model read back
WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"  # within the folder of a version


def export(
    trained: TrainedModel,
    output_dir: str,
    name: str = "",
    version: int | None = None,
    top_k: int = 5,
    base_path: str = "",
) -> tuple[str, ServedModel]:
    """Writes one version of a model, all of it or nothing, and returns its folder and graphs.

    What is written is read back and answers as the model does, before a server can see it.

    Args:
        output_dir: a local folder.
        name: for clients; the model's own if empty.
        version: None for the next free one.
        top_k: see `ServedModel`.
        base_path: the server's path to `output_dir`; its absolute path if empty.

    Raises:
        ValueError: the name is invalid, the version exists, the folder is not local, the model has
            nothing to serve, or it takes text and tensorflow-text, whose operations its graph
            holds, is not installed.
    """
    name = name or re.sub(r"[^\w.-]", "_", trained.name, flags=re.ASCII)
    if not re.fullmatch(r"\w[\w.-]*", name, re.ASCII):
        raise ValueError(f"name={name}: use letters, digits, `_`, `.` and `-`")
    if trained.vocabulary is not None:
        tf_text.require("exporting a model that takes text")
    if "://" in output_dir:
        raise ValueError(f"{output_dir}: give a local folder, and copy what is in it")
    output_dir = os.path.abspath(output_dir)
    folder = os.path.join(output_dir, name)
    make_folder(folder)
    if version is None:
        version = max(exported_versions(folder), default=0) + 1
    target = os.path.join(folder, str(version))
    if os.path.exists(target):
        raise ValueError(f"{target} exists already; give another version, or none for the next")
    served = ServedModel(trained, top_k)
    if not served.functions:
        raise ValueError(f"{trained.path}: has neither heads nor a vocabulary; nothing to serve")
    # A server loads a version as soon as it is there, and ignores this name.
    temporary = os.path.join(folder, f".{version}-{uuid.uuid4().hex}")
    try:
        with doing("writing the model"):
            _write(served, temporary, name, origin_of(trained), trained.backbone.variable_dtype)
        os.rename(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    base_path = base_path or output_dir
    base_paths = {
        model: f"{base_path.rstrip('/')}/{model}"
        for model in sorted(os.listdir(output_dir))
        if exported_versions(os.path.join(output_dir, model))
    }
    write_atomically(os.path.join(output_dir, "models.config"), model_config(base_paths))
    return target, served


def _write(served, folder, name, made_of, dtype):
    functions = served.functions
    default = next(iter(functions))
    signatures = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: functions[default], **functions}
    tf.saved_model.save(served, folder, signatures)
    warmup = os.path.join(folder, WARMUP_FILE)
    os.makedirs(os.path.dirname(warmup))
    picture = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    image = tf.io.encode_jpeg(picture).numpy()
    written = tf.saved_model.load(folder).signatures
    with tf.io.TFRecordWriter(warmup) as writer:
        for signature, function in functions.items():
            text = f"Where is the {MASK}?" if signature == FILL_MASK else "Where is the man?"
            inputs = {input_name(signature): [image if "image" in signature else text]}
            writer.write(prediction_log(name, signature, inputs))
            tensors = {key: tf.constant(value) for key, value in inputs.items()}
            answers = function(**tensors), written[signature](**tensors)
            _require_same(signature, *answers, _TOLERANCE[dtype])
    origin = os.path.join(os.path.dirname(warmup), ORIGIN_FILE)
    write_atomically(origin, json.dumps(made_of, indent=2))
    write_sums(folder)


def _require_same(signature, expected, found, tolerance):
    """Compares the answers of a model with those of what was written."""
    for key, value in expected.items():
        if value.dtype == tf.float32:
            furthest = float(tf.reduce_max(tf.abs(found[key] - value)))
            if not furthest <= tolerance:
                raise AssertionError(f"{signature}: {key} differs by {furthest} when read back")


def model_config(base_paths: dict[str, str]) -> str:
    """The text of a `ModelServerConfig`, by the paths of models on the server."""
    models = "".join(
        f"  config {{\n    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(path, ensure_ascii=False)}\n"
        '    model_platform: "tensorflow"\n  }\n'
        for name, path in base_paths.items()
    )
    return f"model_config_list {{\n{models}}}\n"


def prediction_log(model_name: str, signature: str, inputs: dict[str, list]) -> bytes:
    """A request of a server's warm-up: a serialised `tensorflow.serving.PredictionLog`.

    TensorFlow has no such message, and tensorflow-serving-api, which has it, is needed for nothing
    else, so the few fields are encoded here: https://protobuf.dev/programming-guides/encoding.
    """
    # ModelSpec: name = 1, signature_name = 3; PredictRequest: model_spec = 1, map inputs = 2;
    # PredictionLog: predict_log = 6; PredictLog: request = 1
    request = _field(1, _field(1, model_name.encode()) + _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number, content):
    """A field of bytes: its number with kind 2, its length, seven bits a byte, and its content."""
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content
