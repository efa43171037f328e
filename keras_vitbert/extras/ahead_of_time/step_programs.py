"""The steps of a run as separate programs, without data: what each replica executes.

They are the same functions that `fit` and the evaluation run; `keras_vitbert.aot` compiles them.
"""

import functools

import keras
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, ImageTask
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.trials import build_fine_tuner
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.extras.ahead_of_time.programs import Programs, StepProgram
from keras_vitbert.model.pretraining_network import build_network
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
    batch, training, validation = {}, {}, {}
    if variant.images:
        batch["images"] = config.image_batch
        size, views = config.image_batch // replicas, config.data.images
        training = _images(size, model.image_size, views.in_pairs, "image_", views.layers)
        validation = _images(size, model.image_size, prefix="image_")
        validation["image_weights"] = _numbers(size)  # the last batch is padded
    if variant.text:
        batch["texts"] = config.text_batch
        size, masking = config.text_batch // replicas, config.data.text.masking
        predictions = round(masking.ratio * model.max_sequence_length)
        texts = _texts(size, model.max_sequence_length)
        texts |= _masks(size, min(masking.max_predictions, predictions))
        training |= texts
        validation |= {**texts, "text_weights": _numbers(size)}
    steps = [StepProgram("train", trainer.train_step, training)]
    if variant.images and variant.text:
        name = "mask update" if trainer.merge.mask else "probe"
        probing = functools.partial(trainer.train_step, probing=True)
        steps.append(StepProgram(name, probing, training))
    steps.append(StepProgram("validate", trainer.test_step, validation))
    taught = [variable for network in teachers.values() for variable in network.variables]
    variables = [*_variables(trainer), *taught]
    return Programs(steps, variables, batch, trainer, model.max_sequence_length, config.steps)


def fine_tuning_programs(
    config: FineTuning, pretrained: Pretrained, num_classes: int, strategy: tf.distribute.Strategy
) -> Programs:
    """The programs of `experiments.fine_tuning.trials.run_trial`; texts have one length."""
    trainer, _ = build_fine_tuner(config, pretrained, num_classes, config.seed, strategy)
    _as_on_devices(trainer)
    evaluator = Evaluator(trainer.network, strategy, config.evaluation_batch)
    replicas, length = strategy.num_replicas_in_sync, 0
    size, evaluated_size = config.batch // replicas, evaluator.batch // replicas
    if isinstance(config, ImageTask):
        views = config.images
        training = _images(size, config.image_size, views.in_pairs, "", views.layers)
        evaluated = _images(evaluated_size, config.image_size)
    else:
        length = pretrained.max_length(config)
        training = {**_texts(size, length), "labels": _numbers(size, tf.int32)}
        evaluated = _texts(evaluated_size, length)
        evaluated["labels"] = _numbers(evaluated_size, tf.int32)
    evaluated["numbers"] = evaluated["labels"]
    steps = [
        StepProgram("train", trainer.train_step, training),
        StepProgram("evaluate", evaluator.predict_step, evaluated, trainer.network),
    ]
    batch = {"texts" if length else "images": config.batch}
    return Programs(steps, _variables(trainer), batch, trainer, length, config.steps)


def _as_on_devices(trainer):
    """Makes a trainer trace the step of a GPU or a TPU, not that of this machine's CPU."""
    if keras.backend.backend() != "jax":  # its step is the same, except on GPUs
        trainer.as_on_gpu()


def _numbers(size, dtype=tf.float32):
    return tf.TensorSpec((size,), dtype)


def _images(size, image_size, mixed=False, prefix="", layers=()):
    """The specs of `size` images and labels.

    Mixed images are floats, each with a second label. With layers, each image has a number.
    """
    dtype = tf.float32 if mixed else tf.uint8
    specs = {
        "images": tf.TensorSpec((size, image_size, image_size, 3), dtype),
        f"{prefix}labels": _numbers(size, tf.int32),
    }
    if mixed:
        specs[f"{prefix}mix_labels"] = _numbers(size, tf.int32)
        specs[f"{prefix}mix_weights"] = _numbers(size)
    if layers:
        specs[f"{prefix}numbers"] = tf.TensorSpec((size, 2), tf.int32)
    return specs


def _texts(size, length):
    """The specs of `size` texts."""
    names = ("token_ids", "segment_ids", "padding_mask")
    return {name: tf.TensorSpec((size, length), tf.int32) for name in names}


def _masks(size, predictions):
    """The additional specs of pre-training texts."""
    return {
        "masked_positions": tf.TensorSpec((size, predictions), tf.int32),
        "masked_ids": tf.TensorSpec((size, predictions), tf.int32),
        "masked_weights": tf.TensorSpec((size, predictions), tf.float32),
        "next_sentence_labels": _numbers(size, tf.int32),
    }


def _variables(trainer):
    state = [*trainer.state_variables.values(), trainer.optimizer.variables]
    return [variable for variables in state for variable in variables]
