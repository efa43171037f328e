"""Writes a trained model for TensorFlow Serving.

OUTPUT_DIR/models.config                        all models below OUTPUT_DIR, for the server
OUTPUT_DIR/NAME/VERSION/saved_model.pb          and variables/: the model
OUTPUT_DIR/NAME/VERSION/assets.extra/           origin.json: the model's provenance
"""

import json
import os
import re
import shutil
import uuid

import numpy as np
import tensorflow as tf

from keras_vitbert.trained.finding import exported_versions
from keras_vitbert.trained.served_model import FILL_MASK, ServedModel, input_name
from keras_vitbert.trained.trained_model import ORIGIN_FILE, TrainedModel, origin_of
from pipelines.digests import write_sums
from pipelines.files import make_folder, write_atomically
from pipelines.status import doing
from pipelines.text import tf_text
from pipelines.text.wordpiece import MASK

_TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}  # of answers of the model read back


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
            _write(served, temporary, trained)
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


def _write(served: ServedModel, folder: str, trained: TrainedModel) -> None:
    """Writes a version, and checks that it answers as the model does."""
    functions = served.functions
    default = next(iter(functions))
    signatures = {tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY: functions[default], **functions}
    tf.saved_model.save(served, folder, signatures)
    picture = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
    image = tf.io.encode_jpeg(picture).numpy()
    written = tf.saved_model.load(folder).signatures
    tolerance = _TOLERANCE[trained.backbone.variable_dtype]
    for signature, function in functions.items():
        text = f"Where is the {MASK}?" if signature == FILL_MASK else "Where is the man?"
        kind = input_name(signature)
        inputs = {kind: tf.constant([image if kind == "image" else text])}
        answers = written[signature](**inputs)
        for key, value in function(**inputs).items():
            if value.dtype == tf.float32:
                furthest = float(tf.reduce_max(tf.abs(answers[key] - value)))
                if not furthest <= tolerance:
                    raise AssertionError(f"{signature}: {key} differs by {furthest} when read back")
    os.makedirs(os.path.join(folder, "assets.extra"))
    origin = json.dumps(origin_of(trained), indent=2)
    write_atomically(os.path.join(folder, "assets.extra", ORIGIN_FILE), origin)
    write_sums(folder)


def model_config(base_paths: dict[str, str]) -> str:
    """The text of a `ModelServerConfig`, by the paths of models on the server."""
    models = "".join(
        f"  config {{\n    name: {json.dumps(name)}\n"
        f"    base_path: {json.dumps(path, ensure_ascii=False)}\n"
        '    model_platform: "tensorflow"\n  }\n'
        for name, path in base_paths.items()
    )
    return f"model_config_list {{\n{models}}}\n"
