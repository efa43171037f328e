"""The steps of a run as programs by themselves, without data: what each replica executes.

Whoever wants to know what a run needs before it is started compiles these; they are the very
functions that `fit` and the evaluation run. See `tpu.aot`.
"""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from keras_vitbert.fine_tuning.evaluation import Evaluator
from keras_vitbert.fine_tuning.trials import build_fine_tuner
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.pretraining.run import build_trainer
from keras_vitbert.training.distillation import Teachers


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """What one replica executes in one step.

    Attributes:
        name: str, what it does.
        step: callable of a batch, to be run by `strategy.run`.
        batch: dict of `tf.TensorSpec`, a replica's batch.
    """

    name: str
    step: Callable
    batch: dict[str, tf.TensorSpec]


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of a run.

    Attributes:
        steps: list of `StepProgram`, that of training first.
        variables: list of what is in memory whichever of them runs.
    """

    steps: list[StepProgram]
    variables: list

    @property
    def resident_bytes(self):
        """Bytes that the variables take on each replica."""
        return sum(math.prod(v.shape) * tf.as_dtype(v.dtype).size for v in self.variables)


def pretraining_programs(config, variant, strategy, text_length=None, predictions=None):
    """The programs of `keras_vitbert.pretraining.run.pretrain`.

    Args:
        config: `ConfigDict`, as `variants.apply_variant` returns it.
        variant: `variants.Variant`.
        strategy: `tf.distribute.Strategy`.
        text_length, predictions: int, of the texts; the longest that the model takes, and as many
            masked words as are usual in it, if None.

    Returns:
        `Programs`.
    """
    model = config.model
    teachers = {}
    if config.distillation.ratio > 0:
        with strategy.scope():
            if variant.images:
                teachers["image"] = build_network(model, text=False, dtype=config.dtype)
            if variant.text:
                teachers["text"] = build_network(model, images=False, dtype=config.dtype)
    trainer = build_trainer(config, variant, strategy, Teachers(**teachers))
    replicas = strategy.num_replicas_in_sync
    length = text_length or model.max_sequence_length
    training, validation = {}, {}
    if variant.images:
        size, mixed = config.image_batch // replicas, config.data.images
        validation |= image_batch(size, model.image_size, "image_")
        training |= validation
        if mixed.mixup or mixed.cutmix:
            training |= mixed_batch(size, model.image_size, "image_")
    if variant.text:
        masking = config.data.text.masking
        usual = min(masking.max_predictions, round(masking.ratio * length))
        texts = text_batch(config.text_batch // replicas, length)
        texts |= masked_batch(config.text_batch // replicas, predictions or usual)
        training |= texts
        validation |= texts

    steps = [StepProgram("train", trainer.train_step, training)]
    if variant.images and variant.text:
        name = "mask update" if trainer.merge.masked else "probe"
        steps.append(
            StepProgram(name, lambda batch: trainer.train_step(batch, probing=True), training)
        )
    for labels, weights in (
        ("image_labels", "image_weights"),
        ("next_sentence_labels", "text_weights"),
    ):
        if labels in validation:  # which are filled up to whole batches
            validation[weights] = tf.TensorSpec(validation[labels].shape, tf.float32)
    steps.append(StepProgram("validate", trainer.test_step, validation))
    taught = [variable for network in teachers.values() for variable in network.variables]
    return Programs(steps, [*_variables(trainer), *taught])


def fine_tuning_programs(config, pretrained, kind, num_classes, strategy):
    """The programs of `keras_vitbert.fine_tuning.trials.run_trial`.

    Args:
        config: `ConfigDict` of fine-tuning; `steps` is set, and texts have one length.
        pretrained: `keras_vitbert.fine_tuning.pretrained.Pretrained`.
        kind: str, `images` or `text`.
        num_classes: int.
        strategy: `tf.distribute.Strategy`.

    Returns:
        `Programs`.
    """
    trainer, _ = build_fine_tuner(config, pretrained, kind, num_classes, config.seed, strategy)
    evaluator = Evaluator(trainer.network, strategy, config.evaluation_batch)
    replicas = strategy.num_replicas_in_sync

    def batch(size):
        labels = {"labels": tf.TensorSpec((size,), tf.int32)}
        if kind == "images":
            return image_batch(size, config.image_size) | labels
        length = pretrained.fine_tuned_model(kind, config)["max_sequence_length"]
        return text_batch(size, length) | labels

    training, evaluated = batch(config.batch // replicas), batch(evaluator.batch // replicas)
    if kind == "images" and (config.images.mixup or config.images.cutmix):
        training |= mixed_batch(config.batch // replicas, config.image_size)
    evaluated["numbers"] = evaluated["labels"]
    steps = [
        StepProgram("train", trainer.train_step, training),
        StepProgram("evaluate", evaluator.predict_step, evaluated),
    ]
    return Programs(steps, _variables(trainer))


def image_batch(size, image_size, prefix=""):
    """The specs of `size` images and their labels."""
    return {
        "images": tf.TensorSpec((size, image_size, image_size, 3), tf.uint8),
        f"{prefix}labels": tf.TensorSpec((size,), tf.int32),
    }


def mixed_batch(size, image_size, prefix=""):
    """The specs in which mixed images differ: floats, and a second label each."""
    return {
        "images": tf.TensorSpec((size, image_size, image_size, 3), tf.float32),
        f"{prefix}mix_labels": tf.TensorSpec((size,), tf.int32),
        f"{prefix}mix_weights": tf.TensorSpec((size,), tf.float32),
    }


def text_batch(size, length):
    """The specs of `size` texts."""
    names = ("token_ids", "segment_ids", "padding_mask")
    return {name: tf.TensorSpec((size, length), tf.int32) for name in names}


def masked_batch(size, predictions):
    """The specs that texts of pre-training have besides."""
    return {
        "masked_positions": tf.TensorSpec((size, predictions), tf.int32),
        "masked_ids": tf.TensorSpec((size, predictions), tf.int32),
        "masked_weights": tf.TensorSpec((size, predictions), tf.float32),
        "next_sentence_labels": tf.TensorSpec((size,), tf.int32),
    }


def _variables(trainer):
    state = [*trainer.state_variables.values(), trainer.optimizer.variables]
    return [variable for variables in state for variable in variables]
