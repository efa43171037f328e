"""Steps that XLA compiles are the ordinary ones; a GPU has kernels for what XLA does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import AdamW
from tests.keras_vitbert import gpu_kernels
from tests.keras_vitbert.training.replicas_script import MODEL, make_examples


def trainer_of(model, **options):
    keras.utils.set_random_seed(0)
    network = build_network({**MODEL, **model})
    trainer = JointTrainer(network, get_merge(merges.Merge(name="mask"), seed=7))
    trainer.compile(AdamW(0.01, epsilon=1e-2), **options)
    return trainer


@pytest.mark.slow
def test_joint_steps_that_xla_compiles_are_the_ordinary_ones():
    """With dropout, and an update of the masks in the second of three."""
    batches = tf.data.Dataset.from_tensor_slices(make_examples()).batch(8, drop_remainder=True)
    both = [trainer_of({}, jit_compile=compiled) for compiled in (False, True)]
    for trainer in both:
        for number in range(3):
            if number == 1:
                trainer.request_gradient_stats(clear=100)
            trainer.fit(batches.skip(number).take(1), verbose=0)
    assert sum(both[1].merge.mask.cleared) == 100
    for ordinary, compiled in zip(*(trainer.network.weights for trainer in both), strict=True):
        np.testing.assert_allclose(compiled, ordinary, atol=1e-5, err_msg=ordinary.path)
    for ordinary, compiled in zip(*(trainer.merge.mask.masks for trainer in both), strict=True):
        assert np.mean(compiled != ordinary) < 0.02  # gradients of nearly one size


@pytest.mark.slow
def test_nothing_large_of_a_joint_step_is_on_the_host_of_a_gpu():
    """Where the step is not compiled: a probing step with an update of the masks."""
    if not gpu_kernels.known():
        pytest.skip("this build of TensorFlow has no kernels of GPUs")
    trainer = trainer_of({"stochastic_depth": 0.0, "hidden_dim": 128, "intermediate_dim": 128})
    trainer.in_turn = True
    specs = {
        name: tf.TensorSpec((8, *value.shape[1:]), value.dtype)
        for name, value in make_examples().items()
    }
    step = tf.function(lambda batch: trainer.train_step(batch, probing=True), autograph=False)
    assert gpu_kernels.on_host(step.get_concrete_function(specs)) == set()
