"""The formulas against a count of all products in the graphs that TensorFlow makes."""

import math

import tensorflow as tf
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.flops import TRAINING, classified_text_flops, image_flops, text_flops
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs


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


def test_of_pretraining(network, batch):
    for inputs in (image_inputs(batch), text_inputs(batch)):
        formula = 4 * text_flops(network.backbone, 7, 3)
        pixels = 0
        if "images" in inputs:
            formula = 4 * image_flops(network.backbone, 3)
            pixels = 2 * inputs["images"].size * 8  # need no gradient
        assert count(lambda inputs=inputs: network(inputs)) == formula
        assert count(training(network, inputs)) == TRAINING * formula - pixels


def test_of_fine_tuning(tiny, batch):
    images = build_classifier(tiny, {"image": 4})
    assert count(lambda: images(batch)) == 4 * image_flops(images.backbone, 4)
    texts = build_classifier(tiny, {"text": 4})
    assert count(lambda: texts(batch)) == 4 * classified_text_flops(texts.backbone, 4, 7)
