"""Builds the trainer of a pre-training config."""

import keras

from keras_vitbert.merging.names import get_merge
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.image_layers import image_layers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer


def build_trainer(config, variant, strategy, teachers=None):
    """A compiled `JointTrainer` for a variant, with weights drawn from the config's seed.

    Args:
        config: `ConfigDict`, as `variants.apply_variant` returns it.
        variant: `variants.Variant`.
        strategy: see `tpu.strategy.get_strategy`.
        teachers: `Teachers`, or None.
    """
    keras.utils.set_random_seed(config.seed)
    layers = image_layers_of(config, variant)
    with strategy.scope():
        network = build_network(
            config.model, images=variant.images, text=variant.text, dtype=config.dtype
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


def image_layers_of(config, variant):
    """The layers that the training step applies to images, or None.

    Args:
        config: `ConfigDict`.
        variant: `variants.Variant`.

    Raises:
        ValueError: see `keras_vitbert.training.image_layers.ImageLayers`.
    """
    if not variant.images:
        return None
    layers, size = config.data.images.layers, config.model.image_size
    return image_layers(layers, size, config.seed, "data.images.layers")
