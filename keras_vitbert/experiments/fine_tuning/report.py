"""The report of a fine-tuning: its `summary.json`, `results.csv`, and what it prints.

For a user's own data, of which nobody knows what is good, it has a linear model on the inputs
themselves. That takes seconds and has seen no other data, so a pre-trained encoder that scores
below it has not paid off, however far it is above the majority class.
"""

import dataclasses
import math
import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_vitbert.configs.fine_tuning import FineTuning, dotted
from keras_vitbert.experiments.fine_tuning.evaluation import MEASURES, Split
from keras_vitbert.experiments.fine_tuning.length import TOO_EARLY
from keras_vitbert.experiments.fine_tuning.task_data import cut
from keras_vitbert.experiments.fine_tuning.trials import Trial
from keras_vitbert.runs.progress import shares_line, summed
from keras_vitbert.runs.provenance import accepted_lines
from keras_vitbert.runs.run_folder import RunFolder
from pipelines.images.image_views import ImageViews
from pipelines.tasks.labelled_images import LabelledImages
from pipelines.tasks.labelled_texts import LabelledTexts
from pipelines.text_tables import csv_text

_SIDE = 32  # pixels, so that the normal equations stay small
_MOST = {"pixels": 5_000, "TF-IDF": 20_000}  # training examples, for the same reason
_BATCH = 256


def summarize(run: Any, swept: list[dict], reported: list[dict]) -> dict[str, Any]:
    """The results of a `FineTuningRun`, from those of `run_trial` of each rate and of each seed.

    Those of a single task are entries of the summary, those of two are in `tasks`.
    """
    config = run.config
    tasks = {section: _summarize_task(run, section, reported) for section in run.data}
    values = [
        _value(trial, config, {s: task["split"] for s, task in tasks.items()}) for trial in reported
    ]
    # The run's model is that of the median; for an even number of seeds, of the lower median.
    middle = values.index(statistics.median_low(values))
    for section, task in tasks.items():
        names = task["splits"]
        task["classes"] = {n: reported[middle]["classes"][dotted(section, n)] for n in names}
    rate, seeds = reported[0]["learning_rate"], [trial["seed"] for trial in reported]
    folders = [os.path.join("trials", Trial("seed", rate, seed).name) for seed in seeds]
    every = [*swept, *reported]
    return {
        "task": config.task_names,
        "checkpoint": run.pretrained.name,
        "checkpoint_step": run.pretrained.step,
        "checkpoint_origin": run.pretrained.origin,
        "transfer": reported[0]["transfer"],
        "seeds": seeds,
        **(tasks[""] if "" in tasks else {"tasks": tasks, **_spread("value", values)}),
        "steps": reported[middle]["steps"],
        "most_steps": config.most_steps,
        "still_improves": any(trial["still_improves"] for trial in reported),
        "parameters": reported[0]["parameters"],
        "trained_parameters": reported[0]["trained_parameters"],
        "trials": folders,
        "model": folders[middle],
        "learning_rate": rate,
        "sweep": {f"{t['learning_rate']:g}": value_of(t, config) for t in swept},
        "seconds": round(sum(trial["seconds"] for trial in every), 1),
        "time": summed([trial["time"] for trial in every]),
    }


def _summarize_task(run: Any, section: str, reported: list[dict]) -> dict[str, Any]:
    """The results of the task in a section of the config."""
    settings, data, splits = run.config.tasks[section], run.data[section], {}
    for split in data.tests:
        measures = [trial["splits"][dotted(section, split)] for trial in reported]
        splits[split] = {name: measures[0][name] for name in ("examples", "majority_accuracy")}
        for name in MEASURES:
            values = [of_seed[name] for of_seed in measures]
            splits[split][name] = {**_spread("median", values), "values": values}
    first = next(iter(data.tests))
    values = splits[first][settings.metric]["values"]
    return {
        "metric": settings.metric,
        "split": first,
        **_spread("value", values),
        "splits": splits,
        "batch": settings.batch,
        "training_examples": data.train.count,
        "notices": [dataclasses.asdict(notice) for notice in data.notices],
    }


def _spread(median: str, values: list[float]) -> dict[str, float]:
    """The median, by a name, the minimum and the maximum of the seeds' values."""
    return {median: statistics.median(values), "minimum": min(values), "maximum": max(values)}


def _value(trial: dict[str, Any], config: FineTuning, splits: Mapping[str, str]) -> float:
    """What a trial is compared by: the metric, measured on a split of each task by its section.

    Of two tasks, the mean of the shares that the metrics take of what is left to 1 by the most
    common class, whose F1 and MCC count as 0.
    """
    values, shares = [], []
    for section, split in splits.items():
        metric, measures = config.tasks[section].metric, trial["splits"][dotted(section, split)]
        least = measures["majority_accuracy"] if metric == "accuracy" else 0.0
        values.append(measures[metric])
        shares.append((measures[metric] - least) / (1 - least) if least < 1 else 0.0)
    return values[0] if len(values) == 1 else statistics.mean(shares)


def value_of(trial: dict[str, Any], config: FineTuning) -> float | None:
    """What a trial of a sweep is picked by, see `_value`; None if it diverged."""
    if trial["diverged"]:
        return None
    return _value(trial, config, dict.fromkeys(config.tasks, "selection"))


def of_task(summary: dict[str, Any], section: str) -> dict[str, Any]:
    """The part of a summary that the task in a section of the config has to itself."""
    return summary["tasks"][section] if section else summary


