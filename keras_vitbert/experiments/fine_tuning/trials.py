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
from typing import Any

import keras
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.configs.optimizers import FineTuningOptimizer
from keras_vitbert.experiments.fine_tuning.evaluation import (
    Evaluator,
    Split,
    class_measures,
    logged,
)
from keras_vitbert.experiments.fine_tuning.predictions import FILE, prediction_rows, write_pages
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.recommended import with_intervals
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.model.classifier import Classifier
from keras_vitbert.model.flops import TRAINING, classifier_flops
from keras_vitbert.runs import divergence
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.image_layers import image_layers
from keras_vitbert.training.optimizers import (
    WarmupCosineDecay,
    WarmupPolynomialDecay,
    WeightAverages,
    averaged,
    with_rate,
)
from pipelines.command_line import Diverged, say
from pipelines.files import printable
from pipelines.status import doing, times
from pipelines.tasks.labelled_images import LabelledImages
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


def build_fine_tuner(
    config: FineTuning, pretrained: Pretrained, num_classes: int, seed: int, strategy: Any
) -> tuple[FineTuner, dict[str, str]]:
    """Builds and compiles a trainer; also returns what `Pretrained.classifier` did."""
    keras.utils.set_random_seed(seed)
    layers = None
    if config.kind == "images":
        size = config.value("image_size")
        layers = image_layers(config.augmentations, size, seed, "images.augmentations")
    with strategy.scope():
        classifier, transferred = pretrained.classifier(config, num_classes)
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
            jit_compile=config.jit_compile == "on",  # pyright: ignore[reportArgumentType]
            steps_per_execution=max(config.steps_per_execution, 1),  # `keras_vitbert.aot` has 0
        )
    return trainer, transferred


