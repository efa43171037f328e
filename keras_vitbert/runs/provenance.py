"""A run's provenance: software, and digests of data and models.

Paths and names of files do not count: files may move, but not change.
"""

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_vitbert
from keras_vitbert.configs.model import RATES
from pipelines.text.wordpiece import vocabulary_hash

names_digest = vocabulary_hash  # of a vocabulary, or of the names of classes, in their order
_CODE = (":/keras_vitbert", ":/pipelines", ":/tpu")  # of the repository
_ONEDNN = "TF_ENABLE_ONEDNN_OPTS"  # chooses kernels, which round differently


def versions() -> dict[str, str]:
    """What results may depend on besides settings and inputs."""
    backend = keras.backend.backend()
    packages = ["keras-hub", "tensorflow-text", "numpy"]
    if backend == "jax":
        packages += ["jax", "jaxlib"]
    return {
        "keras_vitbert": keras_vitbert.__version__,
        "commit": commit() or "none",
        "python": platform.python_version(),
        "backend": backend,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        **{name.replace("-", "_"): _version(name) for name in packages},
        _ONEDNN: os.environ.get(_ONEDNN, "unset"),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


@functools.cache
def commit() -> str:
    """The commit of the code, with `+` where files differ from it; empty outside of a checkout."""
    run = functools.partial(
        subprocess.run, cwd=os.path.dirname(__file__), check=True, capture_output=True, text=True
    )
    try:
        run(["git", "ls-files", "--error-unmatch", __file__])  # not of one around an environment
        changed = run(["git", "status", "--porcelain", "-uno", "--", *_CODE]).stdout
        return run(["git", "rev-parse", "HEAD"]).stdout.strip() + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def data_digest(source: Any) -> str:
    """The digest of a source of data, such as `RecordFiles` or `LabelledTexts`."""
    # Its own samples the content of large files; a manifest's, or without one that of the checksums
    # of all records, covers what lies between the samples.
    names = ("sha256", "manifest_sha256", "checksums_sha256")
    return _digest(json.dumps([getattr(source, name, None) for name in names]))


def model_digest(model: Any) -> str:
    """The digest of the weights of a backbone, a network on one, or a `Teacher`.

    It covers the settings that its answers depend on. Names, the dtype policy and dropout are left
    out: whoever opens the model decides on them. So are vocabularies and class names, which have
    digests of their own.
    """
    network = getattr(model, "network", model)
    config = getattr(network, "backbone", network).get_config()
    left_out = ("name", "dtype", "trainable", *RATES)
    settings = {key: value for key, value in config.items() if key not in left_out}
    heads = getattr(network, "heads", getattr(network, "head_kind", None))
    content = json.dumps([settings, heads, weights_sha256(network)], sort_keys=True)
    return _digest(content)


def weights_sha256(model: Any) -> str:
    """The digest of a model's weights alone."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def run_provenance(record: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """A run's provenance, for files derived from it, by its `config.json` and `summary.json`.

    `inputs`, the names of `accepted_changes`, the `versions` that trained it; and for fine-tuning
    the provenance of the `checkpoint`. The summary is empty for an unfinished run.
    """
    provenance = {
        "inputs": record["inputs"],
        "accepted_changes": accepted_names(record),
        "versions": summary.get("versions") or record["versions"],
    }
    if "checkpoint_origin" in record:
        provenance["checkpoint"] = record["checkpoint_origin"]
    return provenance


def accepted_names(record: Mapping[str, Any]) -> list[str]:
    """The names of the accepted changes in a `config.json` or `summary.json`, each once."""
    return list(dict.fromkeys(change["name"] for change in record["accepted_changes"]))


def accepted_lines(summary: Mapping[str, Any]) -> list[str]:
    """What a report says about the accepted changes in a `summary.json`: no line, or one."""
    names = accepted_names(summary)
    return [f"  accepted changes since it began: {', '.join(names)}"] if names else []
