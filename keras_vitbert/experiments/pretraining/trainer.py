"""Builds the trainer of a pre-training config, and counts the operations of its step."""

from typing import Any

import keras

from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.merging import get_merge
from keras_vitbert.model.flops import TRAINING, image_flops, text_flops
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.distillation import Teachers
from keras_vitbert.training.image_layers import ImageLayers, image_layers
from keras_vitbert.training.joint_trainer import JointTrainer
from keras_vitbert.training.optimizers import build_optimizer
from pipelines.joint_stream import JointStream
from tpu.devices import new_weights


def build_trainer(
    config: Pretraining, strategy: Any, teachers: Teachers | None = None
) -> JointTrainer:
    """A compiled trainer of a config's variant, with weights drawn from the config's seed."""
    keras.utils.set_random_seed(config.seed)
    layers, variant = image_layers_of(config), config.variant_spec
    with new_weights(strategy):
        network = build_network(
            config.model.to_dict(), images=variant.images, text=variant.text, dtype=config.dtype
        )
        trainer = JointTrainer(
            network,
            get_merge(config.merge, config.seed),
            teachers,
            distillation_ratio=config.distillation.ratio,
            temperature=config.distillation.temperature,
            clip_norm=config.optimizer.clip_norm,
            seed=config.seed,
            image_layers=layers,
            accumulation=config.accumulation,
            remat=config.remat,
        )
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, network.trainable_variables),
            jit_compile=config.jit_compile == "on",  # pyright: ignore[reportArgumentType]
            steps_per_execution=config.steps_per_execution,
        )
    return trainer


def image_layers_of(config: Pretraining) -> ImageLayers | None:
    """The layers that the training step applies to images."""
    return image_layers(
        config.augmentations, config.model.image_size, config.seed, "data.images.augmentations"
    )


def step_flops(trainer: JointTrainer, stream: JointStream) -> float:
    """The floating-point operations of a training step, including those of the teachers."""
    total, texts = 0, stream.texts
    student: tuple[Any, int] = (trainer.network, TRAINING)
    teachers: Any = trainer.teachers
    network: Any
    for model, passes in (student, (teachers.image, 1)):
        if trainer.has_images and model is not None:
            network = getattr(model, "network", model)  # of a `Teacher`
            flops = image_flops(network.backbone, network.num_classes, network.heads["image"])
            total += passes * stream.images_per_step * flops
    for model, passes in (student, (teachers.text, 1)):
        if texts is not None and model is not None:
            network = getattr(model, "network", model)
            flops = text_flops(network.backbone, texts.length, texts.predictions)
            total += passes * stream.text_batch_size * flops
    return total
