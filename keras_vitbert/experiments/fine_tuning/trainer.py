"""Builds the trainer of a fine-tuning config, and counts the operations of its step."""

import keras

from keras_vitbert.experiments.fine_tuning.optimizer import build_optimizer
from keras_vitbert.model.flops import TRAINING, classifier_flops
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.image_layers import image_layers


def build_fine_tuner(config, pretrained, num_classes, seed, strategy):
    """Builds and compiles a `FineTuner`.

    Args:
        config: `FineTuning`, as `recommended.with_intervals` returns it.
        pretrained: `keras_vitbert.experiments.fine_tuning.pretrained.Pretrained`.
        num_classes: int.
        seed: int.
        strategy: see `tpu.strategy.get_strategy`.

    Returns:
        (`FineTuner`, dict of what was transferred into it, see `Pretrained.classifier`).
    """
    keras.utils.set_random_seed(seed)
    layers = image_layers_of(config, seed)
    with strategy.scope():
        classifier, transferred = pretrained.classifier(config.kind, num_classes, config)
        trainer = FineTuner(
            classifier,
            config.optimizer.clip_norm,
            config.label_smoothing,
            seed=seed,
            image_layers=layers,
            accumulation=config.accumulation,
            remat=config.remat,
        )
        trainer.compile(
            optimizer=build_optimizer(config.optimizer, config.steps, classifier),
            jit_compile=config.jit_compile == "on",
            steps_per_execution=max(config.steps_per_execution, 1),  # `keras_vitbert.aot` has 0
        )
    return trainer, transferred


def image_layers_of(config, seed):
    """The layers that the training step applies to images, or None.

    Args:
        config: `FineTuning`.
        seed: int.

    Raises:
        ValueError: see `keras_vitbert.training.image_layers.ImageLayers`.
    """
    if config.kind != "images":
        return None
    return image_layers(config.layers, config.image_size, seed, "images.layers")


def step_flops(network, stream, batch):
    """The operations of a training step.

    Args:
        network: `Classifier`, all of whose weights are trained.
        stream: `TaskStream`.
        batch: int, examples per step.
    """
    length = stream.tokens_per_step / batch  # the mean over all batches
    flops = classifier_flops(network.backbone, network.num_classes, length, network.head_kind)
    return TRAINING * batch * flops
