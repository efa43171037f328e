import itertools
import json

import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert import ViTBertBackbone
from keras_vitbert.model.encoder_block import TransformerEncoder

SIZES = {"intermediate_dim": 16, "num_heads": 2, "normalize_first": True}


def test_both_branches_draw_for_themselves():
    """Four kinds of outcomes, the second branch after the first."""
    x = np.random.default_rng(0).normal(size=(400, 3, 8)).astype(np.float32)
    block = TransformerEncoder(**SIZES, stochastic_depth=0.5)
    block.build(x.shape)
    whole = np.asarray(block(x, training=True))
    outcomes = []
    for with_attention, with_mlp in itertools.product((0, 2), (0, 2)):
        normed = block._self_attention_layer_norm(x)
        wanted = x + with_attention * block._self_attention_layer(normed, normed)
        inner = block._feedforward_intermediate_dense(block._feedforward_layer_norm(wanted))
        wanted += with_mlp * block._feedforward_output_dense(inner)
        alike = np.isclose(whole, wanted, rtol=1e-4, atol=1e-5)
        outcomes.append(np.all(alike, axis=(1, 2)))
    np.testing.assert_array_equal(np.sum(outcomes, 0), 1)
    np.testing.assert_allclose(np.mean(outcomes, 1), 0.25, atol=0.08)


def test_rates_rise_from_block_to_block():
    backbone = ViTBertBackbone(4, 1, 2, 2, None, 1, 3, 4, stochastic_depth=0.2)
    other = ViTBertBackbone.from_config(json.loads(json.dumps(backbone.get_config())))
    assert [b.stochastic_depth for b in other.blocks] == pytest.approx([0.05, 0.1, 0.15, 0.2])


ROWS, LENGTH = 3, 6
PADDING = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
TEXTS = np.array([[1, 1, 2, 2, 3, 3], [1, 1, 1, 1, 2, 0], [1, 1, 1, 1, 1, 1]])  # of a row


@pytest.mark.parametrize(
    ("positions", "masks"),
    [
        (1, {}),
        (2, {"padding_mask": PADDING}),
        ([[0, 5], [8, 6], [13, 13]], {"padding_mask": PADDING}),
        ([[0], [2], [4], [6], [10], [12]], {"attention_mask": TEXTS[:, :, None] == TEXTS[:, None]}),
        ([[0], [6]], {"attention_mask": TEXTS[:, None] > 0, "padding_mask": PADDING}),
    ],
)
@pytest.mark.parametrize("norm_first", [True, False])
def test_some_positions_are_those_of_the_whole(positions, masks, norm_first):
    """Their values, and the gradients of what is computed from them."""
    generator = np.random.default_rng(0)
    block = TransformerEncoder(**{**SIZES, "normalize_first": norm_first})
    block.build((None, None, 8))
    for variable in block.variables:
        variable.assign(generator.normal(size=variable.shape))
    x = tf.constant(generator.normal(size=(ROWS, LENGTH, 8)), tf.float32)
    masks = {name: tf.constant(mask) for name, mask in masks.items()}
    is_count = isinstance(positions, int)
    given = positions if is_count else tf.constant(positions)

    def found(call):
        with tf.GradientTape() as tape:
            tape.watch(x)
            some = call()
            loss = tf.reduce_sum(tf.sin(some))  # each entry has a gradient of its own
        gradients = tape.gradient(loss, [x, *(v.value for v in block.trainable_variables)])
        return [some, *map(tf.convert_to_tensor, gradients)]

    def of_the_whole():
        whole = block(x, **masks)
        return whole[:, :positions] if is_count else tf.gather(tf.reshape(whole, (-1, 8)), given)

    expected = found(of_the_whole)
    assert min(np.abs(value).max() for value in expected[:2]) > 0.1
    ours = found(lambda: block(x, output_positions=given, **masks))
    for value, wanted in zip(ours, expected, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-4)
