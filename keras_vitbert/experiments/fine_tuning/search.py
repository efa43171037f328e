"""Fine-tunes on one task: a sweep over learning rates, runs over seeds, and a summary of them.

A run's folder holds

config.json, classes.txt, vocabulary.txt   what it was made with
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

from keras_vitbert.configs.fine_tuning import FineTuning, ImageTask
from keras_vitbert.experiments.fine_tuning import report
from keras_vitbert.experiments.fine_tuning.evaluation import Split
from keras_vitbert.experiments.fine_tuning.inputs import Inputs
from keras_vitbert.experiments.fine_tuning.measuring import evaluate_saved
from keras_vitbert.experiments.fine_tuning.predictions import FILE
from keras_vitbert.experiments.fine_tuning.pretrained import Pretrained
from keras_vitbert.experiments.fine_tuning.recommended import Chosen
from keras_vitbert.experiments.fine_tuning.task_data import TaskData
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
from keras_vitbert.training.image_layers import image_layers
from pipelines.command_line import Diverged, say
from pipelines.files import check_output_file, check_writable, reading, write_atomically
from pipelines.status import counted, doing, duration
from pipelines.tasks.labelled_images import LabelledImages, require_batch
from pipelines.text_tables import csv_reader, csv_text


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningRun(Run):
    """A fine-tuning: trials over learning rates and seeds."""

    config: FineTuning
    data: TaskData
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
                collect(self.predictions, self.folder.path, summary)
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
    if predictions:
        check_output_file(predictions, inputs.paths(config.task), folder)
    config = config.for_devices(machine.devices)
    record = run_folder.record()
    with machine.workers.watched():
        pretrained, config = inputs.open_checkpoint(config)
        recorded = record and record["experiment"]
        chosen = Chosen(config, pretrained.model, recorded, machine.replicas)
        length = pretrained.max_length(config)
        data = inputs.open_data(
            config, pretrained.vocabulary, length, choose=chosen.choose_for_images
        )
        if config.kind == "text":
            chosen.choose_for_texts(data.train.count)
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
    config, folder, data = run.config, run.folder, run.data
    # Refuse bad settings first: the run's folder would record them.
    config.check_batch(run.replicas)
    if isinstance(config, ImageTask) and isinstance(data.train, LabelledImages):
        require_batch(data.train, config.batch, config.task)
        layers = image_layers(
            config.augmentations, config.image_size, config.seed, "images.augmentations"
        )
        if layers is not None:
            layers.check()
    rest = selection = None
    if run.sweep:
        rest, selection = data.split_for_sweep(config.validation_fraction)
    for split in (data.train, rest):
        if split is not None:  # its steps must divide into executions
            config.with_values({"steps": config.steps_for(split.count)})
    identity, is_new = _identity(run), folder.record() is None
    if is_new and config.kind == "images":
        for split in [*data.tests.values(), *([selection] if run.sweep else [])]:
            _read_through(split, config.evaluation_batch)
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
        return _run_trials(run, rest, selection)


def _run_trials(run: FineTuningRun, rest: Split | None, selection: Split | None) -> dict[str, Any]:
    """Runs all trials, first those of a sweep if there is a `selection`, and summarises them."""
    config, folder, data = run.config, run.folder, run.data
    count = run.seeds + (len(config.grid) if selection is not None else 0)
    done = []  # seconds of each trial

    def train_one(trial: Trial, train: Split, tests: dict[str, Split]) -> dict[str, Any]:
        about = f"rate {trial.learning_rate:g}, seed {trial.seed}"
        label = f"trial {len(done) + 1} of {count} ({about})"
        later = (count - len(done) - 1) * statistics.mean(done or [0.0])
        say(f"{config.task}: {label}" + (f", then {duration(later)} left" if later else ""))
        result = run_trial(run, trial, train, tests, label, later)
        done.append(result["seconds"])
        return result

    swept, rate, picked_on = [], config.optimizer.learning_rate, run.rate_from
    if rest is not None and selection is not None:
        for candidate in config.grid:
            trial = Trial("sweep", candidate, config.seed)
            swept.append(train_one(trial, rest, {"selection": selection}))
        rate = _best(swept, config.metric)
        picked_on = f"{selection.count} of the {data.train.count} training examples"
        if data.picked_on:
            picked_on = f"{data.picked_on} split"
    reported = [
        train_one(Trial("seed", rate, config.seed + number), data.train, data.tests)
        for number in range(run.seeds)
    ]
    summary = report.summarize(run, swept, reported) | {"learning_rate_picked_on": picked_on}
    if run.workers.is_chief:
        if config.is_own:
            test = data.tests[summary["split"]]
            with doing("fitting a linear model for comparison"), reading_images([data.train, test]):
                summary["linear"] = report.linear_baseline(data.train, test)
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
    pretrained, data = run.pretrained, run.data
    splits = {"train": data.train, **data.tests}
    if data.selection is not None:
        splits["selection"] = data.selection
    about = {
        "checkpoint": pretrained.name,
        "checkpoint_origin": pretrained.origin,
        "model": pretrained.fine_tuned_model(run.config),
        "records": {name: split.count for name, split in splits.items()},
    }
    rows = getattr(data.train, "rows", None)
    if rows is not None and rows.sentence_columns:
        about["columns"] = {"sentences": list(rows.sentence_columns), "label": rows.label_column}
    digests = {name: data_digest(split) for name, split in splits.items()}
    return Identity(
        experiment_dict(run.config),
        {"checkpoint": pretrained.sha256, **digests},
        vocabulary=pretrained.vocabulary,
        classes=data.classes,
        free=FREE_OF_FINE_TUNING,
        accepted=run.accepted,
        about=about,
        replicas=run.replicas,
        dropout_generator=generator_of(run.strategy) if drops(run.config) else "",
    )


def _best(trials: list[dict[str, Any]], metric: str) -> float:
    """The learning rate of the best trial; the smallest of equally good ones."""
    values = [
        (report.value_of(trial, metric), -trial["learning_rate"])
        for trial in trials
        if not trial["diverged"]
    ]
    if not values:
        raise Diverged("all rates of grid; use smaller ones")
    return -max(values)[1]


def collect(path: str, output_dir: str, summary: dict[str, Any]) -> None:
    """Writes the predictions of the reported trials into one CSV file, with a column `seed`."""
    rows = []
    for trial, seed in zip(summary["trials"], summary["seeds"], strict=True):
        with reading(os.path.join(output_dir, trial, FILE)) as (file, _):
            own = file.read().decode()
        rows += [{"seed": seed, **row} for row in csv_reader(own, csv.DictReader)]
    write_atomically(path, csv_text(rows))
