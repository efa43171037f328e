"""The heads of a trained model as files for LiteRT, formerly TensorFlow Lite."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from keras_vitbert.trained.portable.comparison import Arrays, compare
from keras_vitbert.trained.portable.head_graphs import head_graphs
from keras_vitbert.trained.trained_model import TrainedModel


def write_litert(trained: TrainedModel, folder: str, int8: bool = False) -> None:
    """Writes `HEAD.tflite` for each head of a float32 model, and compares its logits.

    Raises:
        ValueError: LiteRT has no such operation, or the graph answers otherwise.
    """
    for head, function in head_graphs(trained, keras.activations.gelu).items():
        concrete = [function.get_concrete_function()]
        converter = tf.lite.TFLiteConverter.from_concrete_functions(concrete, function)
        if int8:  # the weights; activations become integers while it runs
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        path = os.path.join(folder, f"{head}.tflite")
        with open(path, "wb") as file:
            file.write(converter.convert())
        interpreter = Interpreter(path)
        compare(trained, head, lambda inputs, to=interpreter: answer(to, inputs), int8)


def answer(interpreter: Any, inputs: Arrays) -> np.ndarray:
    """The logits of a graph for inputs of any batch and length."""
    places = {entry["name"]: entry["index"] for entry in interpreter.get_input_details()}
    for name, value in inputs.items():
        interpreter.resize_tensor_input(places[name], value.shape)
    interpreter.allocate_tensors()
    for name, value in inputs.items():
        interpreter.set_tensor(places[name], value)
    interpreter.invoke()
    [output] = interpreter.get_output_details()
    return interpreter.get_tensor(output["index"])