def build_optimizer(
    config: FineTuningOptimizer, steps: int, network: Classifier
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


def layer_depths(network: Classifier) -> list[int]:
    """The depth of each trainable variable, for its layer decay (Clark et al. 2020, ELECTRA).

    It is 0 for the embedding and its norm, 1 for the first block and so on, one more than the last
    block for the final norm and the head.
    """
    backbone = network.backbone
    depths = {id(variable): 0 for variable in network.embedding.trainable_variables}
    if backbone.embedding_norm is not None:
        depths |= {id(variable): 0 for variable in backbone.embedding_norm.variables}
    for depth, block in enumerate(backbone.blocks, 1):
        # All variables: the block's trainable variables leave out those of LoRA.
        depths |= {id(variable): depth for variable in block.variables}
    last = len(backbone.blocks) + 1
    return [depths.get(id(variable), last) for variable in network.trainable_variables]


class TaskStream:
    """The training examples of a trial, for `keras_vitbert.runs.loop.fit`."""

    def __init__(self, split: Split, seed: int, steps: int, batch: int):
        self._split, self._seed, self._batch = split, seed, batch
        self.images_per_step = self.tokens_per_step = 0
        if isinstance(split, LabelledImages):
            self.images_per_step = batch
        else:
            self._plan = split.training_plan(seed, steps, batch)
            self.tokens_per_step = round(split.batch_lengths(self._plan).mean() * batch)

    def training(self, step: int, context: tf.distribute.InputContext | None) -> tf.data.Dataset:
        """The endless batches from a step on."""
        if isinstance(self._split, LabelledImages):
            stream = self._split.training(self._seed, step, self._batch, context)
        else:
            stream = self._split.batches(self._plan, step, context)
        # A dataset that may end has no fixed shapes on replicas: its last batch may be smaller.
        return stream.repeat()

    def batch_records(self, step: int) -> dict[str, list[str]]:
        """The examples of a step's batch: names of `images`, or indices of `texts`."""
        if isinstance(self._split, LabelledImages):
            names = self._split.store.names(self._seed, step * self._batch, self._batch)
            return {"images": [printable(name) for name in names]}
        return {"texts": [str(index) for index in self._plan[step]]}


def run_trial(
    run: Any,
    trial: Trial,
    train: Split,
    tests: dict[str, Split],
    label: str = "",
    later: float = 0.0,
) -> dict[str, Any]:
    """Trains and evaluates, or reads the result of a finished trial.

    The first of the splits `tests` is evaluated during training, too. A diverged trial of a sweep
    is a result, not an error. `later` are the seconds that the trials after it take.

    Returns:
        The content of result.json: `learning_rate`, `seed`, `steps`, `seconds`, `transfer`,
        `parameters`, `trained_parameters`, `diverged`, `divergences`, `splits`, by a split's name
        its `Predictions.measures`, and `classes`, by a split's name its `class_measures`.
    """
    workers = run.workers
    folder = RunFolder(os.path.join(run.folder.path, "trials", trial.name), workers.is_chief)
    known = folder.result()
    if known and (known["diverged"] or tests.keys() <= known["splits"].keys()):
        return known
    began = time.time() - float(folder.read("seconds.txt") or 0)  # until it was stopped
    before, own_began = times(), time.monotonic()
    if workers.is_chief:
        tf.io.gfile.makedirs(folder.checkpoints)
    first = next(iter(tests.values()))
    config = run.config.with_values({"optimizer.learning_rate": trial.learning_rate})
    most = run.machine.devices.most_executed
    config = with_intervals(config, train.count, first.count, most)
    with doing("building the model"):
        trainer, transferred = build_fine_tuner(
            config, run.pretrained, len(run.data.classes), trial.seed, run.strategy
        )
    network = trainer.network
    say(
        f"{label}: {network.count_params():,} parameters, {config.steps} steps "
        f"({passes(config.steps, config.batch, train.count)} passes over {train.count:,} examples)"
    )
    result = {
        **dataclasses.asdict(trial),
        "steps": config.steps,
        "parameters": network.count_params(),
        "trained_parameters": sum(math.prod(v.shape) for v in network.trainable_variables),
        "transfer": transferred,
        "diverged": False,
        "splits": {},
    }
    evaluator = Evaluator(network, run.strategy, config.evaluation_batch)
    stream = TaskStream(train, trial.seed, config.steps, config.batch)
    about = {"task": config.task, "checkpoint": run.pretrained.name, "purpose": trial.purpose}
    before_log = [
        RunTexts(folder, about, config.with_values({"seed": trial.seed})),
        WeightAverages(config.steps),
        _Evaluation(trainer, evaluator, first, config),
    ]
    flops = None
    if not config.lora_rank:  # all weights are trained; texts have the mean length of all batches
        length = stream.tokens_per_step / config.batch
        classes: Any = network.num_classes
        flops = classifier_flops(network.backbone, classes, length, network.head_kind)
        flops *= TRAINING * config.batch
    try:
        with reading_images([train, *tests.values()]):
            own = dataclasses.replace(run, config=config, folder=folder)
            result["resumed_from_step"] = fit(own, trainer, stream, before_log, label, flops, later)
            result["divergences"] = divergence.counts(trainer)
            # The last checkpoint is written: training need not be repeated if this fails.
            if result["resumed_from_step"] == config.steps:
                folder.logged_from = config.steps  # a killed process may have logged it
            result |= _evaluate(evaluator, tests, run.data.classes, folder, trainer.step)
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


class _Evaluation(keras.callbacks.Callback):
    """Evaluates a split at intervals, for the log; `_evaluate` adds the last evaluation."""

    def __init__(self, trainer: FineTuner, evaluator: Evaluator, split: Split, config: FineTuning):
        super().__init__()
        self.trainer, self.evaluator, self.split, self.config = trainer, evaluator, split, config

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        interval, step = self.config.evaluation_interval, self.trainer.step
        if interval and step % interval == 0 and step < self.config.steps:
            with doing("validating", "validation"), averaged(self.trainer):
                logs.update(_columns(self.evaluator.predict(self.split).measures()))


def _columns(measures: dict[str, Any]) -> dict[str, float]:
    """The columns of metrics.csv."""
    return {f"val_{name}": value for name, value in logged(measures).items()}


def _evaluate(
    evaluator: Evaluator, tests: dict[str, Split], classes: list[str], folder: RunFolder, step: int
) -> dict[str, Any]:
    """Evaluates all splits for the trial's result; writes predictions, pages and the last row."""
    predictions = evaluator.predict_all(tests)
    results = {name: answers.measures() for name, answers in predictions.items()}
    text = csv_text(prediction_rows(predictions, tests, classes))
    if folder.writes:
        first = next(iter(results))
        with doing("drawing the confusion of classes", "drawing"):
            for name, answers in predictions.items():
                write_pages(folder, name, answers, classes, step, name == first)
        folder.write(FILE, text)
        log: list[dict[str, Any]] = [*folder.rows(up_to_step=step)]
        log[-1] |= _columns(results[first])
        folder.write_rows(log)
    return {
        "splits": results,
        "classes": {
            name: class_measures(answers.confusion, classes)
            for name, answers in predictions.items()
        },
        "predictions_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
