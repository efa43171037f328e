"""The heads of a trained model as files for LiteRT, formerly TensorFlow Lite."""

import os
import tempfile
from typing import Any

import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_vitbert.trained.portable.comparison import compare
from keras_vitbert.trained.portable.head_graphs import head_graphs
from keras_vitbert.trained.trained_model import TrainedModel


def write_litert(trained: TrainedModel, folder: str, int8: bool = False) -> None:
    """Writes `HEAD.tflite` for each head of a float32 model, and compares its logits.

    Raises:
        ValueError: a graph answers otherwise.
    """
    layers: list[Any] = [trained.backbone, *trained.heads.values()]
    for head, function in head_graphs(trained, tf.nn.gelu).items():
        model: Any = tf.Module()
        model.weights = [weight.value for layer in layers for weight in layer.weights]
        with tempfile.TemporaryDirectory() as saved:  # only from there, inputs keep their names
            tf.saved_model.save(model, saved, function)
            converter = tf.lite.TFLiteConverter.from_saved_model(saved)
            if int8:  # the weights; activations become integers while it runs
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
            content = converter.convert()
        path = os.path.join(folder, f"{head}.tflite")
        with open(path, "wb") as file:
            file.write(content)
        run = open_graph(path)
        compare(trained, head, lambda inputs, run=run: next(iter(run(**inputs).values())), int8)


def open_graph(path: str) -> Any:
    """Opens a file to run it: a function of inputs by name to a dict of the logits."""
    return Interpreter(path).get_signature_runner()
