"""The steps of a run as separate programs, without data: what each replica executes.

They are the same functions that `fit` and the evaluation run; `keras_vitbert.aot` compiles them,
and those of any Keras model or function.
"""

import dataclasses
import functools
import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings
from keras_vitbert.configs.pretraining import Pretraining
from keras_vitbert.experiments.fine_tuning.evaluation import Evaluator
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.trainer import build_fine_tuner
from keras_vitbert.experiments.pretraining.trainer import build_trainer
from keras_vitbert.model.classifier import classifiers_of
from keras_vitbert.model.pretraining_network import build_network
from keras_vitbert.training.base_trainer import BaseTrainer
from keras_vitbert.training.distillation import Teachers
from pipelines.command_line import one_line

_RETURNS = (
    "must return a compiled keras.Model, or a step, and a batch: arrays or tf.TensorSpec, all with "
    "as many examples in their first axis"
)


@dataclasses.dataclass(frozen=True)
class StepProgram:
    """What one replica executes in one step."""

    name: str  # train, mask update, probe, validate or evaluate
    step: Callable[[Any], Any]  # of a batch, for `strategy.run`
    batch: Any  # nested `tf.TensorSpec`, a replica's batch
    model: keras.Model | None = None  # whose weights a step reads that changes nothing


@dataclasses.dataclass(frozen=True)
class Programs:
    """The programs of a run."""

    steps: list[StepProgram]  # the training step first
    variables: list  # of Keras, those that are in memory whichever program runs
    batch: dict[str, int]  # `images`, `texts` or `examples` of a step over all replicas
    trainer: Any = None  # a `BaseTrainer`; None for other models
    text_length: int = 0  # tokens, padding included
    run_steps: int = 0  # of the run; 0 where they are not known

    def resident_bytes(self, share_of: Callable[[Any], Any] = lambda shape: shape) -> int:
        """Bytes of the variables on each replica, which holds `share_of` a variable's shape."""
        return sum(math.prod(share_of(v.shape)) * tf.as_dtype(v.dtype).size for v in self.variables)


def pretraining_programs(config: Pretraining, strategy: tf.distribute.Strategy) -> Programs:
    """The programs of a pre-training of the config's variant.

    Texts have the model's maximum length and the usual number of masked tokens.
    """
    model, variant, sizes = config.model, config.variant_spec, config.model.to_dict()
    teachers = {}
    if config.distillation.ratio > 0:
        with strategy.scope():
            if variant.images:
                teachers["image"] = build_network(sizes, text=False, dtype=config.dtype)
            if variant.text:
                teachers["text"] = build_network(sizes, images=False, dtype=config.dtype)
    trainer = build_trainer(config, strategy, Teachers(**teachers))
    _trace_as_on_devices(trainer)
    replicas = strategy.num_replicas_in_sync
    batch, training, validation = {}, {}, {}
    if variant.images:
        batch["images"] = config.image_batch_size
        size, views = config.image_batch_size // replicas, config.data.images
        training = _images(size, model.image_size, views.in_pairs, "image_", views.augmentations)
        validation = _images(size, model.image_size, prefix="image_")
        validation["image_weights"] = _numbers(size)  # the last batch is padded
    if variant.text:
        batch["texts"] = config.text_batch_size
        size, masking = config.text_batch_size // replicas, config.data.text.masking
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
    config: FineTuning,
    pretrained: Pretrained,
    num_classes: Sequence[int],
    strategy: tf.distribute.Strategy,
) -> Programs:
    """The programs of `experiments.fine_tuning.trials.run_trial`; texts have one length."""
    trainer, _ = build_fine_tuner(config, pretrained, num_classes, config.seed, strategy)
    _trace_as_on_devices(trainer)
    replicas, length, batch = strategy.num_replicas_in_sync, 0, {}
    classifiers = classifiers_of(trainer.network)
    training, evaluations = {}, []
    for section, settings in config.tasks.items():
        classifier = classifiers[settings.modality]
        evaluator = Evaluator(classifier, strategy, config.evaluation_batch)
        size, evaluated_size = settings.batch // replicas, evaluator.batch // replicas
        if isinstance(settings, ImageSettings):
            views, side = settings.images, settings.image_size
            training |= _images(size, side, views.in_pairs, "image_", views.augmentations)
            evaluated, name = _images(evaluated_size, side), "images"
        else:
            length, name = pretrained.max_length(settings), "texts"
            training |= {**_texts(size, length), "text_labels": _numbers(size, tf.int32)}
            evaluated = _texts(evaluated_size, length)
            evaluated["labels"] = _numbers(evaluated_size, tf.int32)
        evaluated["numbers"] = evaluated["labels"]
        batch[name] = settings.batch
        what = f"evaluate {section}".rstrip()
        evaluations.append(StepProgram(what, evaluator.predict_step, evaluated, classifier))
    steps = [StepProgram("train", trainer.train_step, training), *evaluations]
    return Programs(steps, _variables(trainer), batch, trainer, length, config.steps)


