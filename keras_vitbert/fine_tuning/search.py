"""Fine-tunes on one task: a sweep over learning rates, runs over seeds, and a summary of them.

A run's folder holds

config.json, classes.txt, vocabulary.txt   what it was made with
trials/       one folder per trial, see `keras_vitbert.fine_tuning.trials`
results.csv   a line for each split of each finished trial
summary.json  the report of the last command that finished
"""

import dataclasses
import os
import statistics
from collections.abc import Collection

import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning
from keras_vitbert.fine_tuning import metrics, overview
from keras_vitbert.fine_tuning.linear_baseline import better_by, linear_baseline
from keras_vitbert.fine_tuning.prediction_files import collect
from keras_vitbert.fine_tuning.pretrained import Pretrained
from keras_vitbert.fine_tuning.recommended import Pictures
from keras_vitbert.fine_tuning.task_data import TaskData
from keras_vitbert.fine_tuning.tasks import Task
from keras_vitbert.fine_tuning.trainer import image_layers_of
from keras_vitbert.fine_tuning.trials import Trial, finished_result, run_trial
from keras_vitbert.runs.identity import FREE_OF_FINE_TUNING, Identity, experiment_dict
from keras_vitbert.runs.input_digests import data_digest
from keras_vitbert.runs.origin import accepted_lines
from keras_vitbert.runs.overview import table as table_of
from keras_vitbert.runs.progress import advice, shares_line, summed
from keras_vitbert.runs.record_errors import reading_images
from keras_vitbert.runs.run import Run
from keras_vitbert.runs.run_folder import RunFolder
from keras_vitbert.runs.run_lock import held, require_free
from keras_vitbert.training.example_dropout import drops, generator_of
from pipelines.command_line import Diverged, say
from pipelines.files import check_writable
from pipelines.status import counted, doing, duration
from pipelines.tasks.labelled_images import LabelledImages, require_batch
from pipelines.text_tables import csv_text

