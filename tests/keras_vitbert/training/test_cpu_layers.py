"""The forms of layers for CPUs compute what those of Keras do, and nothing outside of training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from keras_vitbert.model.pretraining_network import text_inputs
from keras_vitbert.training import cpu_layers
from keras_vitbert.training.example_dropout import ExampleDropout
from tests.keras_vitbert.training.joint_steps import tensors
from tests.marks import slow


@pytest.fixture
def passes(make_network, make_batch):
    """`passes(dtype, dropout, lora)(on)`: outputs and gradients of a pass of texts."""

    def passes(dtype="float32", dropout=0.0, lora=0):
        network = make_network(num_layers=1, images=False, dropout=dropout, dtype=dtype)
        if lora:
            for layer in network._flatten_layers():
                if isinstance(layer, keras.layers.EinsumDense):
                    # Without a seed the kernels depend on which tests ran before, and some are
                    # so ill-conditioned that rounding alone exceeds the tolerance.
                    kernels = keras.initializers.HeUniform(0), keras.initializers.HeUniform(1)
                    layer.enable_lora(lora, None, *kernels)
        keyed = ExampleDropout(network, 5)
        cpu_layers.adapt(network)
        batch = text_inputs(tensors(make_batch(0)))
        variables = [v.value for v in network.trainable_variables]

        def gradients(batch):
            with tf.GradientTape() as tape:
                with keyed.keyed(tf.constant(3, tf.int64)):
                    outputs = network(batch, training=True)
                outputs = [tf.cast(x, tf.float32) for x in outputs.values()]
                loss = tf.add_n([tf.reduce_mean(x**2) for x in outputs])
            grads = tape.gradient(loss, variables)
            return [*outputs, *(tf.convert_to_tensor(g) for g in grads)]

        def found(on):
            # Texts of any length, whose forms are compiled once.
            specs = {n: tf.TensorSpec([None] * x.shape.rank, x.dtype) for n, x in batch.items()}
            with cpu_layers.for_cpu(on):
                return tf.function(gradients, input_signature=[specs])(batch)

        return found

    return passes


def assert_close(found, wanted, tolerance):
    """Up to rounding, of which the large entries have most; keys' biases have nothing else."""
    for ours, theirs in zip(found, wanted, strict=True):
        scale = max(np.abs(theirs).max(), 1e-2)
        np.testing.assert_allclose(ours, theirs, atol=tolerance * scale, rtol=0)


@pytest.mark.parametrize("options", [{"dropout": 0.3}, slow({"lora": 2})])
def test_the_passes_are_those_of_keras(passes, options):
    """With padding in the texts; dropout draws the same numbers."""
    found = passes(**options)
    keras_, ours = found(False), found(True)
    assert_close(ours, keras_, 3e-5)
    assert any(np.any(a != b) for a, b in zip(ours, keras_, strict=True))  # they are other forms


@pytest.mark.slow
def test_bfloat16_is_no_worse_than_that_of_keras(passes):
    exact, reduced = passes()(False), passes("mixed_bfloat16")

    def error(found):
        errors = [np.sum((a - b) ** 2) for a, b in zip(found, exact, strict=True)]
        return np.sqrt(sum(errors) / sum(np.sum(x**2) for x in exact))

    keras_, ours = error(reduced(False)), error(reduced(True))
    assert 0 < ours < 1.25 * keras_ < 0.02


def test_gradients_of_biases_are_sums_in_float32():
    """Of more tokens than numbers of bfloat16 can be added to a sum without losing them."""
    inputs = keras.Input((40, 8))
    model = keras.Model(inputs, keras.layers.Dense(8, dtype="mixed_bfloat16")(inputs))
    cpu_layers.adapt(model)
    rows = np.random.default_rng(0).normal(1, 1, (40, 40, 8)).astype("bfloat16")
    with cpu_layers.for_cpu(), tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(np.ones((40, 40, 8)), training=True) * rows)
    wanted = rows.astype(np.float64).sum((0, 1))
    np.testing.assert_allclose(tape.gradient(loss, model.weights[1].value), wanted, rtol=2**-8)


def test_gelu_and_its_derivative():
    x = np.linspace(-6, 6, 4001)
    inputs = tf.constant(x, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = cpu_layers._fused_gelu(inputs)
    np.testing.assert_allclose(outputs, x * norm.cdf(x), atol=6e-7)
    derivative = norm.cdf(x) + x * norm.pdf(x)
    np.testing.assert_allclose(tape.gradient(outputs, inputs), derivative, atol=6e-7)