def _trace_as_on_devices(trainer: BaseTrainer) -> None:
    """Makes a trainer trace the step of a GPU or a TPU, not that of this machine's CPU."""
    if keras.backend.backend() != "jax":  # its step is the same, except on GPUs
        trainer.as_on_gpu()


def _numbers(size: int, dtype: tf.DType = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec((size,), dtype)


def _images(
    size: int, image_size: int, mixed: bool = False, prefix: str = "", layers: Sequence[Any] = ()
) -> dict[str, tf.TensorSpec]:
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


def _texts(size: int, length: int) -> dict[str, tf.TensorSpec]:
    """The specs of `size` texts."""
    names = ("token_ids", "segment_ids", "padding_mask")
    return {name: tf.TensorSpec((size, length), tf.int32) for name in names}


def _masks(size: int, predictions: int) -> dict[str, tf.TensorSpec]:
    """The additional specs of pre-training texts."""
    return {
        "masked_positions": tf.TensorSpec((size, predictions), tf.int32),
        "masked_ids": tf.TensorSpec((size, predictions), tf.int32),
        "masked_weights": tf.TensorSpec((size, predictions), tf.float32),
        "next_sentence_labels": _numbers(size, tf.int32),
    }


def _variables(trainer: BaseTrainer) -> list:
    state = [*trainer.state_variables.values(), trainer.optimizer.variables]
    return [variable for variables in state for variable in variables]


def own_programs(name: str, strategy: Any) -> Programs:
    """The programs of the user's own model or step: `module:function`.

    The function is called without arguments, under the strategy of the devices. It returns a pair.
    The first is a compiled `keras.Model`, whose `train_step` and `test_step` are the programs, or a
    step, a function of a replica's batch. The second is the batch of a step over all replicas, as
    `fit` takes it: nested arrays or `tf.TensorSpec`, whose first axis is that of the examples.
    """
    module, _, function = name.partition(":")
    try:
        build = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name}: {one_line(error)}; give MODULE:FUNCTION") from error
    with strategy.scope():
        made = build()
    if not isinstance(made, tuple) or len(made) != 2 or not callable(made[0]):
        raise ValueError(f"{name}: {_RETURNS}")
    made, batch = made
    sizes = {next(iter(getattr(x, "shape", ())), None) for x in tf.nest.flatten(batch)}
    examples, replicas = sizes.pop() if len(sizes) == 1 else None, strategy.num_replicas_in_sync
    is_compiled = not isinstance(made, keras.Model) or made.compiled
    if examples is None or not is_compiled:
        raise ValueError(f"{name}: {_RETURNS}")
    if examples % replicas:
        raise ValueError(f"{name}: {examples} examples do not divide over {replicas} replicas")
    share = tf.nest.map_structure(
        lambda x: tf.TensorSpec((examples // replicas, *x.shape[1:]), tf.as_dtype(x.dtype)), batch
    )
    if not isinstance(made, keras.Model):
        return Programs([StepProgram("train", made, share)], [], {"examples": examples})
    zeros = tf.nest.map_structure(lambda spec: tf.zeros(spec.shape, spec.dtype), share)
    made._maybe_symbolic_build(data_batch=zeros)  # its metrics are variables, too
    steps = [
        StepProgram("train", made.train_step, share),
        StepProgram("validate", made.test_step, share),
    ]
    variables = [*made.variables, *made.optimizer.variables, *made.metrics_variables]
    return Programs(steps, list({id(v): v for v in variables}.values()), {"examples": examples})
