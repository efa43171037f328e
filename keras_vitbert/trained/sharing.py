"""Writes the folder of a run of `pretrain` for sharing: its weights alone, and no paths."""

import copy
import os

import keras

from keras_vitbert.runs import checkpoints
from keras_vitbert.runs.run_folder import RunFolder


def round_weights(network, dtype):
    """Rounds the weights of a network to values that a smaller dtype can hold.

    Args:
        network: Keras model with float32 variables.
        dtype: str, `float32` or `bfloat16`.
    """
    for weight in network.weights:
        if weight.dtype == "float32":
            rounded = keras.ops.cast(weight, dtype)
            weight.assign(keras.ops.cast(rounded, weight.dtype))


def write_weights(trained, folder, dtype):
    """Writes a run's folder with what its use requires, and without the state of its training.

    It can replace the run everywhere, but no run can resume from it.

    Args:
        trained: `keras_vitbert.trained.trained_model.TrainedModel`, a run of `pretrain` that was
            opened in float32.
        folder: str, local and empty.
        dtype: str, `float32` or `bfloat16`, in which the weights are stored.
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