def results_csv(output_dir: str) -> str:
    """A line for each split of each finished trial in a folder, those of earlier commands too."""
    folder = os.path.join(output_dir, "trials")
    trials = (os.path.join(folder, name.rstrip("/")) for name in tf.io.gfile.listdir(folder))
    results = [result for trial in trials if (result := RunFolder(trial).result())]
    results.sort(key=lambda r: (r["purpose"] != "sweep", r["learning_rate"], r["seed"]))
    keys = ("purpose", "learning_rate", "seed", "steps", "seconds", "diverged")
    return csv_text(
        [
            {**{key: result[key] for key in keys}, "split": split, **measures}
            for result in results
            for split, measures in (result["splits"] or {"": {}}).items()
        ]
    )


def table(summary: dict[str, Any], folder: str) -> str:
    """The content of `summary.json` as text, and where the run's files are."""
    count = len(summary["seeds"])
    lines = [
        f"{summary['task']} from {summary['checkpoint']}: {summary['steps']} steps, learning rate "
        f"{summary['learning_rate']:g} ({summary['learning_rate_picked_on']})"
    ]
    for rate, value in summary["sweep"].items():
        lines.append(f"  rate {rate:<8}" + ("diverged" if value is None else f"{value:.4f}"))
    lines.append(f"  {'split':<24}{'examples':>9}  {'metric':<9}{'median':>8}{'min':>8}{'max':>8}")
    for section, task in summary.get("tasks", {"": summary}).items():
        for split, measures in task["splits"].items():
            begin = f"  {dotted(section, split):<24}"
            for name in dict.fromkeys((task["metric"], *MEASURES)):
                three = measures[name]
                lines.append(
                    f"{begin}{measures['examples']:>9}  {name:<9}{three['median']:>8.4f}"
                    f"{three['minimum']:>8.4f}{three['maximum']:>8.4f}"
                )
            begin += f"{'':>9}  "
            lines.append(f"{begin}{'majority':<9}{measures['majority_accuracy']:>8.4f}")
            if split == task["split"] and "linear" in task:
                lines += [begin + x for x in _linear(task["linear"], task["training_examples"])]
    lines += [f"  over {count} seed{'s' if count > 1 else ''}", f"  {shares_line(summary['time'])}"]
    if summary["still_improves"]:
        lines.append("  " + TOO_EARLY.format(summary["most_steps"]))
    lines += accepted_lines(summary)
    lines.append(f"  details: {folder}/summary.json; tensorboard --logdir {folder}")
    return "\n".join(lines)


def _linear(linear: dict[str, Any], training_examples: int) -> list[str]:
    """How a linear model does on the split that gives the result."""
    text = f"{'linear':<9}{linear['accuracy']:>8.4f}  (ridge regression on {linear['inputs']}"
    if linear["training_examples"] < training_examples:
        text += f" of {linear['training_examples']:,} training examples"
    return [f"{text})", *filter(None, [linear["note"]])]


def compared_with_linear(task: dict[str, Any], linear: dict[str, Any]) -> dict[str, Any]:
    """The result of a linear model, with a `note` where it is ahead of a task's median accuracy."""
    measures = task["splits"][task["split"]]
    accuracies = linear["accuracy"], measures["accuracy"]["median"]
    if (better := accuracies[0] - accuracies[1]) <= 0:
        return {**linear, "note": ""}
    # As if the examples were independent.
    error = math.sqrt(sum(p * (1 - p) for p in accuracies) / measures["examples"])
    size = "more than" if better > error else "within"
    return {
        **linear,
        "note": f"a linear model is ahead by {better:.4f}, {size} an error of {error:.4f}",
    }


def linear_baseline(train: Split, test: Split) -> dict[str, Any]:
    """Ridge regression on `inputs`: `pixels`, or the `TF-IDF` of words and word pairs.

    Its `training_examples` are at most some thousand, drawn by `cut`; `accuracy` is on `test`.
    """
    inputs = "pixels" if isinstance(train, LabelledImages) else "TF-IDF"
    most = _MOST[inputs]
    if train.count > most:
        _, train = cut(train, most / train.count)
    both: Any = (train, test)
    accuracy = _on_pixels(*both) if inputs == "pixels" else _on_words(*both)
    return {"accuracy": accuracy, "inputs": inputs, "training_examples": train.count}


def _on_pixels(train: LabelledImages, test: LabelledImages) -> float:
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-1, 5, 7)))
    pixels, labels = (np.concatenate(part) for part in zip(*_pixels(train), strict=True))
    model.fit(pixels, labels)
    right = sum(int((model.predict(images) == classes).sum()) for images, classes in _pixels(test))
    return right / test.count


def _pixels(split: LabelledImages) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Flat images and labels, batch by batch: the same ones whatever a model takes."""
    views = ImageViews(_SIDE, central_crop=1.0)
    for batch in dataclasses.replace(split, views=views).evaluation(_BATCH):
        there = batch["weights"].numpy() > 0
        flat = batch["images"].numpy().reshape(len(there), -1)
        yield flat[there].astype(np.float64), batch["labels"].numpy()[there]


def _on_words(train: LabelledTexts, test: LabelledTexts) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import RidgeClassifier
    from sklearn.pipeline import make_pipeline

    # Every character but blanks counts: scikit-learn's own pattern drops "I", "a" and "!", and
    # fails on texts of nothing else.
    pattern = r"\w+|[^\w\s]"
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=pattern)
    model = make_pipeline(words, RidgeClassifier())
    model.fit(_texts(train), train.labels)
    return float(model.score(_texts(test), test.labels))


def _texts(split: LabelledTexts) -> Sequence[str]:
    rows: Any = split.rows
    first, second = rows.first, rows.second
    return first if second is None else [" ".join(p) for p in zip(first, second, strict=True)]
