"""A step whose blocks are computed again is the same step, to the bit."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs
from keras_vitbert.training.example_dropout import ExampleDropout
from keras_vitbert.training.pass_scope import recompute
from tests.keras_vitbert.training.joint_steps import ADAMW, step, tensors, weights


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_gradient_is_the_same(make_network, make_batch, dtype):
    """With dropout in both passes, and each block in both of them."""
    network = make_network(0, num_layers=1, dropout=0.3, dtype=dtype)
    batch = tensors(make_batch(0))
    dropout = ExampleDropout(network, 5)
    variables = [v.value for v in network.trainable_variables]

    def gradients(step):
        with tf.GradientTape() as tape:
            outputs = []
            for number, inputs in enumerate((text_inputs(batch), image_inputs(batch))):
                with dropout.keyed(step, number):
                    outputs += network(inputs, training=True).values()
            loss = tf.add_n([tf.reduce_mean(tf.cast(x, tf.float32) ** 2) for x in outputs])
        return [loss, *map(tf.convert_to_tensor, tape.gradient(loss, variables))]

    def found():
        return tf.function(gradients)(tf.constant(3, tf.int64))

    plain = found()
    recompute(network.backbone.blocks)
    assert sum(float(tf.reduce_max(tf.abs(g))) > 0 for g in plain) > len(plain) / 2
    for ours, theirs in zip(found(), plain, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_step_is_the_same(make_trainer, make_network, make_batch):
    trainers = [
        make_trainer(
            optimizer=ADAMW, network=make_network(0, num_layers=1, dropout=0.2), remat=remat
        )
        for remat in (False, True)
    ]
    logs = [step(trainer, make_batch(1)) for trainer in trainers]
    assert logs[0] == logs[1]
    for ours, theirs in zip(*(weights(t) for t in trainers), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_it_is_computed_again_in_training_alone():
    class Counted(keras.layers.Layer):
        calls = 0

        def call(self, x, shift=0.0, training=None):
            Counted.calls += 1
            return x * x + shift

    layer = Counted()
    recompute([layer])
    recompute([layer])  # changes nothing more
    x = tf.constant([3.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, shift=1.0, training=True)
    assert (y.numpy(), Counted.calls) == (10.0, 1)
    assert tape.gradient(y, x).numpy() == 6 and Counted.calls == 2
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    assert tape.gradient(y, x).numpy() == 6 and Counted.calls == 3
