"""Builds the trainer of a pre-training config."""

from typing import Any

import keras

from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.merging import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.image_layers import image_layers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer


def build_trainer(config: Pretraining, strategy: Any, teachers: Teachers | None = None):
    """A compiled `JointTrainer`, with weights drawn from the config's seed.

    Args:
        config: of its variant, see `Pretraining.as_variant`.
        strategy: see `tpu.strategy.get_strategy`.
        teachers: of a distillation.
    """
    keras.utils.set_random_seed(config.seed)
    layers, parts = image_layers_of(config), config.parts
    with strategy.scope():
        network = build_network(
            config.model.to_dict(), images=parts.images, text=parts.text, dtype=config.dtype
        )
        trainer = JointTrainer(
            network,
            get_merge(config.merge, config.seed),
            teachers,
            distillation_ratio=config.distillation.ratio,
            temperature=config.distillation.temperature,
            clip_norm=config.optimizer.clip_norm,
            gradient_histograms=config.inspection.gradient_histograms,
            seed=config.seed,
            image_layers=layers,
            accumulation=config.accumulation,
            remat=config.remat,
        )
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, network.trainable_variables),
            jit_compile=config.jit_compile == "on",
            steps_per_execution=config.steps_per_execution,
        )
    return trainer


def image_layers_of(config: Pretraining):
    """The layers that the training step applies to images, or None.

    Raises:
        ValueError: see `keras_vitbert.training.image_layers.ImageLayers`.
    """
    return image_layers(config.layers, config.model.image_size, config.seed, "data.images.layers")
