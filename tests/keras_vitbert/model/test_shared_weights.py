"""Which weights both modalities share."""

import pytest
import tensorflow as tf

from keras_vitbert.model.pretraining_network import image_inputs, text_inputs


@pytest.mark.parametrize(("norm", "extra"), [("pre", "final_norm"), ("post", "embedding_norm")])
def test_shared_variables_are_those_that_both_losses_reach(make_network, batch, norm, extra):
    network = make_network(2, norm=norm)
    variables = network.trainable_variables
    reached = {}
    for inputs in (image_inputs, text_inputs):
        with tf.GradientTape() as tape:
            logits = network(inputs(batch), training=True)
            loss = tf.add_n([tf.reduce_sum(x**2) for x in logits.values()])
        gradients = tape.gradient(loss, [v.value for v in variables])
        reached[inputs] = [
            v.path for v, g in zip(variables, gradients, strict=True) if g is not None
        ]
    both = [path for path in reached[image_inputs] if path in reached[text_inputs]]
    assert sorted(both) == sorted(v.path for v in network.backbone.shared_variables)
    assert {path.split("/")[0] for path in both} == {"block_0", "block_1", extra}
    assert set(reached[image_inputs]) | set(reached[text_inputs]) == {v.path for v in variables}
