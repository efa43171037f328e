"""The steps of a run as separate programs, without data: what each replica executes.

They are the same functions that `fit` and the evaluation run; `keras_vitbert.aot` compiles them.
"""

import keras
import tensorflow as tf

from keras_vitbert.ahead_of_time.programs import Programs, StepProgram
from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.fine_tuning.evaluation import Evaluator
from keras_vitbert.fine_tuning.pretrained import Pretrained
from keras_vitbert.fine_tuning.trainer import build_fine_tuner
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.pretraining.trainer import build_trainer
from keras_vitbert.training.distillation import Teachers


def pretraining_programs(config: Pretraining, strategy: tf.distribute.Strategy) -> Programs:
    """The programs of a pre-training of the config's variant.

    Texts have the model's maximum length and the usual number of masked tokens.
    """
    model, variant, sizes = config.model, config.parts, config.model.to_dict()
    teachers = {}
    if config.distillation.ratio > 0:
        with strategy.scope():
            if variant.images:
                teachers["image"] = build_network(sizes, text=False, dtype=config.dtype)
            if variant.text:
                teachers["text"] = build_network(sizes, images=False, dtype=config.dtype)
    trainer = build_trainer(config, strategy, Teachers(**teachers))
    _as_on_devices(trainer)
    replicas = strategy.num_replicas_in_sync
    training, validation = {}, {}
    if variant.images:
        size, views = config.image_batch // replicas, config.data.images
        mixed, layers = views.in_pairs, views.layers
        validation |= _image_batch(size, model.image_size, prefix="image_")
        training |= _image_batch(size, model.image_size, mixed, "image_", layers)
    if variant.text:
        masking, length = config.data.text.masking, model.max_sequence_length
        predictions = min(masking.max_predictions, round(masking.ratio * length))
        texts = _text_batch(config.text_batch // replicas, length)
        texts |= _masked_batch(config.text_batch // replicas, predictions)
        training |= texts
        validation |= texts

    steps = [StepProgram("train", trainer.train_step, training)]
    if variant.images and variant.text:
        name = "mask update" if trainer.merge.mask else "probe"
        steps.append(
            StepProgram(name, lambda batch: trainer.train_step(batch, probing=True), training)
        )
    for labels, weights in (
        ("image_labels", "image_weights"),
        ("next_sentence_labels", "text_weights"),
    ):
        if labels in validation:  # its last batches are padded
            validation[weights] = tf.TensorSpec(validation[labels].shape, tf.float32)
    steps.append(StepProgram("validate", trainer.test_step, validation))
    taught = [variable for network in teachers.values() for variable in network.variables]
    return Programs(steps, [*_variables(trainer), *taught], trainer)


def fine_tuning_programs(
    config: FineTuning, pretrained: Pretrained, num_classes: int, strategy: tf.distribute.Strategy
) -> Programs:
    """The programs of `keras_vitbert.fine_tuning.trials.run_trial`.

    Args:
        config: `steps` is set, and texts have one length.
        pretrained: what the trial begins with.
        num_classes: of the task.
        strategy: of the slice.
    """
    kind = config.kind
    trainer, _ = build_fine_tuner(config, pretrained, num_classes, config.seed, strategy)
    _as_on_devices(trainer)
    evaluator = Evaluator(trainer.network, strategy, config.evaluation_batch)
    replicas = strategy.num_replicas_in_sync

    def batch(size, mixed=False, layers=()):
        if kind == "images":
            return _image_batch(size, config.image_size, mixed, layers=layers)
        length = pretrained.fine_tuned_model(kind, config)["max_sequence_length"]
        return _text_batch(size, length) | {"labels": tf.TensorSpec((size,), tf.int32)}

    mixed = kind == "images" and config.value("images").in_pairs
    training = batch(config.batch // replicas, mixed, config.layers)
    evaluated = batch(evaluator.batch // replicas)
    evaluated["numbers"] = evaluated["labels"]
    steps = [
        StepProgram("train", trainer.train_step, training),
        StepProgram("evaluate", evaluator.predict_step, evaluated, trainer.network),
    ]
    return Programs(steps, _variables(trainer), trainer)


def _as_on_devices(trainer):
    """Makes a trainer trace the step of a GPU or a TPU, not that of this machine's CPU."""
    if keras.backend.backend() != "jax":  # its step is the same, except on GPUs
        trainer.as_on_gpu()


def _image_batch(size, image_size, mixed=False, prefix="", layers=()):
    """The specs of `size` images and labels.

    Mixed images are floats, each with a second label. With layers, each image has a number.
    """
    dtype = tf.float32 if mixed else tf.uint8
    specs = {
        "images": tf.TensorSpec((size, image_size, image_size, 3), dtype),
        f"{prefix}labels": tf.TensorSpec((size,), tf.int32),
    }
    if mixed:
        specs[f"{prefix}mix_labels"] = tf.TensorSpec((size,), tf.int32)
        specs[f"{prefix}mix_weights"] = tf.TensorSpec((size,), tf.float32)
    if layers:
        specs[f"{prefix}numbers"] = tf.TensorSpec((size, 2), tf.int32)
    return specs


def _text_batch(size, length):
    """The specs of `size` texts."""
    names = ("token_ids", "segment_ids", "padding_mask")
    return {name: tf.TensorSpec((size, length), tf.int32) for name in names}


def _masked_batch(size, predictions):
    """The additional specs of pre-training texts."""
    return {
        "masked_positions": tf.TensorSpec((size, predictions), tf.int32),
        "masked_ids": tf.TensorSpec((size, predictions), tf.int32),
        "masked_weights": tf.TensorSpec((size, predictions), tf.float32),
        "next_sentence_labels": tf.TensorSpec((size,), tf.int32),
    }


def _variables(trainer):
    state = [*trainer.state_variables.values(), trainer.optimizer.variables]
    return [variable for variables in state for variable in variables]
