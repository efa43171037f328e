"""Fine-tunes on one task or two: a sweep over learning rates, runs over seeds, and a summary.

A run's folder holds

config.json, classes.txt, vocabulary.txt   what it was made with; where there are two tasks,
                                           classes.txt is of images, text_classes.txt of texts
trials/       one folder per trial, see `keras_vitbert.experiments.fine_tuning.trials`
results.csv   a line for each split of each finished trial
summary.json  the report of the last command that finished
"""

import csv
import dataclasses
import os
import statistics
from collections.abc import Collection
from typing import Any

import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, classes_file, dotted
from keras_vitbert.experiments.fine_tuning import report
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.measuring import evaluate_saved
from keras_vitbert.experiments.fine_tuning.predictions import of_section, predictions_file
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.recommended import Chosen
from keras_vitbert.experiments.fine_tuning.task_data import TaskData
from keras_vitbert.experiments.fine_tuning.trainer import image_layers_of
from keras_vitbert.experiments.fine_tuning.trial_evaluation import Examples
from keras_vitbert.experiments.fine_tuning.trials import Trial, run_trial
from keras_vitbert.runs.checkpoints import latest
from keras_vitbert.runs.damaged_records import reading_images
from keras_vitbert.runs.identity import FREE_OF_FINE_TUNING, Identity, experiment_dict
from keras_vitbert.runs.machine import Machine
from keras_vitbert.runs.overview import overview
from keras_vitbert.runs.provenance import data_digest
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held
from keras_vitbert.training.example_dropout import drops, generator_of
from pipelines.command_line import Diverged, say
from pipelines.files import check_output_file, check_writable, reading, write_atomically
from pipelines.status import counted, doing, duration
from pipelines.tasks.labelled_images import LabelledImages, require_batch
from pipelines.text_tables import csv_reader, csv_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningRun(Run):
    """A fine-tuning: trials over learning rates and seeds."""

    config: FineTuning
    data: dict[str, TaskData]  # by the section of the config that holds the task's settings
    inputs: Inputs
    pretrained: Pretrained
    # Whether the learning rate is picked from `config.grid`: on the data's `selection`, which may
    # be a split that is reported, too, else on training examples that are held out.
    sweep: bool = False
    seeds: int = 1  # how many trials are reported
    chosen: Collection[str] = ()  # fields that were chosen for these data
    given: Collection[str] = ()  # fields that somebody set
    predictions: str = ""  # a CSV file for the predictions of all examples

    @property
    def step(self) -> int:
        """The step of the last checkpoint of the trials; 0 without one."""
        trials = tf.io.gfile.glob(os.path.join(self.folder.path, "trials", "*", "checkpoints"))
        return max((latest(trial)[1] for trial in trials), default=0)

    @property
    def rate_from(self) -> str:
        """Where a learning rate comes from that no sweep picks."""
        field = "optimizer.learning_rate"
        if field in self.chosen:  # also where 0 is given, which asks for that
            return "chosen for these data"
        return "given" if field in self.given else "the task's own"

    def train(self, dry_run: bool = False) -> dict[str, Any]:
        """Fine-tunes, from the beginning or from where it stopped, and prints a report.

        Returns the content of `summary.json`. A `dry_run` stops after the same checks, writes
        nothing and returns an empty dict. `Diverged` and `Stopped`:
        see `pipelines.command_line`.
        """
        with self.workers.watched():
            summary = _fine_tune(self, dry_run)
        if summary:
            if self.predictions and self.workers.is_chief:
                for section in self.data:
                    collect(self.predictions, self.folder.path, summary, section)
            print(report.table(summary, self.folder.path))
        return summary

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Evaluates the model of the finished run again, see `evaluate_saved`."""
        inputs = dataclasses.replace(self.inputs, checkpoint=self.folder.path)
        return evaluate_saved(self.config, self.machine, inputs)


def open_fine_tuning(
    config: FineTuning,
    folder: str,
    machine: Machine,
    *,
    predictions: str = "",
    writes: bool = True,
    **named: Any,
) -> FineTuningRun:
    """Opens a run, new or to be resumed. Nothing is written.

    What the devices, the checkpoint and the data decide is resolved in the config. `named` are
    fields of `Inputs`, and further ones of `FineTuningRun`.
    """
    inputs = Inputs.pop_from(named)
    run_folder = RunFolder(folder, machine.workers.is_chief and writes)
    for section in config.tasks if predictions else ():
        check_output_file(of_section(predictions, section), inputs.paths(config.task_names), folder)
    config = config.for_devices(machine.devices)
    record = run_folder.record()
    with machine.workers.watched():
        pretrained, config = inputs.open_checkpoint(config)
        recorded = record and record["experiment"]
        chosen = Chosen(config, pretrained.model, recorded, machine.replicas)
        data = {}
        for section, settings in config.tasks.items():
            length = pretrained.max_length(settings)
            choose = chosen.choose_for_images if settings.kind == "images" else None
            data[section] = inputs.open_data(
                config, section, pretrained.vocabulary, length, choose=choose
            )
        counts: Any = [of_task.train.count for of_task in data.values()]
        if config.kind != "images":
            texts: Any = [*data.values()][-1].train
            mean = float(texts.lengths.mean())
            if config.kind == "text":
                chosen.choose_for_texts(counts[0], mean)
            else:
                chosen.choose_for_both(counts[0], counts[1], mean)
    return FineTuningRun(
        config=chosen.config,
        folder=run_folder,
        machine=machine,
        data=data,
        inputs=inputs,
        pretrained=pretrained,
        chosen=chosen.fields,
        predictions=predictions,
        **named,
    )


def _fine_tune(run: FineTuningRun, dry_run: bool) -> dict[str, Any]:
    config, folder = run.config, run.folder
    # Refuse bad settings first: the run's folder would record them.
    config.check_batch(run.replicas)
    if layers := image_layers_of(config, config.seed):
        layers.check()
    reported = {
        section: Examples(data.train, data.tests, data.classes)
        for section, data in run.data.items()
    }
    swept = {}
    for section, data in run.data.items() if run.sweep else ():
        rest, selection = data.split_for_sweep(config.validation_fraction)
        swept[section] = Examples(rest, {"selection": selection}, data.classes)
    is_new, evaluated = folder.record() is None, []
    for examples in [*reported.values(), *swept.values()]:
        # Its steps must divide into executions.
        config.with_values({"steps": config.steps_for(examples.train.count)})
        evaluated += examples.tests.values()
    for section, data in run.data.items():
        if isinstance(data.train, LabelledImages):
            settings = config.tasks[section]
            require_batch(data.train, settings.batch, settings.task)
    for split in evaluated if is_new else ():
        if isinstance(split, LabelledImages):
            _read_through(split, config.evaluation_batch)
    identity = _identity(run)
    if dry_run:
        if not is_new:
            identity.changes(folder)
        if "://" not in folder.path:  # a remote folder would be made
            check_writable(folder.path)
        print(overview(run))
        return {}
    folder.make()
    with held(folder.path, run.workers.is_chief):
        identity.begin(folder)
        print(overview(run))
        return _run_trials(run, swept, reported)


def _run_trials(
    run: FineTuningRun, of_sweep: dict[str, Examples], of_report: dict[str, Examples]
) -> dict[str, Any]:
    """Runs all trials, first those of a sweep if it has examples, and summarises them."""
    config, folder = run.config, run.folder
    count = run.seeds + (len(config.grid) if of_sweep else 0)
    done = []  # seconds of each trial

    def train_one(trial: Trial, examples: dict[str, Examples]) -> dict[str, Any]:
        about = f"rate {trial.learning_rate:g}, seed {trial.seed}"
        label = f"trial {len(done) + 1} of {count} ({about})"
        later = (count - len(done) - 1) * statistics.mean(done or [0.0])
        say(f"{config.task_names}: {label}" + (f", then {duration(later)} left" if later else ""))
        result = run_trial(run, trial, examples, label, later)
        done.append(result["seconds"])
        return result

    swept, rate, picked_on = [], config.optimizer.learning_rate, run.rate_from
    if of_sweep:
        for candidate in config.grid:
            swept.append(train_one(Trial("sweep", candidate, config.seed), of_sweep))
        rate = _best(swept, config)
        picked_on = ", ".join(
            f"{data.picked_on} split"
            if data.picked_on
            else f"{of_sweep[section].first.count} of the {data.train.count} training examples"
            for section, data in run.data.items()
        )
    reported = [
        train_one(Trial("seed", rate, config.seed + number), of_report)
        for number in range(run.seeds)
    ]
    summary = report.summarize(run, swept, reported) | {"learning_rate_picked_on": picked_on}
    if run.workers.is_chief:
        for section, settings in config.tasks.items():
            if settings.is_own:
                train, test = of_report[section].train, of_report[section].first
                with doing("fitting a linear model for comparison"), reading_images([train, test]):
                    linear = report.linear_baseline(train, test)
                of_task = report.of_task(summary, section)
                of_task["linear"] = report.compared_with_linear(of_task, linear)
        folder.write("results.csv", report.results_csv(folder.path))
        folder.finish(summary)
    run.workers.wait()
    return folder.summary() or {}


def _read_through(images: LabelledImages, batch: int) -> None:
    """Reads all images that will be evaluated, to find damaged ones before training."""
    with doing(f"reading {images.count:,} images to evaluate on"), reading_images([images]):
        for _ in counted(images.evaluation(batch), images.evaluation_batches(batch)):
            pass


def _identity(run: FineTuningRun) -> Identity:
    """What the run is made from."""
    pretrained, splits, classes = run.pretrained, {}, {}
    about: dict[str, Any] = {}
    for section, data in run.data.items():
        own = {"train": data.train, **data.tests}
        if data.selection is not None:
            own["selection"] = data.selection
        splits |= {dotted(section, name): split for name, split in own.items()}
        classes[classes_file(section)] = data.classes
        rows = getattr(data.train, "rows", None)
        if rows is not None and rows.sentence_columns:
            names = list(rows.sentence_columns)
            about["columns"] = {"sentences": names, "label": rows.label_column}
    about |= {
        "checkpoint": pretrained.name,
        "checkpoint_origin": pretrained.origin,
        "model": pretrained.fine_tuned_model(run.config),
        "records": {name: split.count for name, split in splits.items()},
    }
    digests = {name: data_digest(split) for name, split in splits.items()}
    return Identity(
        experiment_dict(run.config),
        {"checkpoint": pretrained.sha256, **digests},
        vocabulary=pretrained.vocabulary,
        classes=classes,
        free=FREE_OF_FINE_TUNING,
        accepted=run.accepted,
        about=about,
        replicas=run.replicas,
        dropout_generator=generator_of(run.strategy) if drops(run.config) else "",
    )


def _best(trials: list[dict[str, Any]], config: FineTuning) -> float:
    """The learning rate of the best trial; the smallest of equally good ones."""
    values = [
        (report.value_of(trial, config), -trial["learning_rate"])
        for trial in trials
        if not trial["diverged"]
    ]
    if not values:
        raise Diverged("all rates of grid; use smaller ones")
    return -max(values)[1]


def collect(path: str, output_dir: str, summary: dict[str, Any], section: str = "") -> None:
    """Writes the predictions of the reported trials into one CSV file, with a column `seed`."""
    name, path = predictions_file(section), of_section(path, section)
    rows = []
    for trial, seed in zip(summary["trials"], summary["seeds"], strict=True):
        with reading(os.path.join(output_dir, trial, name)) as (file, _):
            own = file.read().decode()
        rows += [{"seed": seed, **row} for row in csv_reader(own, csv.DictReader)]
    write_atomically(path, csv_text(rows))
