"""A GPU has kernels for what XLA does not compile; what it does is in `test_optimizers`."""

import pytest
import tensorflow as tf

from keras_vitbert.configs import merges
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import AdamW
from tests.keras_vitbert import gpu_kernels
from tests.keras_vitbert.training.replicas_script import MODEL, make_examples


@pytest.mark.slow
def test_nothing_large_of_a_joint_step_is_on_the_host_of_a_gpu():
    """Where the step is not compiled: a probing step with an update of the masks."""
    if not gpu_kernels.known():
        pytest.skip("this build of TensorFlow has no kernels of GPUs")
    network = build_network(
        {**MODEL, "stochastic_depth": 0.0, "hidden_dim": 128, "intermediate_dim": 128}
    )
    trainer = JointTrainer(network, get_merge(merges.Merge(name="mask"), seed=7))
    trainer.in_turn = True
    trainer.compile(AdamW(0.01))
    specs = {
        name: tf.TensorSpec((8, *value.shape[1:]), value.dtype)
        for name, value in make_examples().items()
    }
    step = tf.function(lambda batch: trainer.train_step(batch, probing=True), autograph=False)
    assert gpu_kernels.on_host(step.get_concrete_function(specs)) == set()
