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

import keras
import tensorflow as tf

from keras_vitbert.experiments.fine_tuning import evaluation, metrics, summaries
from keras_vitbert.experiments.fine_tuning.prediction_files import FILE, prediction_rows
from keras_vitbert.experiments.fine_tuning.recommended import with_intervals
from keras_vitbert.experiments.fine_tuning.trainer import build_fine_tuner, step_flops
from keras_vitbert.inspection.run_texts import RunTexts, finish_session
from keras_vitbert.runs import divergence
from keras_vitbert.runs.loop import fit
from keras_vitbert.runs.overview import passes
from keras_vitbert.runs.progress import time_shares
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.optimizers import WeightAverages, averaged
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

    @classmethod
    def of(cls, result):
        """The trial of a `result.json`."""
        return cls(*(result[field.name] for field in dataclasses.fields(cls)))

    @property
    def name(self):
        """The name of its folder."""
        return f"{self.purpose}-rate-{self.learning_rate!r}-seed-{self.seed}"


class TaskStream:
    """The training examples of a trial, for `keras_vitbert.runs.loop.fit`.

    Args:
        split: `LabelledImages` or `LabelledTexts`.
        seed, steps, batch: int.
    """

    def __init__(self, split, seed, steps, batch):
        self._split, self._seed, self._batch = split, seed, batch
        self.images_per_step = self.tokens_per_step = 0
        if isinstance(split, LabelledImages):
            self.images_per_step = batch
        else:
            self._plan = split.training_plan(seed, steps, batch)
            self.tokens_per_step = round(split.batch_lengths(self._plan).mean() * batch)

    def training(self, step, context):
        """The batches from a step on.

        Args:
            step: int.
            context: `tf.distribute.InputContext`, or None.

        Returns:
            endless `tf.data.Dataset`.
        """
        if self.images_per_step:
            stream = self._split.training(self._seed, step, self._batch, context)
        else:
            stream = self._split.batches(self._plan, step, context)
        # A dataset that may end has no fixed shapes on replicas: its last batch may be smaller.
        return stream.repeat()

    def batch_records(self, step):
        """The examples of a step's batch.

        Args:
            step: int.

        Returns:
            dict of `images` or `texts` to a list of str: names of images, indices of texts.
        """
        if self.images_per_step:
            names = self._split.store.names(self._seed, step * self._batch, self._batch)
            return {"images": [printable(name) for name in names]}
        return {"texts": [str(index) for index in self._plan[step]]}


def run_trial(run, trial, train, tests, label="", later=0.0):
    """Trains and evaluates, or reads the result of a finished trial.

    Args:
        run: `keras_vitbert.experiments.fine_tuning.search.FineTuningRun` that the trial belongs to.
        trial: `Trial`.
        train: the training split.
        tests: dict of a split's name to a split to evaluate.
        label: str, its name in progress reports.
        later: float, seconds that the trials after it take.

    Returns:
        dict, the content of result.json: `learning_rate`, `seed`, `steps`, `seconds`, `transfer`,
        `parameters`, `trained_parameters`, `diverged`, `divergences`, `splits`, a dict of a
        split's name to its `Predictions.measures`, and `classes`, a dict of a split's name to its
        `metrics.class_measures`.

    Raises:
        ValueError, Diverged, Stopped: see `pipelines.command_line`. A diverged trial of a sweep
            is a result, not an error.
    """
    workers, classes = run.workers, run.data.classes
    folder = RunFolder(os.path.join(run.folder.path, "trials", trial.name), workers.is_chief)
    known = finished_result(folder, tests)
    if known is not None:
        return known
    began = time.time() - _seconds(folder)
    before, own_began = times(), time.monotonic()
    if workers.is_chief:
        tf.io.gfile.makedirs(folder.checkpoints)
    first = next(iter(tests.values()))
    config = run.config.with_values({"optimizer.learning_rate": trial.learning_rate})
    most = run.machine.devices.most_executed
    config = with_intervals(config, train.count, first.count, most)
    with doing("building the model"):
        trainer, transferred = build_fine_tuner(
            config, run.pretrained, len(classes), trial.seed, run.strategy
        )
    say(
        f"{label}: {trainer.network.count_params():,} parameters, {config.steps} steps "
        f"({passes(config.steps, config.batch, train.count)} passes over {train.count:,} examples)"
    )
    evaluator = evaluation.Evaluator(trainer.network, run.strategy, config.evaluation_batch)
    watch = _Evaluation(evaluator, first, config)
    result = {
        **dataclasses.asdict(trial),
        "steps": config.steps,
        "parameters": trainer.network.count_params(),
        "trained_parameters": sum(
            math.prod(variable.shape) for variable in trainer.network.trainable_variables
        ),
        "transfer": transferred,
        "diverged": False,
        "splits": {},
    }
    try:
        with reading_images([train, *tests.values()]):
            stream = TaskStream(train, trial.seed, config.steps, config.batch)
            before_log = [_texts(run, trial, config, folder), WeightAverages(config.steps), watch]
            own = dataclasses.replace(run, config=config, folder=folder)
            flops = None if config.lora_rank else step_flops(trainer.network, stream, config.batch)
            result["resumed_from_step"] = fit(
                *(own, trainer, stream, before_log), label, flops, later
            )
            result["divergences"] = divergence.counts(trainer)
            # The last checkpoint is written: training need not be repeated if this fails.
            if result["resumed_from_step"] == config.steps:
                folder.logged_from = config.steps  # a killed process may have logged it
            result |= _evaluate(evaluator, tests, classes, folder, trainer.step)
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


