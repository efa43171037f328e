"""The report of a fine-tuning: its `summary.json`, `results.csv`, and what it prints."""

import os
import statistics

import tensorflow as tf

from keras_vitbert.experiments.fine_tuning import metrics
from keras_vitbert.experiments.fine_tuning.linear_baseline import better_by
from keras_vitbert.experiments.fine_tuning.trials import Trial, finished_result
from keras_vitbert.runs.progress import shares_line, summed
from keras_vitbert.runs.provenance import accepted_lines
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.text_tables import csv_text

_MEASURES = (*metrics.METRICS, *metrics.OF_PROBABILITIES)


def summarised(run, swept, reported):
    """What the trials of a `FineTuningRun` have found: dict.

    Args:
        run: the run.
        swept, reported: results of `run_trial`: of each learning rate, of each seed.
    """
    config, data = run.config, run.data
    splits = {}
    for split in data.tests:
        measures = [trial["splits"][split] for trial in reported]
        splits[split] = {
            **{name: measures[0][name] for name in ("examples", "majority_accuracy")},
            **{name: _spread([m[name] for m in measures]) for name in _MEASURES},
        }
    first = next(iter(data.tests))
    spread = splits[first][config.metric]
    # The run's model is that of the median; for an even number of seeds, of the lower median.
    middle = spread["values"].index(statistics.median_low(spread["values"]))
    folders = [os.path.join("trials", Trial.of(trial).name) for trial in reported]
    every = [*swept, *reported]
    return {
        "task": config.task,
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
        "trials": folders,
        "model": folders[middle],
        "learning_rate": reported[0]["learning_rate"],
        "sweep": {f"{t['learning_rate']:g}": value_of(t, config.metric) for t in swept},
        "seconds": round(sum(trial["seconds"] for trial in every), 1),
        "time": summed([trial["time"] for trial in every]),
    }


def value_of(trial, metric):
    """What a trial of a sweep is picked by; None if it diverged."""
    return None if trial["diverged"] else trial["splits"]["selection"][metric]


def _spread(values):
    return {
        "median": statistics.median(values),
        "minimum": min(values),
        "maximum": max(values),
        "values": values,
    }


def results_csv(output_dir):
    """A line for each split of each finished trial in a folder, those of earlier commands too."""
    folder, results = os.path.join(output_dir, "trials"), []
    for name in tf.io.gfile.listdir(folder):
        result = finished_result(RunFolder(os.path.join(folder, name.rstrip("/"))))
        results += [result] if result else []
    results.sort(key=lambda r: (r["purpose"] != "sweep", r["learning_rate"], r["seed"]))
    keys = ("purpose", "learning_rate", "seed", "steps", "seconds", "diverged")
    return csv_text(
        [
            {**{key: result[key] for key in keys}, "split": split, **measures}
            for result in results
            for split, measures in (result["splits"] or {"": {}}).items()
        ]
    )


def table(summary, folder):
    """A summary as text: str.

    Args:
        summary: the content of `summary.json`.
        folder: str, the run's, whose files it names.
    """
    count, metric = len(summary["seeds"]), summary["metric"]
    lines = [
        f"{summary['task']} from {summary['checkpoint']}: {summary['steps']} steps, learning rate "
        f"{summary['learning_rate']:g} ({summary['learning_rate_picked_on']})"
    ]
    for rate, value in summary["sweep"].items():
        lines.append(f"  rate {rate:<8}" + ("diverged" if value is None else f"{value:.4f}"))
    lines.append(f"  {'split':<24}{'examples':>9}  {'metric':<9}{'median':>8}{'min':>8}{'max':>8}")
    for split, measures in summary["splits"].items():
        for name in dict.fromkeys((metric, *_MEASURES)):
            three = measures[name]
            lines.append(
                f"  {split:<24}{measures['examples']:>9}  {name:<9}{three['median']:>8.4f}"
                f"{three['minimum']:>8.4f}{three['maximum']:>8.4f}"
            )
        lines.append(f"  {split:<24}{'':>9}  {'majority':<9}{measures['majority_accuracy']:>8.4f}")
        if split == summary["split"] and "linear" in summary:
            lines += [f"  {split:<24}{'':>9}  {line}" for line in _linear(summary)]
    lines += [f"  over {count} seed{'s' if count > 1 else ''}", f"  {shares_line(summary['time'])}"]
    lines += accepted_lines(summary)
    lines.append(f"  details: {folder}/summary.json; tensorboard --logdir {folder}")
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
