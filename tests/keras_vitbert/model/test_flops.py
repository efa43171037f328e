"""The formulas against a count of all products in the graphs that TensorFlow makes."""

import math

import pytest
import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.flops import TRAINING, classifier_flops, image_flops, text_flops
from keras_vitbert.model.pretraining_network import build_network

MODEL = {
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 40,
    "image_size": 12,
    "patch_size": 4,
    "num_classes": 7,
    "vocabulary_size": 50,
    "max_sequence_length": 24,
    "dropout": 0.0,
}
BATCH, LENGTH, PREDICTIONS = 3, 20, 5
IMAGES = {"images": tf.zeros((BATCH, 12, 12, 3))}
TEXTS = {
    name: tf.ones((BATCH, length), tf.int32)
    for name, length in (
        ("token_ids", LENGTH),
        ("segment_ids", LENGTH),
        ("padding_mask", LENGTH),
        ("masked_positions", PREDICTIONS),
    )
}


def product(operation):
    """The operations of a product by the shapes of its operands; 0 for any other node."""
    if operation.type not in ("MatMul", "BatchMatMulV2", "Einsum"):
        return 0
    shapes = [tensor.shape.as_list() for tensor in operation.inputs]
    if operation.type == "Einsum":
        equation = operation.get_attr("equation").decode()
        letters = equation.split("->")[0].split(",")
        sizes = {}
        for names, shape in zip(letters, shapes, strict=True):
            assert "." not in names
            sizes |= dict(zip(names, shape, strict=True))
        return 2 * math.prod(sizes.values())
    transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
    inner = shapes[0][-2 if transposed else -1]
    return 2 * inner * math.prod(operation.outputs[0].shape.as_list())


def count(function):
    """The operations of all products of a graph, those of the functions that it calls included."""
    graph = tf.function(function).get_concrete_function().graph

    def of(operations):
        total = 0
        for operation in operations:
            total += product(operation)
            if operation.type in ("PartitionedCall", "StatefulPartitionedCall"):
                name = operation.get_attr("f").name
                inner = function_def_to_graph(graph._get_function(name).cached_definition)
                total += of(inner.get_operations())
        return total

    return of(graph.get_operations())


def training(network, inputs):
    """Forward and backward."""

    def step():
        with tf.GradientTape() as tape:
            outputs = network(inputs, training=True)
            loss = sum(tf.reduce_sum(x * x) for x in tf.nest.flatten(outputs))
        return tape.gradient(loss, [v.value for v in network.trainable_variables])

    return step


@pytest.fixture(scope="module")
def network():
    return build_network(MODEL, dtype="float32")


@pytest.mark.parametrize("inputs", [IMAGES, TEXTS], ids=["images", "texts"])
def test_of_pretraining(network, inputs):
    if inputs is IMAGES:
        formula = BATCH * image_flops(network.backbone, MODEL["num_classes"])
        pixels = 2 * BATCH * 12 * 12 * 3 * MODEL["hidden_dim"]  # need no gradient
    else:
        formula, pixels = BATCH * text_flops(network.backbone, LENGTH, PREDICTIONS), 0
    assert count(lambda: network(inputs)) == formula
    assert count(training(network, inputs)) == TRAINING * formula - pixels


def test_of_fine_tuning():
    images = build_classifier(MODEL, "images", 4, dtype="float32")
    assert count(lambda: images(IMAGES)) == BATCH * classifier_flops(images.backbone, 4)
    texts = build_classifier(MODEL, "text", 4, dtype="float32")
    assert count(lambda: texts(TEXTS)) == BATCH * classifier_flops(texts.backbone, 4, LENGTH)
