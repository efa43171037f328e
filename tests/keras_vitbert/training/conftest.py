"""Fixtures of the tests of training."""

import pytest

from keras_vitbert.configs.optimizers import PretrainingOptimizer
from keras_vitbert.merging import Merge, Sum
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import SGD, build_optimizer
from tests.keras_vitbert.training.joint_steps import NO_CLIP, RATIO, TEMPERATURE


@pytest.fixture(scope="module")
def teachers(make_network):
    """Two teachers of different weights; their dropout must not act."""
    return Teachers(
        image=make_network(10, text=False, dropout=0.5),
        text=make_network(11, images=False, dropout=0.5),
    )


@pytest.fixture
def make_trainer(make_network):
    """`make_trainer(merge, optimizer, clip_norm, teachers, ...)`, of the same weights each time."""

    def make(merge=None, optimizer=None, clip_norm=NO_CLIP, network=None, **options):
        network = network or make_network(0, num_layers=1)
        if "teachers" in options:
            options = {"distillation_ratio": RATIO, "temperature": TEMPERATURE, **options}
        trainer = JointTrainer(network, merge or Merge(Sum()), clip_norm=clip_norm, **options)
        optimizer = optimizer or SGD(1.0)
        if isinstance(optimizer, dict):
            optimizer = build_optimizer(
                PretrainingOptimizer(**optimizer), 100, network.trainable_variables
            )
        trainer.compile(optimizer=optimizer)
        return trainer

    return make
