"""A trial: one training with one learning rate and one seed, and its result.

It has its own folder, `trials/NAME/`, and resumes where it stopped. `result.json` exists if and
only if it is finished.
"""

import dataclasses
import gc
import hashlib
import math
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, ImageSettings, JointTasks, dotted
from keras_vitbert.configs.optimizers import FineTuningOptimizer
from keras_vitbert.experiments.fine_tuning.evaluation import (
    Evaluator,
    Split,
    class_measures,
    logged,
)
from keras_vitbert.experiments.fine_tuning.predictions import (
    prediction_rows,
    predictions_file,
    write_pages,
)
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.recommended import with_intervals
from keras_vitbert.inspection.callbacks import MaskPictures
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.merging import MaskSchedule, get_merge
from keras_vitbert.model.classifier import Classifier, JointClassifier, classifiers_of
from keras_vitbert.model.flops import TRAINING, classified_text_flops, image_flops
from keras_vitbert.runs import divergence
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.image_layers import ImageLayers, image_layers
from keras_vitbert.training.optimizers import (
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    WeightAverages,
    averaged,
    with_rate,
)
from pipelines.command_line import Diverged, say
from pipelines.files import printable
from pipelines.joint_stream import joined
from pipelines.status import doing, times
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text_tables import csv_text


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training's purpose, learning rate and seed."""

    purpose: str  # `sweep` (to pick a learning rate) or `seed` (to report)
    learning_rate: float  # the peak
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.purpose}-rate-{self.learning_rate!r}-seed-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Examples:
    """The examples of a task in a trial."""

    train: Split
    tests: dict[str, Split]  # what is reported, by split
    classes: list[str]

    @property
    def first(self) -> Split:
        """The split that gives the result."""
        return next(iter(self.tests.values()))


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


def build_optimizer(
    config: FineTuningOptimizer, steps: int, network: Classifier | JointClassifier
) -> keras.optimizers.Optimizer:
    """Builds the optimiser of the trainable variables, with its schedule over all steps."""
    warmup_steps = min(round(config.warmup * steps), steps - 1)
    if config.schedule == "cosine":
        rate = WarmupCosineDecay(config.learning_rate, warmup_steps, steps)
    else:
        rate = WarmupPolynomialDecay(config.learning_rate, warmup_steps, steps, config.decay_power)
    optimizer = with_rate(config, rate, network.trainable_variables)
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


