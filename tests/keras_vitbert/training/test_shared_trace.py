"""Blocks that share a trace are the same step, but for rounding, and are traced once."""

import contextlib
import re
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.model.encoder_block import TransformerEncoder
from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.training import cpu_layers
from keras_vitbert.training.engines import tensorflow as engine
from keras_vitbert.training.example_dropout import ExampleDropout
from keras_vitbert.training.optimizers import SGD
from keras_vitbert.training.shared_trace import share_trace
from tests.keras_vitbert.training.joint_steps import tensors, weights
from tests.marks import slow, thorough

BLOCKS = 3
KINDS = 2  # of calls: for all tokens, and of the last block for those that heads read


@contextlib.contextmanager
def counted():
    """Counts how often blocks are traced: a list with an entry for each."""
    traced, call = [], TransformerEncoder.call

    def counting(self, inputs, *args, **options):
        traced.append(self.name)
        return call(self, inputs, *args, **options)

    with mock.patch.object(TransformerEncoder, "call", counting):
        yield traced


def enable_lora(network):
    """In all projections; the updates are not 0."""
    for layer in network.backbone._flatten_layers():
        if isinstance(layer, keras.layers.EinsumDense):
            layer.enable_lora(2)


@pytest.mark.parametrize(
    ("dtype", "remat", "lora"),
    [slow("mixed_bfloat16", True, False), thorough("float32", False, True)],
)
def test_steps_are_the_same(make_trainer, make_network, randomize, make_batch, dtype, remat, lora):
    """An ordinary and a probing step, with dropout and with frozen weights.

    By gradient descent in steps of some tenths: Adam divides small gradients by themselves, which
    makes any difference of rounding as large as an update.
    """

    def trained(share):
        network = make_network(0, num_layers=BLOCKS, dropout=0.2, dtype=dtype)
        if lora:
            enable_lora(network)
            randomize(network, 1)
        network.backbone.blocks[1].trainable = lora
        norms = []
        with counted() as traced, mock.patch.object(engine, "share_trace", share):
            trainer = make_trainer(optimizer=SGD(0.1), network=network, remat=remat)
            for probing in (False, True):
                step = tf.function(trainer.train_step, autograph=False)
                logs = step(tensors(make_batch(int(probing))), probing=probing)
                norms.append(float(logs["gradient_norm"]))
        return norms, weights(trainer), traced

    norms, apart, each = trained(lambda _: None)
    shared_norms, shared, traced = trained(share_trace)
    np.testing.assert_allclose(shared_norms, norms, rtol=1e-6)
    for ours, theirs in zip(shared, apart, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)
    # For text and for images; again for what is computed in the backward pass.
    assert len(each) == 2 * 2 * BLOCKS * (1 + remat)
    assert traced == 2 * KINDS * ["block_0"]


@pytest.fixture
def traces(make_network, make_batch):
    """`traces(change, training, keyed, on_cpu, **model)`: how often blocks are traced for two."""

    def traces(change=lambda blocks: None, training=True, keyed=True, on_cpu=True, **model):
        network = make_network(0, num_layers=BLOCKS, dropout=0.2, **model)
        change(network.backbone.blocks)
        dropout = ExampleDropout(network, 5)
        batch = tensors(make_batch(0))

        @tf.function(autograph=False)
        def run(step):
            outputs = {}
            for inputs in (text_inputs(batch), image_inputs(batch)):
                keys = dropout.keyed(step) if keyed else contextlib.nullcontext()
                with keys, cpu_layers.for_cpu(on_cpu):
                    outputs |= network(inputs, training=training)
            return outputs

        with counted() as traced:
            share_trace(network.backbone.blocks)
            run.get_concrete_function(tf.TensorSpec((), tf.int64))
        return len(traced)

    return traces


@pytest.mark.slow
def test_those_that_differ_are_traced_one_by_one(traces):
    def lora(blocks):
        blocks[1]._self_attention_layer._query_dense.enable_lora(2)

    assert traces() == 2 * KINDS
    assert traces(lora) == 2 * (KINDS + 1)
    assert traces(stochastic_depth=0.3) == 2 * BLOCKS
    assert traces(training=False) == traces(keyed=False) == 2 * BLOCKS
    assert traces(on_cpu=False) == 2 * BLOCKS


@pytest.mark.parametrize("as_on", [slow("cpu"), thorough("gpu")])
def test_a_compiled_step_reads_its_variables(make_trainer, make_network, make_batch, as_on):
    """Else they are constants of the program, and XLA compiles each step anew."""
    trainer = make_trainer(network=make_network(0, num_layers=BLOCKS, dropout=0.2))
    trainer.compile(trainer.optimizer, jit_compile=True)
    if as_on == "gpu":
        trainer.as_on_gpu()
    step = tf.function(lambda batch: trainer.train_step(batch), autograph=False, jit_compile=True)
    program = step.experimental_get_compiler_ir(tensors(make_batch(0)))(stage="hlo")
    assert "parameter(" in program
    assert re.findall(r"ReadVariableOp\S* = .* constant\(", program) == []


def test_sharing_twice_changes_nothing(make_network):
    network = make_network(0, num_layers=BLOCKS)
    blocks = network.backbone.blocks
    share_trace(blocks)
    calls = [block.call for block in blocks]
    share_trace(blocks)
    assert [block.call for block in blocks] == calls