# Settings that make a run do something less often.
_RARER = {
    "validation": "a larger evaluation_interval, or 0,",
    "saving": "a larger checkpoint_interval",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuningRun(Run):
    """A fine-tuning: trials over learning rates and seeds."""

    config: FineTuning
    data: TaskData
    task: Task
    pretrained: Pretrained
    # Whether the learning rate is picked from `config.grid`: on the data's `selection`, which may
    # be a split that is reported, too, else on training examples that are held out.
    sweep: bool = False
    seeds: int = 1  # how many trials are reported
    chosen: Collection[str] = ()  # fields that were chosen for these data
    given: Collection[str] = ()  # fields that somebody set
    pictures: Pictures | None = None  # what was looked at to choose
    predictions: str = ""  # a CSV file for the predictions of all examples

    @property
    def rate_from(self) -> str:
        """Where a learning rate comes from that no sweep picks."""
        field = "optimizer.learning_rate"
        if field in self.chosen:  # also where 0 is given, which asks for that
            return "chosen for these data"
        return "given" if field in self.given else "the task's own"

    def train(self, dry_run: bool = False) -> dict:
        """Fine-tunes, from the beginning or from where it stopped.

        Args:
            dry_run: whether to stop after the same checks, without writing anything.

        Returns:
            The content of summary.json; empty for a dry run.

        Raises:
            ValueError, Diverged, Stopped: see `pipelines.command_line`.
        """
        with self.workers.watched():
            summary = _fine_tune(self, dry_run)
        if summary and self.predictions and self.workers.is_chief:
            collect(self.predictions, self.folder.path, summary)
        return summary


def _fine_tune(run, dry_run):
    config, folder, data, task = run.config, run.folder, run.data, run.task
    # Refuse bad settings first: the run's folder would record them.
    is_images = isinstance(data.train, LabelledImages)
    config.check_batch(run.replicas, is_images and config.images.in_pairs)
    if is_images:
        require_batch(data.train, config.batch, task.name)
        if layers := image_layers_of(config, config.seed):
            layers.check()
    rest = selection = None
    if run.sweep:
        rest, selection = data.without_selection(config.selection_part)
    for split in (data.train, rest):
        if split is not None:  # its steps must divide into executions
            config.with_values({"steps": config.steps_for(split.count)})
    identity, is_new = _identity(run), folder.record() is None
    if is_new:
        tests = [*data.tests.values(), *([selection] if run.sweep else [])]
        _read_through(tests, config.evaluation_batch)
    rows = overview.rows(run)
    if dry_run:
        require_free(folder.path)
        if not is_new:
            identity.changes(folder)
        if "://" not in folder.path:  # a remote folder would be made
            check_writable(folder.file(""))
        print(table_of(rows))
        return {}
    folder.make()
    with held(folder.path, run.workers.is_chief):
        identity.begin(folder)
        print(table_of(rows))
        return _trained(run, rest, selection)


def _trained(run, rest, selection):
    """Runs all trials, first those of a sweep if there is a `selection`, and summarises them."""
    config, folder, data, task = run.config, run.folder, run.data, run.task
    seeds = run.seeds
    count = seeds + (len(config.grid) if selection is not None else 0)
    done = []  # seconds of each trial

    def tried(trial, train, tests):
        about = f"rate {trial.learning_rate:g}, seed {trial.seed}"
        label = f"trial {len(done) + 1} of {count} ({about})"
        later = (count - len(done) - 1) * statistics.mean(done or [0.0])
        say(f"{task.name}: {label}" + (f", then {duration(later)} left" if later else ""))
        result = run_trial(run, trial, train, tests, label, later)
        done.append(result["seconds"])
        return result

    trials, rate, picked_on = [], config.optimizer.learning_rate, run.rate_from
    if selection is not None:
        for candidate in config.grid:
            trial = Trial("sweep", candidate, config.seed)
            trials.append(tried(trial, rest, {"selection": selection}))
        rate = _best(trials, config.metric)
        picked_on = (
            f"{data.picked_on} split"
            if data.selection is not None
            else f"{selection.count} of the {data.train.count} training examples"
        )
    reported = [
        tried(Trial("seed", rate, config.seed + number), data.train, data.tests)
        for number in range(seeds)
    ]
    summary = _summary(run, reported)
    summary |= {
        "learning_rate": rate,
        "learning_rate_picked_on": picked_on,
        "sweep": {
            f"{trial['learning_rate']:g}": _value(trial, "selection", config.metric)
            for trial in trials
        },
        "seconds": round(sum(trial["seconds"] for trial in [*trials, *reported]), 1),
        "time": summed([trial["time"] for trial in [*trials, *reported]]),
    }
    if run.workers.is_chief:
        if not task.tfds:  # the user's own data, of which nobody knows what is good
            with (
                doing("fitting a linear model for comparison"),
                reading_images([data.train, *data.tests.values()]),
            ):
                summary["linear"] = linear_baseline(data.train, data.tests[summary["split"]])
        folder.write("results.csv", csv_text(list(_rows(_finished_trials(folder.path)))))
        summary = folder.finish(summary)
    return summary


def table(summary):
    """Formats a summary as text.

    Args:
        summary: dict, of `fine_tune`.

    Returns:
        str.
    """
    metric = summary["metric"]
    lines = [
        f"{summary['task']} from {summary['checkpoint']}: {summary['steps']} steps, learning rate "
        f"{summary['learning_rate']:g} ({summary['learning_rate_picked_on']})"
    ]
    for rate, value in summary["sweep"].items():
        lines.append(f"  rate {rate:<8}" + ("diverged" if value is None else f"{value:.4f}"))
    count = len(summary["seeds"])
    lines.append(f"  {'split':<24}{'examples':>9}  {'metric':<9}{'median':>8}{'min':>8}{'max':>8}")
    for split, measures in summary["splits"].items():
        for name in dict.fromkeys((metric, *metrics.METRICS, *metrics.OF_PROBABILITIES)):
            three = measures[name]
            lines.append(
                f"  {split:<24}{measures['examples']:>9}  {name:<9}{three['median']:>8.4f}"
                f"{three['minimum']:>8.4f}{three['maximum']:>8.4f}"
            )
        lines.append(f"  {split:<24}{'':>9}  {'majority':<9}{measures['majority_accuracy']:>8.4f}")
        if split == summary["split"] and "linear" in summary:
            lines += [f"  {split:<24}{'':>9}  {line}" for line in _linear(summary)]
    lines.append(f"  over {count} seed{'s' if count > 1 else ''}")
    lines.append(f"  {shares_line(summary['time'])}")
    lines += [f"  {line}" for line in advice(summary["time"], _RARER)]
    lines += accepted_lines(summary)
    return "\n".join(lines)


def _linear(summary):
    """How a linear model does on the split that gives the result: list of str."""
    linear, measures = summary["linear"], summary["splits"][summary["split"]]
    text = f"{'linear':<9}{linear['accuracy']:>8.4f}  (ridge regression on {linear['inputs']}"
    if linear["training_examples"] < summary["training_examples"]:
        text += f" of {linear['training_examples']:,} training examples"
    better = better_by(linear["accuracy"], measures["accuracy"]["median"], measures["examples"])
    if better is None:
        return [f"{text})"]
    difference, error = better
    return [
        f"{text})",
        f"{'':<9}{difference:>8.4f} +- {error:.4f} better than the fine-tuned model",
    ]


def _read_through(splits, batch):
    """Reads all images that will be evaluated, to find damaged ones before training."""
    for split in splits:
        if isinstance(split, LabelledImages):
            with (
                doing(f"reading {split.count:,} images to evaluate on"),
                reading_images([split]),
            ):
                for _ in counted(split.evaluation(batch), split.evaluation_batches(batch)):
                    pass


def _identity(run):
    """What the run is made from: `Identity`."""
    pretrained, kind, data = run.pretrained, run.task.kind, run.data
    splits = {"train": data.train, **data.tests}
    if data.selection is not None:
        splits["selection"] = data.selection
    about = {
        "checkpoint": pretrained.name,
        "checkpoint_origin": pretrained.origin,
        "model": pretrained.fine_tuned_model(kind, run.config),
        "records": {name: split.count for name, split in splits.items()},
    }
    if kind == "text" and data.train.rows is not None and data.train.rows.sentence_columns:
        rows = data.train.rows
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


def _best(trials, metric):
    """The learning rate of the best trial; the smallest of equally good ones."""
    values = [
        (_value(trial, "selection", metric), -trial["learning_rate"])
        for trial in trials
        if not trial["diverged"]
    ]
    if not values:
        raise Diverged("all rates of grid; use smaller ones")
    return -max(values)[1]


def _value(trial, split, metric):
    return None if trial["diverged"] else trial["splits"][split][metric]


def _summary(run, reported):
    """What the reported trials have in common, and the spread of their results."""
    config, data = run.config, run.data
    splits = {}
    for split in data.tests:
        measures = [trial["splits"][split] for trial in reported]
        names = (*metrics.METRICS, *metrics.OF_PROBABILITIES)
        splits[split] = {
            "examples": measures[0]["examples"],
            "majority_accuracy": measures[0]["majority_accuracy"],
            **{name: _spread([m[name] for m in measures]) for name in names},
        }
    first = next(iter(data.tests))
    spread = splits[first][config.metric]
    values = spread["values"]
    # The run's model is that of the median; for an even number of seeds, of the lower median.
    middle = values.index(statistics.median_low(values))
    names = [Trial("seed", t["learning_rate"], t["seed"]).name for t in reported]
    return {
        "task": run.task.name,
        "checkpoint": run.pretrained.name,
        "checkpoint_step": run.pretrained.step,
        "checkpoint_origin": run.pretrained.origin,
        "transfer": reported[0]["transfer"],
        "metric": config.metric,
        "split": first,
        "value": spread["median"],
        "minimum": spread["minimum"],
        "maximum": spread["maximum"],
        "seeds": [trial["seed"] for trial in reported],
        "splits": splits,
        "classes": reported[middle]["classes"],  # of the run's model
        "steps": reported[0]["steps"],
        "batch": config.batch,
        "training_examples": data.train.count,
        "parameters": reported[0]["parameters"],
        "trained_parameters": reported[0]["trained_parameters"],
        "trials": [os.path.join("trials", name) for name in names],
        "model": os.path.join("trials", names[middle]),
    }


def _spread(values):
    return {
        "median": statistics.median(values),
        "minimum": min(values),
        "maximum": max(values),
        "values": values,
    }


def _finished_trials(output_dir):
    """The results of all trials in a folder, those of earlier commands included."""
    folder = os.path.join(output_dir, "trials")
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    found = (finished_result(RunFolder(os.path.join(folder, name))) for name in names)
    return sorted(
        filter(None, found),
        key=lambda trial: (trial["purpose"] != "sweep", trial["learning_rate"], trial["seed"]),
    )


def _rows(trials):
    """The rows of results.csv."""
    keys = ("purpose", "learning_rate", "seed", "steps", "seconds", "diverged")
    for trial in trials:
        base = {key: trial[key] for key in keys}
        for split, measures in (trial["splits"] or {"": {}}).items():
            yield {**base, "split": split, **measures}
