"""The heads of a trained model as ONNX files, which share one file of weights."""

import hashlib
import logging
import math
import os
import re
import tempfile
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from onnx.external_data_helper import set_external_data
from onnx.reference import ReferenceEvaluator
from onnxruntime.quantization import QuantType, quantize_dynamic

from keras_vitbert.trained.portable.comparison import compare
from keras_vitbert.trained.portable.head_graphs import head_graphs, input_specs
from keras_vitbert.trained.trained_model import TrainedModel

WEIGHTS = "weights.bin"
OPSET = 18
_INT8 = re.compile(r"^block_|/word_embedding|^mlm_head/logits")  # operations
_SHARED_BYTES = 1024  # a smaller tensor stays in its graph
_ALIGNMENT = 64  # of weights in their file, in bytes: that of a line of a processor's cache


def write_onnx(trained: TrainedModel, folder: str, int8: bool = False) -> None:
    """Writes `HEAD.onnx` for each head of a float32 model, and `weights.bin`; compares logits.

    Raises:
        ValueError: a graph has an operation that ONNX does not define, or answers otherwise.
    """
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    logging.getLogger().addFilter(_is_of_use)
    graphs = {}
    for head, function in head_graphs(trained, _gelu).items():
        graphs[head] = _converted(trained, head, function.python_function)
        _require_known(graphs[head], head)
    _write({head: _quantised(graph) if int8 else graph for head, graph in graphs.items()}, folder)
    for head in graphs:
        session: Any = open_graph(os.path.join(folder, f"{head}.onnx"))
        compare(trained, head, lambda inputs, run=session.run: run(None, inputs)[0], int8)


def open_graph(path: str) -> onnxruntime.InferenceSession:
    """Opens an ONNX file to run it on the processor."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _is_of_use(record: logging.LogRecord) -> bool:
    """Whether a line of the log says something: the quantiser always advises another step."""
    return not str(record.msg).startswith("Please consider to run pre-processing")


def _converted(trained: TrainedModel, head: str, logits: Callable) -> onnx.ModelProto:
    """A head as an ONNX graph with its weights.

    tf2onnx copies a graph some fifty times; it gets the weights as inputs, and sees none of them.
    """
    layers = trained.backbone, trained.heads[head]
    weights = {f"weight_{n}": v for n, v in enumerate(v for x in layers for v in x.weights)}
    of_head = input_specs(trained, head)

    def of_weights(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        values = zip(weights.values(), inputs[len(of_head) :], strict=True)
        with keras.StatelessScope(state_mapping=list(values)):
            return logits(*inputs[: len(of_head)])

    specs = of_head + [tf.TensorSpec(v.shape, v.dtype, name) for name, v in weights.items()]
    function = tf.function(of_weights, input_signature=specs, autograph=False)
    model, _ = tf2onnx.convert.from_function(function, specs, OPSET)
    graph = model.graph
    values = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values |= {name: np.asarray(keras.ops.convert_to_numpy(v)) for name, v in weights.items()}
    del graph.input[len(of_head) :], graph.initializer[:]
    _fold(graph, values)
    used = {name for node in graph.node for name in node.input}
    of_graph = (onnx.numpy_helper.from_array(values[n], n) for n in values if n in used)
    graph.initializer.extend(of_graph)
    return model


def _fold(graph: onnx.GraphProto, values: dict[str, np.ndarray]) -> None:
    """Computes what depends on known values alone, such as kernels as matrices."""
    others = []
    for node in graph.node:
        inputs = {name: values.get(name) for name in node.input if name}
        if all(value is not None for value in inputs.values()):
            found: Any = ReferenceEvaluator(node).run(None, inputs)
            values |= dict(zip(node.output, found, strict=True))
        else:
            others.append(node)
    del graph.node[:]
    graph.node.extend(others)


def _gelu(x: tf.Tensor) -> tf.Tensor:
    """GELU by `erf`: the `Erfc` of TensorFlow's own has no counterpart in ONNX."""
    return 0.5 * x * (1 + tf.math.erf(x / math.sqrt(2)))


def _require_known(graph: onnx.ModelProto, head: str) -> None:
    """Refuses operations that ONNX does not define: tf2onnx leaves those it does not know."""
    foreign = {node.op_type for node in graph.graph.node if node.domain not in ("", "ai.onnx")}
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise ValueError(
            f"{head}: ONNX has no such graph ({str(error).splitlines()[0]})"
        ) from error
    if foreign:
        raise ValueError(f"{head}: ONNX has no operation {', '.join(sorted(foreign))}")


def _quantised(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A graph with the kernels of blocks, the word embedding and the vocabulary's logits as int8.

    The patches' projection and the other layers of heads, which are small, stay float. Kernels have
    a scale per column, and signs: on processors with VNNI, unsigned ones take 1.7 times as long. On
    x86 processors without it, onnxruntime may clip a large sum of two products.
    """
    names = [node.name for node in graph.graph.node if _INT8.search(node.name)]
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "int8.onnx")
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=names,
            extra_options={"MatMulConstBOnly": True},
        )
        return onnx.load(path)


def _write(graphs: dict[str, onnx.ModelProto], folder: str) -> None:
    """Writes graphs; of their large tensors, each content once, into the file of weights."""
    places = {}
    with open(os.path.join(folder, WEIGHTS), "wb") as weights:
        for head, graph in graphs.items():
            for tensor in graph.graph.initializer:
                array = onnx.numpy_helper.to_array(tensor)
                if array.nbytes < _SHARED_BYTES:
                    continue
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
                digest = hashlib.sha256(tensor.raw_data).digest()
                if digest not in places:
                    weights.write(bytes(-weights.tell() % _ALIGNMENT))
                    places[digest] = weights.tell()
                    weights.write(tensor.raw_data)
                set_external_data(tensor, WEIGHTS, places[digest], length=array.nbytes)
                tensor.ClearField("raw_data")
            onnx.save(graph, os.path.join(folder, f"{head}.onnx"))
