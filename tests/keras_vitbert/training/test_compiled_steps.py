"""Updates that XLA compiles are the ordinary ones; a GPU has kernels for what XLA does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges, optimizers
from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from tests.keras_vitbert import gpu_kernels
from tests.keras_vitbert.training import replicas_script

STEPS = 6
OPTIMIZER = {**replicas_script.ADAMW, "momentum": 0.9, "epsilon": 1e-2}
MODEL = {**replicas_script.MODEL, "stochastic_depth": 0.0}


@pytest.mark.parametrize("name", optimizers.OPTIONS)
def test_optimizers(name):
    """Steps whose gradients are given, the third of them bad."""
    rng = np.random.default_rng(0)
    shapes = (6, 4), (4, 3, 2), (5,)
    steps = [[np.float32(rng.normal(size=shape)) for shape in shapes] for _ in range(4)]

    def applied(jit_compile):
        keras.utils.set_random_seed(0)
        variables = [
            keras.Variable(np.full(shape, 0.5, np.float32), name=part)
            for shape, part in zip(shapes, ("kernel", "embeddings", "bias"), strict=True)
        ]
        optimizer = build_optimizer(
            PretrainingOptimizer(**{**OPTIMIZER, "name": name, "ema": 0.9}), 10, variables
        )

        @tf.function(jit_compile=jit_compile, autograph=False)
        def step(gradients, good):
            optimizer.apply(gradients, None, good)
            return optimizer.largest_update(tf.constant(1.0))[0]

        found = {}
        for number, gradients in enumerate(steps):
            most = step([tf.constant(g) for g in gradients], tf.constant(number != 2))
            found[f"{number} bound"] = most.numpy()
            for place, variable in enumerate([*variables, *optimizer.variables]):
                found[f"{number} {place}"] = variable.value.numpy()
        return found

    compiled = applied(True)
    for key, value in applied(False).items():
        np.testing.assert_allclose(compiled[key], value, rtol=1e-5, atol=2e-6, err_msg=key)


@pytest.mark.slow
def test_nothing_large_of_a_joint_step_is_on_the_host_of_a_gpu():
    """Where the step is not compiled: a probing step with an update of the masks."""
    if not gpu_kernels.known():
        pytest.skip("this build of TensorFlow has no kernels of GPUs")
    network = build_network({**MODEL, "hidden_dim": 128, "intermediate_dim": 128})
    trainer = JointTrainer(network, get_merge(merges.Merge(name="mask"), seed=7))
    trainer.in_turn = True
    trainer.compile(
        build_optimizer(PretrainingOptimizer(**OPTIMIZER), STEPS, network.trainable_variables)
    )
    specs = {
        name: tf.TensorSpec((8, *value.shape[1:]), value.dtype)
        for name, value in replicas_script.make_examples().items()
    }
    step = tf.function(lambda batch: trainer.train_step(batch, probing=True), autograph=False)
    assert gpu_kernels.on_host(step.get_concrete_function(specs)) == set()
