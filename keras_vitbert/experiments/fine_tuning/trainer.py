"""Builds the trainer of a fine-tuning: its network, optimiser, merge and layers on images."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, JointTasks, dotted
from keras_vitbert.configs.optimizers import FineTuningOptimizer
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.merging import get_merge
from keras_vitbert.model.classifier import Classifier, JointClassifier, classifiers_of
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.image_layers import ImageLayers, image_layers
from keras_vitbert.training.optimizers import (
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    with_rate,
)


def build_fine_tuner(
    config: FineTuning,
    pretrained: Pretrained,
    num_classes: Sequence[int],
    seed: int,
    strategy: Any,
) -> tuple[FineTuner, dict[str, str]]:
    """Builds and compiles a trainer; also returns what `Pretrained.classifier` did."""
    keras.utils.set_random_seed(seed)
    tasks = config.tasks.values()
    with strategy.scope():
        classifier, transferred = pretrained.classifier(config, num_classes)
        trainer = FineTuner(
            classifier,
            {settings.modality: settings.label_smoothing for settings in tasks},
            get_merge(config.merge, seed) if isinstance(config, JointTasks) else None,
            clip_norm=config.optimizer.clip_norm,
            seed=seed,
            image_layers=image_layers_of(config, seed),
            accumulation=config.accumulation,
            remat=config.remat,
        )
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, classifier),
            jit_compile=config.jit_compile == "on",  # pyright: ignore[reportArgumentType]
            steps_per_execution=max(config.steps_per_execution, 1),  # `keras_vitbert.aot` has 0
        )
    return trainer, transferred


def image_layers_of(config: FineTuning, seed: int) -> ImageLayers | None:
    """The layers that the training step applies to images."""
    for section, settings in config.tasks.items():
        if isinstance(settings, ImageSettings):
            size, field = settings.image_size, dotted(section, "images.augmentations")
            return image_layers(config.augmentations, size, seed, field)
    return None


def schedule(
    config: FineTuningOptimizer, steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate over so many steps."""
    warmup_steps = min(round(config.warmup * steps), steps - 1)
    if config.schedule == "cosine":
        return WarmupCosineDecay(config.learning_rate, warmup_steps, steps)
    return WarmupPolynomialDecay(config.learning_rate, warmup_steps, steps, config.decay_power)


def build_optimizer(
    config: FineTuningOptimizer, steps: int, network: Classifier | JointClassifier
) -> keras.optimizers.Optimizer:
    """Builds the optimiser of the trainable variables, with its schedule over all steps."""
    optimizer = with_rate(config, schedule(config, steps), network.trainable_variables)
    if config.layer_decay != 1:
        depths = layer_depths(network)
        top = max(depths)
        optimizer.scale_rates([config.layer_decay ** (top - depth) for depth in depths])
    return optimizer


def layer_depths(network: Classifier | JointClassifier) -> list[int]:
    """The depth of each trainable variable, for its layer decay (Clark et al. 2020, ELECTRA).

    It is 0 for the embedding and its norm, 1 for the first block and so on, one more than the last
    block for the final norm and the head.
    """
    backbone = network.backbone
    embeddings = [classifier.embedding for classifier in classifiers_of(network).values()]
    depths = {id(variable): 0 for layer in embeddings for variable in layer.trainable_variables}
    if backbone.embedding_norm is not None:
        depths |= {id(variable): 0 for variable in backbone.embedding_norm.variables}
    for depth, block in enumerate(backbone.blocks, 1):
        # All variables: the block's trainable variables leave out those of LoRA.
        depths |= {id(variable): depth for variable in block.variables}
    last = len(backbone.blocks) + 1
    return [depths.get(id(variable), last) for variable in network.trainable_variables]
