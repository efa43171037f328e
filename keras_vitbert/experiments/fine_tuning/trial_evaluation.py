"""Evaluates the tasks of a trial: at intervals for its log, and at the end for its result."""

import dataclasses
import hashlib
from typing import Any

import keras

from keras_vitbert.configs.fine_tuning import FineTuning, dotted
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
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.training.fine_tuner import FineTuner
from keras_vitbert.training.optimizers import averaged
from pipelines.status import doing
from pipelines.text_tables import csv_text


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


@dataclasses.dataclass(frozen=True)
class EvaluatedTask:
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


class Validation(keras.callbacks.Callback):
    """Evaluates the first split of each task at intervals, for the log.

    `evaluate` adds the last evaluation.
    """

    def __init__(self, trainer: FineTuner, tasks: list[EvaluatedTask], config: FineTuning):
        super().__init__()
        self.trainer, self.tasks, self.config = trainer, tasks, config

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        interval, step = self.config.evaluation_interval, self.trainer.step
        if interval and step % interval == 0 and step < self.config.steps:
            with doing("validating", "validation"), averaged(self.trainer):
                for task in self.tasks:
                    answers = task.evaluator.predict(task.examples.first)
                    logs.update(task.columns(answers.measures()))


def evaluate(tasks: list[EvaluatedTask], folder: RunFolder, step: int) -> dict[str, Any]:
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