class TaskStream:
    """The training examples of a trial, for `keras_vitbert.runs.loop.fit`.

    A step takes one batch of each split; there is at most one of images and one of texts.
    """

    def __init__(self, splits: Sequence[Split], batches: Sequence[int], seed: int, steps: int):
        self._seed = seed
        self._images: list[tuple[LabelledImages, int]] = []
        self._texts: list[tuple[LabelledTexts, np.ndarray]] = []
        self.images_per_step = self.tokens_per_step = 0
        for split, batch in zip(splits, batches, strict=True):
            if isinstance(split, LabelledImages):
                self._images.append((split, batch))
                self.images_per_step = batch
            else:
                plan = split.training_plan(seed, steps, batch)
                self._texts.append((split, plan))
                self.tokens_per_step = round(split.batch_lengths(plan).mean() * batch)

    def training(self, step: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        """The endless batches from a step on."""
        streams = [
            images.training(self._seed, step, batch, context) for images, batch in self._images
        ]
        streams += [texts.training(plan, step, context) for texts, plan in self._texts]
        # A dataset that may end has no fixed shapes on replicas: its last batch may be smaller.
        return joined(streams).repeat()

    def batch_records(self, step: int) -> dict[str, list[str]]:
        """The examples of a step's batch: names of `images`, indices of `texts`."""
        records = {}
        for images, batch in self._images:
            names = images.store.names(self._seed, step * batch, batch)
            records["images"] = [printable(name) for name in names]
        for _, plan in self._texts:
            records["texts"] = [str(index) for index in plan[step]]
        return records


def run_trial(
    run: Any,
    trial: Trial,
    examples: dict[str, Examples],
    label: str = "",
    later: float = 0.0,
) -> dict[str, Any]:
    """Trains and evaluates, or reads the result of a finished trial.

    The examples are of the config's tasks, by their sections. The first of a task's splits `tests`
    is evaluated during training, too. A diverged trial of a sweep is a result, not an error.
    `later` are the seconds that the trials after it take.

    Returns:
        The content of result.json: `learning_rate`, `seed`, `steps`, `seconds`, `transfer`,
        `parameters`, `trained_parameters`, `diverged`, `divergences`, `splits`, by a split's name
        its `Predictions.measures`, and `classes`, by a split's name its `class_measures`. Of two
        tasks, the names of splits begin with the section.
    """
    workers = run.workers
    folder = RunFolder(os.path.join(run.folder.path, "trials", trial.name), workers.is_chief)
    known = folder.result()
    wanted = {dotted(section, split) for section in examples for split in examples[section].tests}
    if known and (known["diverged"] or wanted <= known["splits"].keys()):
        return known
    began = time.time() - float(folder.read("seconds.txt") or 0)  # until it was stopped
    before, own_began = times(), time.monotonic()
    if workers.is_chief:
        tf.io.gfile.makedirs(folder.checkpoints)
    config = run.config.with_values({"optimizer.learning_rate": trial.learning_rate})
    most = run.machine.devices.most_executed
    counts = [of_task.train.count for of_task in examples.values()]
    evaluated = [of_task.first.count for of_task in examples.values()]
    config = with_intervals(config, counts[0], evaluated, most)
    with doing("building the model"):
        trainer, transferred = build_fine_tuner(
            config,
            run.pretrained,
            [len(of_task.classes) for of_task in examples.values()],
            trial.seed,
            run.strategy,
        )
    network = trainer.network
    batches = [config.tasks[section].batch for section in examples]
    over = ", ".join(
        f"{passes(config.steps, batch, count)} passes over {count:,} examples"
        for batch, count in zip(batches, counts, strict=True)
    )
    say(f"{label}: {network.count_params():,} parameters, {config.steps} steps ({over})")
    result = {
        **dataclasses.asdict(trial),
        "steps": config.steps,
        "parameters": network.count_params(),
        "trained_parameters": sum(math.prod(v.shape) for v in network.trainable_variables),
        "transfer": transferred,
        "diverged": False,
        "splits": {},
    }
    classifiers = classifiers_of(network)
    tasks = [
        _Evaluated(
            section,
            of_task,
            Evaluator(
                classifiers[config.tasks[section].modality], run.strategy, config.evaluation_batch
            ),
        )
        for section, of_task in examples.items()
    ]
    splits = [of_task.train for of_task in examples.values()]
    stream = TaskStream(splits, batches, trial.seed, config.steps)
    about = {"task": config.task_names, "checkpoint": run.pretrained.name, "purpose": trial.purpose}
    before_log = [
        RunTexts(folder, about, config.with_values({"seed": trial.seed})),
        WeightAverages(config.steps),
        *_mask_callbacks(config, folder),
        _Evaluation(trainer, tasks, config),
    ]
    flops = None
    if not config.lora_rank:  # all weights are trained
        flops = TRAINING * _step_flops(config, classifiers, stream)
    try:
        with reading_images([*splits, *(split for task in tasks for split in task.tests.values())]):
            own = dataclasses.replace(run, config=config, folder=folder)
            result["resumed_from_step"] = fit(own, trainer, stream, before_log, label, flops, later)
            result["divergences"] = divergence.counts(trainer)
            # The last checkpoint is written: training need not be repeated if this fails.
            if result["resumed_from_step"] == config.steps:
                folder.logged_from = config.steps  # a killed process may have logged it
            result |= _evaluate(tasks, folder, trainer.step)
    except Diverged as error:
        if trial.purpose != "sweep":
            raise Diverged(
                f"seed {trial.seed} with learning rate {trial.learning_rate:g} ({error}); finished "
                "trials are kept: run again with a smaller optimizer.learning_rate or grid"
            ) from error
        result["diverged"] = True
    finally:
        seconds = round(time.time() - began, 1)
        folder.write("seconds.txt", f"{seconds}\n")
    result["seconds"] = seconds
    result["time"] = time_shares(before, own_began)
    finish_session(folder, succeeded=not result["diverged"])
    folder.write_json("result.json", result)
    if trial.purpose == "sweep" and workers.is_chief:  # only the result is needed
        tf.io.gfile.rmtree(folder.checkpoints)
    workers.wait()
    gc.collect()  # a Keras model is full of reference cycles
    return result


def _mask_callbacks(config: FineTuning, folder: RunFolder) -> list[keras.callbacks.Callback]:
    """Those that update and draw the masks, if the gradients of two tasks are masked."""
    if not (isinstance(config, JointTasks) and config.merge.has_masks):
        return []
    merge = config.merge
    schedule = merge.mask_update_interval, merge.mask_ratio, merge.mask_ratio_per_update
    return [MaskSchedule(*schedule), MaskPictures(folder)]


def _step_flops(
    config: FineTuning, classifiers: Mapping[str, Classifier], stream: TaskStream
) -> float:
    """The operations of a step's forward passes; texts have the mean length of all batches."""
    total = 0.0
    for settings in config.tasks.values():
        network: Any = classifiers[settings.modality]
        of_example = network.backbone, network.num_classes
        if settings.modality == "image":
            flops = image_flops(*of_example, settings.head)
        else:
            length = stream.tokens_per_step / settings.batch
            flops = classified_text_flops(*of_example, length, settings.head)
        total += settings.batch * flops
    return total


@dataclasses.dataclass(frozen=True)
class _Evaluated:
    """A task in a trial: its section in the config, its examples, and what evaluates them."""

    section: str
    examples: Examples
    evaluator: Evaluator

    @property
    def tests(self) -> dict[str, Split]:
        return self.examples.tests

    def columns(self, measures: dict[str, Any]) -> dict[str, float]:
        """The columns of metrics.csv."""
        prefix = f"val_{self.section}_" if self.section else "val_"
        return {prefix + name: value for name, value in logged(measures).items()}


class _Evaluation(keras.callbacks.Callback):
    """Evaluates the first split of each task at intervals, for the log.

    `_evaluate` adds the last evaluation.
    """

    def __init__(self, trainer: FineTuner, tasks: list[_Evaluated], config: FineTuning):
        super().__init__()
        self.trainer, self.tasks, self.config = trainer, tasks, config

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        interval, step = self.config.evaluation_interval, self.trainer.step
        if interval and step % interval == 0 and step < self.config.steps:
            with doing("validating", "validation"), averaged(self.trainer):
                for task in self.tasks:
                    answers = task.evaluator.predict(task.examples.first)
                    logs.update(task.columns(answers.measures()))


def _evaluate(tasks: list[_Evaluated], folder: RunFolder, step: int) -> dict[str, Any]:
    """Evaluates all splits for the trial's result; writes predictions, pages and the last row."""
    result: dict[str, Any] = {"splits": {}, "classes": {}}
    log: list[dict[str, Any]] = [*folder.rows(up_to_step=step)]
    for task in tasks:
        section, classes = task.section, task.examples.classes
        predictions = task.evaluator.predict_all(task.tests)
        text = csv_text(prediction_rows(predictions, task.tests, classes))
        digest = hashlib.sha256(text.encode()).hexdigest()
        result[dotted(section, "predictions_sha256")] = digest
        for number, (split, answers) in enumerate(predictions.items()):
            name, measures = dotted(section, split), answers.measures()
            result["splits"][name] = measures
            result["classes"][name] = class_measures(answers.confusion, classes)
            if number == 0:
                log[-1] |= task.columns(measures)
            with doing("drawing the confusion of classes", "drawing"):
                write_pages(folder, section, name, answers, classes, step, number == 0)
        folder.write(predictions_file(section), text)
    folder.write_rows(log)
    return result
