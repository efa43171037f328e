"""A step whose blocks are computed again is the same step, to the bit."""

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.training.step_context import recompute
from tests.keras_vitbert.training.joint_steps import ADAMW, step, weights


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

    layer, x = Counted(), tf.constant([3.0])
    recompute([layer])
    recompute([layer])  # changes nothing more
    for training, calls in ((True, 2), (False, 1)):
        Counted.calls = 0
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, shift=1.0, training=training)
        assert (y.numpy(), Counted.calls) == (10, 1)
        assert (tape.gradient(y, x).numpy(), Counted.calls) == (6, calls)
