"""A step computes no product that its update does not need, counted in what is executed."""

import math

import pytest
import tensorflow as tf

from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.model.classifier import build_classifier
from keras_vitbert.model.flops import classifier_flops, head_flops
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.optimizers import build_optimizer
from tests.keras_vitbert.training.graphs import executed
from tests.keras_vitbert.training.joint_steps import ADAMW

BATCH, CLASSES, RANK, WIDTH, LAYERS = 3, 7, 2, 24, 3
MODEL = {
    "num_layers": LAYERS,
    "num_heads": 2,
    "hidden_dim": WIDTH,
    "intermediate_dim": 40,
    "image_size": 16,
    "patch_size": 4,
    "vocabulary_size": 50,
    "max_sequence_length": 12,
    "dropout": 0.1,
}
TOKENS = 17  # of an image
PATCHES = 2 * 16 * 48 * WIDTH  # operations of their projection
OF_HEAD = 2 * WIDTH * WIDTH  # of its first layer


def product_flops(tuner):
    """The operations of the step's matrix products, but for sums that are written as such."""
    batch = {
        "images": tf.zeros((BATCH, 16, 16, 3)),
        "labels": tf.zeros((BATCH,), tf.int32),
    }
    total = 0
    for operation in executed(tf.function(tuner.train_step).get_concrete_function(batch).graph):
        if "MatMul" not in operation.type:
            continue
        left = operation.inputs[0].shape.as_list()
        transposed = "transpose_a" if operation.type == "MatMul" else "adj_x"
        inner = left[-2] if operation.get_attr(transposed) else left[-1]
        made = operation.outputs[0].shape.as_list()
        if operation.type != "MatMul" or made[0] > 1:
            total += 2 * inner * math.prod(made)
    return total


def tuner_of(change):
    network = build_classifier(MODEL, "images", CLASSES)
    change(network)
    tuner = FineTuner(network)
    tuner.compile(build_optimizer(PretrainingOptimizer(**ADAMW), 10, network.trainable_variables))
    return tuner


@pytest.fixture(scope="module")
def forward():
    """Of one image, by the closed form."""
    backbone = build_classifier(MODEL, "images", CLASSES).backbone
    return classifier_flops(backbone, CLASSES), head_flops(backbone, CLASSES)


@pytest.mark.slow
def test_all_weights(forward):
    found = product_flops(tuner_of(lambda network: None))
    assert found == BATCH * (3 * forward[0] - PATCHES)  # images have no gradient


def test_a_frozen_encoder_has_no_backward_pass(forward):
    def freeze(network):
        network.backbone.trainable = False

    everything, head = forward
    assert product_flops(tuner_of(freeze)) == BATCH * (everything + 2 * head - OF_HEAD)


def test_lora_has_no_gradients_of_frozen_kernels(forward):
    everything, head = forward
    found = product_flops(tuner_of(lambda network: network.enable_lora(RANK)))
    projection = 2 * WIDTH**2  # of a token
    attention = 2 * 2 * TOKENS * WIDTH
    mlp = 2 * 2 * WIDTH * 40
    # Of the last block, the head reads one token; keys and values are those of all.
    read = [*(LAYERS - 1) * [TOKENS], 1]
    blocks = [
        2 * TOKENS * projection + tokens * (2 * projection + attention + mlp) for tokens in read
    ]
    # A product of two activations has two gradients, one with a frozen kernel one.
    inputs = sum(blocks) + sum(read) * attention
    # Below the lowest updates nothing is trained: the inputs of the first block have no gradient,
    # nor have its keys.
    inputs -= TOKENS * (3 * projection + attention // 2)
    # Of the kernels of queries and values, with the update.
    updated = (sum(read) + LAYERS * TOKENS) * projection
    per_step = LAYERS * 2 * 3 * 2 * WIDTH * WIDTH * RANK  # the update and both its gradients
    assert found == BATCH * (everything + 2 * head + inputs + updated) + per_step
