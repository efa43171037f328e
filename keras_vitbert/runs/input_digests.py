"""Digests of what a run is made from: data, names, models.

Paths and names of files do not count: files may move, but not change.
"""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_vitbert.configs.model import RATES
from pipelines.text.wordpiece import vocabulary_hash


def data_digest(source: Any) -> str:
    """The digest of a source of data, such as `RecordFiles` or `LabelledTexts`.

    Its own samples the content of large files; a manifest's, or without one that of the checksums
    of all records, covers what lies between the samples.
    """
    names = ("sha256", "manifest_sha256", "checksums_sha256")
    return _digest(json.dumps([getattr(source, name, None) for name in names]))


def names_digest(names: Sequence[str]) -> str:
    """The digest of a vocabulary, or of the names of classes, in their order."""
    return vocabulary_hash(names)


def model_digest(model: Any) -> str:
    """The digest of a model's weights, and of the settings that its answers depend on.

    Names, the dtype policy and dropout are left out: whoever opens the model decides on them. So
    are vocabularies and class names, which have digests of their own.

    Args:
        model: Keras model of this project: a backbone, a network on one, or a `Teacher`.
    """
    network = getattr(model, "network", model)
    config = getattr(network, "backbone", network).get_config()
    left_out = ("name", "dtype", "trainable", *RATES)
    settings = {key: value for key, value in config.items() if key not in left_out}
    heads = getattr(network, "heads", getattr(network, "head_kind", None))
    content = json.dumps([settings, heads, weights_sha256(network)], sort_keys=True)
    return _digest(content)


def weights_sha256(model: keras.layers.Layer) -> str:
    """The digest of a model's weights alone."""
    digest = hashlib.sha256()
    for variable in model.weights:
        value = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
        digest.update(f"{value.dtype} {value.shape}\n".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
