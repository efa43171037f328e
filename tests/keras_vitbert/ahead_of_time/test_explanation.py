"""The parts of a step, by the names of its operations."""

import pytest
import tensorflow as tf

from keras_vitbert.ahead_of_time import explanation, step_programs
from keras_vitbert.ahead_of_time.hlo import Work
from keras_vitbert.ahead_of_time.lifetimes import executed
from tests.keras_vitbert.tiny_runs import config_of


@pytest.mark.parametrize(
    "name, part",
    [
        ("teachers/network/backbone/block/self_attention_layer/MatMul", "teachers"),
        ("gradient_tape/text/network/backbone/block/feedforward_dropout/mul/Mul", "dropout"),
        ("image/network/backbone/block/self_attention_layer/dropout/GreaterEqual", "dropout"),
        ("image/network/backbone/block/self_attention_layer_norm/Rsqrt", "norms"),
        ("image/network/backbone/block/self_attention_layer/query/MatMul", "attention"),
        ("gradient_tape/image/network/backbone/block/feedforward_output_dense/MatMul", "MLP"),
        ("gradients/block/feedforward_output_dense/MatMul_grad/MatMul", "MLP"),
        ("image/network/backbone/block/block/AddV2", "residual sums"),
        ("text/network/backbone/text_embedding/word_embedding/GatherV2", "embeddings"),
        ("embedding_gradients/UnsortedSegmentSum", "embeddings"),
        ("text/network/mlm_head/logits/MatMul", "heads"),
        ("gradient_tape/text/ReduceLogSumExp/mul", "losses"),
        ("merge/sum_over_replicas/XlaAllReduce", "sums over replicas"),
        ("update/AssignSubVariableOp", "update"),
        ("sequential/conv/convolution/Conv", "sequential/conv"),  # another model's
        ("gradient_tape/sequential/conv/BiasAddGrad", "sequential/conv"),
        ("sequential/Cast", "other"),
        ("", "other"),
    ],
)
def test_the_part_of_an_operation(name, part):
    assert explanation.part_of(name) == part


@pytest.mark.slow
def test_every_part_of_a_joint_step_is_named(sources):
    """Layers and scopes that were renamed would be `other` without a word."""
    flags = ("--config.model.dropout=0.1", "--config.model.num_layers=2")
    config = config_of(sources, *flags, "--config.data.images.layers={'class_name': 'RandomFlip'}")
    strategy = tf.distribute.get_strategy()
    program = step_programs.pretraining_programs(config, strategy).steps[1]
    graph = tf.function(program.step, autograph=False).get_concrete_function(program.batch).graph
    names = {explanation.unnumbered(operation.name) for operation in executed(graph)}
    parts = {explanation.part_of(name) for name in names}
    # On one device there is nothing to sum.
    assert {part for part, _ in explanation.PARTS} - parts <= {"sums over replicas"}


def test_blocks_and_copies_are_summed():
    works = [
        Work("network_1/block_3_1/Cast_12", 1, 10, 100),
        Work("network/block_0/PartitionedCall/Cast", 2, 20, 200),
        Work("", 4, 40, 400),
    ]
    assert explanation.summed(works) == {"network/block/Cast": [3, 30, 300], "": [4, 40, 400]}


def test_the_table():
    work = {"clip/Mul": [3 * 10**9, 0, 10**6], "merge/Mul": [10**9, 2 * 10**12, 3 * 10**6]}
    lines = explanation.lines_of("train", {"work": work})
    assert [line.split() for line in lines[2:5]] == [
        "clip 3 GB 75.0% 0 T 1 M 25.0%".split(),
        "merge 1 GB 25.0% 2 T 3 M 75.0%".split(),
        "all 4 GB 100.0% 2 T 4 M 100.0%".split(),
    ]
    assert lines[6:] == ["  3 GB  clip/Mul", "  1 GB  merge/Mul"]
