"""Writes the folder of a shared model: with what it was made from, its digests and its card."""

import copy
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import keras

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.provenance import ORIGIN_FILE
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.trained.model_card import FILE
from keras_vitbert.trained.trained_model import TrainedModel
from pipelines.digests import write_sums
from pipelines.files import write_atomically


def write_shared(
    path: str,
    write: Callable[[str], Any],
    trained: TrainedModel,
    made_of: dict[str, Any],
    card: str,
) -> None:
    """Writes the complete folder at a local path, or nothing; `write` writes the model there."""
    target = os.path.realpath(path)  # `path` may be a link to an empty folder
    parent = os.path.dirname(target)
    try:
        os.makedirs(parent, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent, prefix=".preset-") as work:
            _reserve(os.path.join(work, "reserved"), trained.network.weights)
            folder = os.path.join(work, "preset")
            os.mkdir(folder)
            write(folder)
            origin = json.dumps(made_of, indent=2) + "\n"
            write_atomically(os.path.join(folder, ORIGIN_FILE), origin)
            write_sums(folder)  # before the model card is written, which people may change
            write_atomically(os.path.join(folder, FILE), card)
            if os.path.isdir(target):
                os.rmdir(target)
            shutil.move(folder, target)
    except OSError as error:  # which may not name the file
        raise ValueError(f"{path}: cannot be written ({error})") from error


def _reserve(path, weights):
    """Checks that the disk has room: h5py may crash the process if it has none."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    size = sum(math.prod(weight.shape) * 4 for weight in weights)
    with open(path, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * size + (1 << 20))  # the layout takes room too
    os.unlink(path)


def round_weights(network: keras.Model, dtype: str) -> None:
    """Rounds the float32 weights of a network to values that `bfloat16` can hold, if asked to."""
    for weight in network.weights:
        if weight.dtype == "float32":
            weight.assign(keras.ops.cast(keras.ops.cast(weight, dtype), weight.dtype))


def write_weights(trained: TrainedModel, folder: str, dtype: str) -> None:
    """Writes a run's folder with what its use requires, and without the state of its training.

    It can replace the run everywhere, but no run can resume from it.

    Args:
        trained: a run of `pretrain` that was opened in float32.
        folder: local and empty.
        dtype: `float32` or `bfloat16`, in which the weights are stored.
    """
    source, target = RunFolder(trained.path), RunFolder(folder)
    record = copy.deepcopy(trained.record)
    data = record["experiment"]["data"]
    for kind in ("images", "text"):
        data[kind] |= {"train": "", "validation": ""}
    data["vocabulary"] = ""
    target.write_json("config.json", record)
    if trained.summary:
        bad = [
            {**damage, "file": os.path.basename(damage["file"])}
            for damage in trained.summary["bad_records"]
        ]
        target.write_json("summary.json", {**trained.summary, "bad_records": bad})
    for name in ("vocabulary.txt", "classes.txt"):
        text = source.read(name)
        if text is not None:
            target.write(name, text)
    checkpoints.write_weights(target.checkpoints, trained.network, trained.step, dtype)