def finished_result(folder, splits=()):
    """The result of a finished trial.

    Args:
        folder: `RunFolder` of the trial.
        splits: collection of str, the splits that it must have evaluated unless it diverged.

    Returns:
        dict, or None if the trial is not finished.

    Raises:
        ValueError: `result.json` is damaged, or belongs to another trial.
    """
    result = folder.result()
    if result is None:
        return None
    name, own = Trial.of(result).name, os.path.basename(folder.path)
    lacking = set() if result["diverged"] else set(splits) - result["splits"].keys()
    if name != own or lacking:
        what = f"lacks {', '.join(sorted(lacking))}" if lacking else f"is of {name}"
        raise ValueError(f"{folder.path}/result.json {what}; remove it to evaluate the trial again")
    return result


def _seconds(folder):
    """How long a trial had taken when it was stopped."""
    text = folder.read("seconds.txt") or "0"
    try:
        return float(text)
    except ValueError:
        raise ValueError(
            f"{folder.path}/seconds.txt is damaged ({text.strip()[:20]!r} is not a number); remove "
            "it"
        ) from None


class _Evaluation(keras.callbacks.Callback):
    """Evaluates a split at intervals, for the log; `_evaluate` adds the last evaluation."""

    def __init__(self, evaluator, split, config):
        super().__init__()
        self.evaluator, self.split, self.config = evaluator, split, config

    def on_epoch_end(self, epoch, logs=None):
        interval, step = self.config.evaluation_interval, self.model.step
        if interval and step % interval == 0 and step < self.config.steps:
            with doing("validating", "validation"), averaged(self.model):
                logs.update(_logged(self.evaluator.predict(self.split).measures()))


def _logged(measures):
    """The columns of metrics.csv."""
    return {f"val_{name}": value for name, value in summaries.logged(measures).items()}


def _texts(run, trial, config, folder):
    """The callback that writes the trial's settings and model for TensorBoard."""
    about = {
        "task": run.config.task,
        "checkpoint": run.pretrained.name,
        "purpose": trial.purpose,
    }
    shown = config.with_values({"seed": trial.seed})
    return RunTexts(folder, about, shown, summaries.COMPARED)


def _evaluate(evaluator, tests, classes, folder, step):
    """Evaluates all splits; writes predictions.csv, TensorBoard's summaries and the last log row.

    Returns:
        dict, entries of the trial's result.
    """
    predictions = evaluator.predict_all(tests)
    results = {name: found.measures() for name, found in predictions.items()}
    text = csv_text(prediction_rows(predictions, tests, classes))
    if folder.writes:
        first = next(iter(results))
        with doing("drawing the confusion of classes", "drawing"):
            for name, found in predictions.items():
                summaries.write_summaries(
                    folder, name, tests[name], found, classes, step, is_first=name == first
                )
        folder.write(FILE, text)
        log = folder.rows(up_to_step=step)
        if not log or int(log[-1]["step"]) != step:
            raise ValueError(
                f"{folder.path}/metrics.csv is damaged (it lacks step {step}); remove "
                f"{folder.checkpoints} to train again"
            )
        log[-1] |= _logged(results[first])
        folder.write_rows(log)
    return {
        "splits": results,
        "classes": {
            name: metrics.class_measures(found.confusion, classes)
            for name, found in predictions.items()
        },
        "predictions_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
